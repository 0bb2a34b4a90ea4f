/*
 * GEGLU (Shazeer 2020): y = a gelu(g) with a = x[..., :c], g = x[..., c:] and the exact gelu(g) = g P(g), P the
 * standard normal distribution. x [rows, 2c], y [rows, c].
 *
 * Gradient: da = dy gelu(g), dg = dy a (P(g) + g p(g)), p the density.
 */
#include "cpu/kernel.h"

#define ONE_OVER_SQRT_2PI 0.398942280f

ED_INLINE void forward_some(const ed_item *a, const ed_item *g, ed_item *y, int lanes)
{
    ed_vec gate = ed_load_some(g, lanes), density;
    ed_store_some(y, ed_load_some(a, lanes) * gate * ed_vnormal_cdf(gate, &density), lanes);
}

static encdiff_status run(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t c = ed_shape_last(shape) / 2;
    ed_range part = ed_part_of_rows(call);
    for (int64_t i = part.first; i < part.last; i++) {
        const ed_item *a = IN(0) + i * 2 * c, *g = a + c;
        ed_item *y = OUT(0) + i * c;
        int64_t j = 0;
        for (; j + ED_LANES <= c; j += ED_LANES) forward_some(a + j, g + j, y + j, ED_LANES);
        if (j < c) forward_some(a + j, g + j, y + j, (int)(c - j));
    }
    return ENCDIFF_OK;
}

ED_INLINE void backward_some(const ed_item *a, const ed_item *g, const ed_item *dy, ed_item *da, ed_item *dg, int lanes)
{
    ed_vec gate = ed_load_some(g, lanes), d = ed_load_some(dy, lanes), density;
    ed_vec p = ed_vnormal_cdf(gate, &density);
    ed_vec slope = p + gate * density * ONE_OVER_SQRT_2PI;
    ed_store_some(da, d * gate * p, lanes);
    ed_store_some(dg, d * ed_load_some(a, lanes) * slope, lanes);
}

static encdiff_status run_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t rows = ed_shape_rows(shape), c = ed_shape_last(shape) / 2;
    for (int64_t i = 0; i < rows; i++) {
        const ed_item *a = IN(0) + i * 2 * c, *g = a + c, *dy = IN(1) + i * c;
        ed_item *da = OUT(0) + i * 2 * c, *dg = da + c;
        int64_t j = 0;
        for (; j + ED_LANES <= c; j += ED_LANES) backward_some(a + j, g + j, dy + j, da + j, dg + j, ED_LANES);
        if (j < c) backward_some(a + j, g + j, dy + j, da + j, dg + j, (int)(c - j));
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(geglu) = {.run = run, .parts = true};
const ed_kernel ED_CPU(geglu_grad) = {.run = run_grad};
