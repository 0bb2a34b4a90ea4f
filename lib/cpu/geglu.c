/*
 * GEGLU (Shazeer 2020): y = a gelu(g) with a = x[..., :c], g = x[..., c:] and the exact gelu(g) = g P(g), P the
 * standard normal distribution. x [rows, 2c], y [rows, c].
 *
 * Gradient: da = dy gelu(g), dg = dy a (P(g) + g p(g)), p the density.
 */
#include "cpu/kernel.h"

#define ONE_OVER_SQRT_2PI 0.398942280f

static encdiff_status run(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t rows = ed_shape_rows(shape), c = ed_shape_last(shape) / 2;
    for (int64_t i = 0; i < rows; i++) {
        const float *restrict a = IN(0) + i * 2 * c, *restrict g = a + c;
        float *restrict y = OUT(0) + i * c;
        for (int64_t j = 0; j < c; j++) {
            float density;
            y[j] = a[j] * g[j] * ed_normal_cdf(g[j], &density);
        }
    }
    return ENCDIFF_OK;
}

static encdiff_status run_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t rows = ed_shape_rows(shape), c = ed_shape_last(shape) / 2;
    for (int64_t i = 0; i < rows; i++) {
        const float *restrict a = IN(0) + i * 2 * c, *restrict g = a + c, *restrict dy = IN(1) + i * c;
        float *restrict da = OUT(0) + i * 2 * c, *restrict dg = da + c;
        for (int64_t j = 0; j < c; j++) {
            float density, p = ed_normal_cdf(g[j], &density);
            da[j] = dy[j] * g[j] * p;
            dg[j] = dy[j] * a[j] * (p + g[j] * density * ONE_OVER_SQRT_2PI);
        }
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(geglu) = {.run = run};
const ed_kernel ED_CPU(geglu_grad) = {.run = run_grad};
