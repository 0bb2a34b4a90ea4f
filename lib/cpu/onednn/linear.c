/*
 * Linear layers: y = x w^T + b + r, dx = dy w, dw += dy^T x, db += sum of dy. Also the innermost step of convolutions
 * (rows are patches) and of batched layers (rows are strided).
 */
#include "cpu/onednn/internal.h"

/* y = b + r, to which the product is added. */
static void preset(const ed_layer *l, const float *b, const float *r, float *restrict y)
{
    for (int64_t i = 0; i < l->rows; i++, y += l->ldy) {
        if (!r) {
            memcpy(y, b, (size_t)l->out * sizeof *y);
            continue;
        }
        if (b)
            for (int64_t j = 0; j < l->out; j++) y[j] = r[j] + b[j];
        else
            memcpy(y, r, (size_t)l->out * sizeof *y);
        r += l->ldy;
    }
}

encdiff_status ed_layer_forward(ed_env *env, const ed_layer *l, const float *x, const float *w, const float *b,
                                const float *r, float *y)
{
    if (b || r) preset(l, b, r, y);
    return ed_gemm(env, 'N', 'T', l->rows, l->out, l->in, x, l->ldx, w, l->in, b || r ? 1 : 0, y, l->ldy);
}

encdiff_status ed_layer_grad_input(ed_env *env, const ed_layer *l, const float *dy, const float *w, float *dx)
{
    return ed_gemm(env, 'N', 'N', l->rows, l->in, l->out, dy, l->ldy, w, l->in, 0, dx, l->ldx);
}

encdiff_status ed_layer_grad_weight(ed_env *env, const ed_layer *l, const float *x, const float *dy, float *dw)
{
    return ed_gemm(env, 'T', 'N', l->out, l->in, l->rows, dy, l->ldy, x, l->ldx, 1, dw, l->in);
}

/* Strips of columns, so that the sums stay in registers and the first cache; rows are summed in runs, so that the
 * rounding error grows with the length of a run and not with the batch. */
void ed_layer_grad_bias(const ed_layer *l, const float *dy, float *db)
{
    enum { STRIP = 64, RUN = 64 };
    for (int64_t j = 0; j < l->out; j += STRIP) {
        int64_t width = ED_MIN(l->out - j, STRIP);
        double total[STRIP] = {0};
        for (int64_t i = 0; i < l->rows; i += RUN) {
            float sum[STRIP] = {0};
            for (int64_t k = i; k < ED_MIN(i + RUN, l->rows); k++)
                for (int64_t q = 0; q < width; q++) sum[q] += dy[k * l->ldy + j + q];
            for (int64_t q = 0; q < width; q++) total[q] += sum[q];
        }
        for (int64_t q = 0; q < width; q++) db[j + q] += (float)total[q];
    }
}

/* ---------------------------------------------------------------- kernels */

static ed_layer describe(const ed_graph *graph, ed_value x, ed_value y)
{
    const ed_shape *xs = ed_graph_shape(graph, x), *ys = ed_graph_shape(graph, y);
    int64_t in = ed_shape_last(xs), out = ed_shape_last(ys);
    return (ed_layer){.rows = ed_shape_rows(xs), .in = in, .out = out, .ldx = in, .ldy = out};
}

/* x[...,c] w[o,c] b[o]? r[...,o]? -> y[...,o] */
static encdiff_status run_linear(const ed_call *call)
{
    ed_layer l = describe(call->graph, call->node->in[0], call->node->out[0]);
    return ed_layer_forward(call->env, &l, call->in[0], call->in[1], call->in[2], call->in[3], call->out[0]);
}

/* dy w -> dx */
static encdiff_status run_linear_grad_input(const ed_call *call)
{
    ed_layer l = describe(call->graph, call->node->out[0], call->node->in[0]);
    return ed_layer_grad_input(call->env, &l, call->in[0], call->in[1], call->out[0]);
}

/* x dy dw+= db+=? */
static encdiff_status run_linear_grad_weight(const ed_call *call)
{
    ed_layer l = describe(call->graph, call->node->in[0], call->node->in[1]);
    if (call->in[3]) ed_layer_grad_bias(&l, call->in[1], call->in[3]);
    return ed_layer_grad_weight(call->env, &l, call->in[0], call->in[1], call->in[2]);
}

const ed_kernel ed_cpu_linear = {.run = run_linear};
const ed_kernel ed_cpu_linear_grad_input = {.run = run_linear_grad_input};
const ed_kernel ed_cpu_linear_grad_weight = {.run = run_linear_grad_weight};
