/* Pixels between u8 in 0..255 and f32 in [-1, 1]. */
#ifndef ED_IO_PIXELS_H
#define ED_IO_PIXELS_H

#include "io/io.h"

/* x / 127.5 - 1. */
void ed_pixels_to_f32(const uint8_t *in, size_t count, float *out);
/*
 * (x + 1) * 127.5, rounded to the nearest, halves away from zero, and clamped. `n` images of `count` values each;
 * ENCDIFF_ERROR_NUMERIC for NaN names the image, counted from `first`.
 */
encdiff_status ed_pixels_to_u8(ed_env *env, const float *in, int64_t n, size_t count, int64_t first, uint8_t *out);
/* One image [3][h][w] <-> [h][w][3]. */
void ed_pixels_interleave(const float *in, size_t pixels, float *out);
void ed_pixels_separate(const float *in, size_t pixels, float *out);

/* Grey in the last third of rgb[pixels][3] becomes all of it. */
void ed_pixels_spread_grey(uint8_t *rgb, size_t pixels);

#endif
