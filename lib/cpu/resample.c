/*
 * Changes of resolution, channels-last: nearest upsampling and sum pooling by an integer factor, each times alpha
 * (each is the other's gradient; average pooling is alpha = 1 / factor^2), 2x2 max pooling with its gradient, and the
 * pooling of feature extractors, whose windows overlap and leave out padding.
 */
#include "cpu/kernel.h"

/* x[n,h,w,c] -> y[n,fh,fw,c]: a row is widened once and copied f - 1 times. */
static encdiff_status run_upsample(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t rows = shape->dim[0] * shape->dim[1], w = shape->dim[2], c = shape->dim[3];
    int64_t f = call->node->attr.resample.factor, wide = f * w * c;
    float alpha = call->node->attr.resample.alpha;
    ed_range part = ed_call_range(call, rows, 1);
    for (int64_t i = part.first; i < part.last; i++) {
        ed_item *y = OUT(0) + i * f * wide;
        for (int64_t p = 0; p < f * w; p++) {
            const ed_item *restrict from = IN(0) + (i * w + p / f) * c;
            ed_item *restrict to = y + p * c;
            for (int64_t j = 0; j < c; j++) ed_put(to + j, alpha * ed_get(from + j));
        }
        for (int64_t k = 1; k < f; k++) memcpy(y + k * wide, y, (size_t)wide * sizeof *y);
    }
    return ENCDIFF_OK;
}

/* One pixel of pooling: the sum of the f x f pixels from x on, whose rows are `stride` apart. */
ED_INLINE void pool_pixel(const ed_item *restrict x, int64_t stride, ed_item *restrict y, int64_t c, int64_t f,
                          float alpha)
{
    for (int64_t j = 0; j < c; j++) {
        float sum = ed_get(x + j);
        for (int64_t k = 1; k < f * f; k++) sum += ed_get(x + k / f * stride + k % f * c + j);
        ed_put(y + j, sum * alpha);
    }
}

ED_INLINE void pool_pixel_2(const ed_item *restrict x, int64_t stride, ed_item *restrict y, int64_t c, float alpha)
{
    const ed_item *restrict below = x + stride;
    for (int64_t j = 0; j < c; j++)
        ed_put(y + j, (ed_get(x + j) + ed_get(x + c + j) + (ed_get(below + j) + ed_get(below + c + j))) * alpha);
}

static encdiff_status run_pool(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t f = call->node->attr.resample.factor, c = shape->dim[3], stride = shape->dim[2] * c;
    int64_t rows = shape->dim[0] * shape->dim[1] / f, w = shape->dim[2] / f;
    float alpha = call->node->attr.resample.alpha;
    ed_range part = ed_call_range(call, rows, 1);
    for (int64_t i = part.first; i < part.last; i++)
        for (int64_t p = 0; p < w; p++) {
            const ed_item *from = IN(0) + i * f * stride + p * f * c;
            ed_item *to = OUT(0) + (i * w + p) * c;
            if (f == 2)
                pool_pixel_2(from, stride, to, c, alpha);
            else
                pool_pixel(from, stride, to, c, f, alpha);
        }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- max pooling */

ED_INLINE float larger(float a, float b) { return a < b ? b : a; }

static encdiff_status run_max_pool(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = shape->dim[0], h = shape->dim[1], w = shape->dim[2], c = shape->dim[3];
    ed_range part = ed_call_range(call, n * (h / 2), 1);
    ed_item *restrict y = OUT(0) + part.first * (w / 2) * c;
    for (int64_t i = part.first; i < part.last; i++)
        for (int64_t p = 0; p < w / 2; p++, y += c) {
            int64_t row = i / (h / 2) * h + i % (h / 2) * 2;
            const ed_item *restrict x = IN(0) + (row * w + 2 * p) * c, *restrict below = x + w * c;
            for (int64_t j = 0; j < c; j++)
                ed_put(y + j, larger(larger(ed_get(x + j), ed_get(x + c + j)),
                                     larger(ed_get(below + j), ed_get(below + c + j))));
        }
    return ENCDIFF_OK;
}

/* The first of the window, in the order of memory, that equals the maximum gets the gradient. */
ED_INLINE void max_pool_grad_pixel(const ed_item *restrict x, const ed_item *restrict y, const ed_item *restrict dy,
                                   ed_item *restrict dx, int64_t stride, int64_t c)
{
    const int64_t at[4] = {0, c, stride, stride + c};
    for (int64_t j = 0; j < c; j++) {
        float left = ed_get(dy + j);
        for (int k = 0; k < 4; k++) {
            bool here = ed_get(x + at[k] + j) == ed_get(y + j);
            ed_put(dx + at[k] + j, here ? left : 0);
            left = here ? 0 : left;
        }
    }
}

static encdiff_status run_max_pool_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = shape->dim[0], h = shape->dim[1], w = shape->dim[2], c = shape->dim[3], pixel = 0;
    if (h % 2 || w % 2) memset(OUT(0), 0, (size_t)(n * h * w * c) * sizeof(ed_item)); /* what the windows leave out */
    for (int64_t i = 0; i < n; i++)
        for (int64_t row = 0; row < h / 2; row++)
            for (int64_t p = 0; p < w / 2; p++, pixel++) {
                int64_t at = ((i * h + 2 * row) * w + 2 * p) * c;
                max_pool_grad_pixel(IN(0) + at, IN(1) + pixel * c, IN(2) + pixel * c, OUT(0) + at, w * c, c);
            }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- windows that overlap; f32 alone */

#ifndef ED_CPU_BF16 /* feature extractors are f32 */

/* One pixel of the output: rows x columns pixels of the image from x on, whose rows are `stride` apart. */
ED_INLINE void window_pixel(const float *restrict x, int64_t stride, int64_t rows, int64_t columns, int64_t c,
                            bool mean, float *restrict y)
{
    float share = 1.0f / (float)(rows * columns);
    for (int64_t j = 0; j < c; j++) y[j] = x[j];
    for (int64_t k = 1; k < rows * columns; k++) {
        const float *restrict from = x + k / columns * stride + k % columns * c;
        if (mean)
            for (int64_t j = 0; j < c; j++) y[j] += from[j];
        else
            for (int64_t j = 0; j < c; j++) y[j] = larger(y[j], from[j]);
    }
    if (mean)
        for (int64_t j = 0; j < c; j++) y[j] *= share;
}

static encdiff_status run_window_pool(const ed_call *call)
{
    const ed_shape *in = ed_in_shape(call, 0), *out = &call->graph->values[call->node->out[0]].shape;
    int64_t size = call->node->attr.window.size, stride = call->node->attr.window.stride,
            pad = call->node->attr.window.pad;
    int64_t h = in->dim[1], w = in->dim[2], c = in->dim[3], oh = out->dim[1], ow = out->dim[2];
    bool mean = call->node->attr.window.kind == ED_WINDOW_MEAN;
    ed_range part = ed_call_range(call, out->dim[0] * oh, 1);
    for (int64_t i = part.first; i < part.last; i++)
        for (int64_t q = 0; q < ow; q++) {
            int64_t row = i % oh * stride - pad, column = q * stride - pad;
            int64_t top = ED_MAX(row, 0), left = ED_MAX(column, 0);
            int64_t rows = ED_MIN(row + size, h) - top, columns = ED_MIN(column + size, w) - left;
            window_pixel(IN_F32(0) + ((i / oh * h + top) * w + left) * c, w * c, rows, columns, c, mean,
                         OUT_F32(0) + (i * ow + q) * c);
        }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(window_pool) = {.run = run_window_pool, .parts = true};
#endif

const ed_kernel ED_CPU(upsample) = {.run = run_upsample, .parts = true};
const ed_kernel ED_CPU(pool) = {.run = run_pool, .parts = true};
const ed_kernel ED_CPU(max_pool) = {.run = run_max_pool, .parts = true};
const ed_kernel ED_CPU(max_pool_grad) = {.run = run_max_pool_grad};
