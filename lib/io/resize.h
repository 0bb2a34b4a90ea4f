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

/* One direction of a change of size: each output pixel is a weighted sum of neighbours. */
typedef struct ed_axis {
    int in, out;
    int room;       /* coefficients of an output pixel, at most */
    int *first;     /* [out], its first input pixel */
    int *count;     /* [out] */
    int32_t *taps;  /* [out][room] in fixed point */
    double *weight; /* [room], while they are made */
} ed_axis;

/* The coefficients of one change of size, for many pictures; one thread at a time. A zeroed one is empty. */
typedef struct ed_resizer {
    ed_filter filter;
    ed_axis across, down; /* without coefficients where the size is kept */
    uint8_t *between;     /* after the first of two passes */
} ed_resizer;

/* Make the coefficients, unless they are those already. A failure leaves an empty resizer. */
encdiff_status ed_resizer_prepare(ed_env *env, ed_resizer *resizer, int in_height, int in_width, ed_filter filter,
                                  int height, int width);
/* Resize a window of the size that was prepared for, as if it had been cut out first, to out[height][width][3]. */
void ed_resizer_run(const ed_resizer *resizer, const ed_window *in, uint8_t *out);
void ed_resizer_free(ed_env *env, ed_resizer *resizer);

/* The three at once: resize the window, as if it had been cut out first, to out[height][width][3]. */
encdiff_status ed_resize(ed_env *env, const ed_window *in, ed_filter filter, int height, int width, uint8_t *out);
/* The largest centred part of a picture with the proportions height : width. */
ed_window ed_crop_centre(const uint8_t *rgb, int in_height, int in_width, int height, int width);

#endif
