/*
 * resize: 8-bit RGB pictures as Pillow's Image.resize() does: separable, antialiased when shrinking, coefficients in
 * fixed point with 22 bits, each pass rounded to 8 bits.
 */
#ifndef ED_IO_RESIZE_H
#define ED_IO_RESIZE_H

#include "io/io.h"

typedef enum ed_filter { ED_FILTER_BOX, ED_FILTER_BILINEAR, ED_FILTER_BICUBIC, ED_FILTER_LANCZOS } ed_filter;

/* The part [top, top + height) x [left, left + width) of a picture whose rows are `stride` pixels apart. */
typedef struct ed_window {
    const uint8_t *rgb;
    size_t stride;
    int top, left, height, width;
} ed_window;

/* Resize the window, as if it had been cut out first, to out[height][width][3]. */
encdiff_status ed_resize(ed_env *env, const ed_window *in, ed_filter filter, int height, int width, uint8_t *out);
/* The largest centred part of a picture with the proportions height : width. */
ed_window ed_crop_centre(const uint8_t *rgb, int in_height, int in_width, int height, int width);

#endif
