/*
 * The distance of one feature map in LPIPS (Zhang et al. 2018): x, y [n, h, w, c], w [c] -> d [n].
 *
 *   a = x / (|x| + e),  b = y / (|y| + e)  at every position, e = 1e-10;  d = mean over positions of sum_c w (a - b)^2
 *
 * Gradient for y, with g = 2 w (b - a) dd / positions and s = 1 / (|y| + e):  dy = g s - y (sum_c g y) s^2 / |y|.
 */
#include "cpu/kernel.h"

#define SMALL 1e-10f

ED_INLINE float square_norm(const float *x, int64_t c)
{
    ed_vec s = {0};
    int64_t j = 0;
    for (; j + ED_LANES <= c; j += ED_LANES) s += ed_load(x + j) * ed_load(x + j);
    if (j < c) {
        ed_vec v = ed_load_some(x + j, (int)(c - j));
        s += v * v;
    }
    return ed_sum_lanes(s);
}

ED_INLINE ed_vec weighed(const float *x, const float *y, const float *w, float a, float b, int lanes)
{
    ed_vec d = ed_load_some(x, lanes) * a - ed_load_some(y, lanes) * b;
    return ed_load_some(w, lanes) * d * d;
}

static float position_distance(const float *x, const float *y, const float *w, int64_t c)
{
    float a = 1 / (sqrtf(square_norm(x, c)) + SMALL), b = 1 / (sqrtf(square_norm(y, c)) + SMALL);
    ed_vec s = {0};
    int64_t j = 0;
    for (; j + ED_LANES <= c; j += ED_LANES) s += weighed(x + j, y + j, w + j, a, b, ED_LANES);
    if (j < c) s += weighed(x + j, y + j, w + j, a, b, (int)(c - j));
    return ed_sum_lanes(s);
}

static encdiff_status run(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = ed_images(shape), c = ed_shape_last(shape), positions = ed_per_image(shape) / c;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t p = i * positions; p < (i + 1) * positions; p++)
            sum += position_distance(IN(0) + p * c, IN(1) + p * c, IN(2), c);
        OUT(0)[i] = (float)(sum / (double)positions);
    }
    return ENCDIFF_OK;
}

/* g into dy; returns sum_c g y. */
ED_INLINE float unit_gradient(const float *x, const float *y, const float *w, float *dy, int64_t c, float a, float b,
                              float each)
{
    ed_vec s = {0};
    for (int64_t j = 0; j < c; j += ED_LANES) {
        int lanes = (int)ED_MIN(ED_LANES, c - j);
        ed_vec v = ed_load_some(y + j, lanes);
        ed_vec g = 2 * each * ed_load_some(w + j, lanes) * (v * b - ed_load_some(x + j, lanes) * a);
        s += g * v;
        ed_store_some(dy + j, g, lanes);
    }
    return ed_sum_lanes(s);
}

static void position_gradient(const float *x, const float *y, const float *w, float *dy, int64_t c, float each)
{
    float length = sqrtf(square_norm(y, c)), b = 1 / (length + SMALL), a = 1 / (sqrtf(square_norm(x, c)) + SMALL);
    float along = unit_gradient(x, y, w, dy, c, a, b, each);
    /* Where y is zero its direction has no derivative; the term counts as zero there. */
    float radial = length > 0 ? along * b * b / length : 0;
    ED_VECTORISE for (int64_t j = 0; j < c; j++) dy[j] = dy[j] * b - y[j] * radial;
}

static encdiff_status run_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = ed_images(shape), c = ed_shape_last(shape), positions = ed_per_image(shape) / c;
    for (int64_t p = 0; p < n * positions; p++) {
        float each = IN(3)[p / positions] / (float)positions;
        position_gradient(IN(0) + p * c, IN(1) + p * c, IN(2), OUT(0) + p * c, c, each);
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(lpips_distance) = {.run = run};
const ed_kernel ED_CPU(lpips_distance_grad) = {.run = run_grad};
