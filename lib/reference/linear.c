/*
 * Linear layers.
 *
 *   linear          y[i,o]   = b[o] + r[i,o] + sum_c x[i,c] w[o,c]       i: any number of leading dimensions
 *   batched_linear  y[n,g,o] = b[g,o] + sum_c x[n,g,c] w[g,o,c]          a matrix of its own for each g
 */
#include "reference/reference.h"

static encdiff_status run_linear(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 0)), c = ed_shape_last(ed_ref_shape(call, 0)),
            outputs = ed_ref_shape(call, 1)->dim[0];
    const float *x = call->in[0], *w = call->in[1], *b = call->in[2], *r = call->in[3];
    float *y = call->out[0];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t o = 0; o < outputs; o++)
            y[i * outputs + o] = (float)(ed_ref_dot(x + i * c, w + o * c, c) + (b ? b[o] : 0) +
                                         (r ? r[i * outputs + o] : 0));
    return ENCDIFF_OK;
}

/* dy w -> dx: dx[i,c] = sum_o dy[i,o] w[o,c] */
static encdiff_status run_grad_input(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 0)), outputs = ed_shape_last(ed_ref_shape(call, 0)),
            channels = ed_shape_last(ed_ref_out_shape(call, 0));
    const float *dy = call->in[0], *w = call->in[1];
    float *dx = call->out[0];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < channels; c++) {
            double sum = 0;
            for (int64_t o = 0; o < outputs; o++) sum += (double)dy[i * outputs + o] * w[o * channels + c];
            dx[i * channels + c] = (float)sum;
        }
    return ENCDIFF_OK;
}

/* x dy dw+= db+=?: dw[o,c] += sum_i dy[i,o] x[i,c], db[o] += sum_i dy[i,o] */
static encdiff_status run_grad_weight(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 0)), channels = ed_shape_last(ed_ref_shape(call, 0)),
            outputs = ed_shape_last(ed_ref_shape(call, 1));
    const float *x = call->in[0], *dy = call->in[1];
    float *dw = call->in[2], *db = call->in[3];
    for (int64_t o = 0; o < outputs; o++) {
        for (int64_t c = 0; c < channels; c++) {
            double sum = 0;
            for (int64_t i = 0; i < rows; i++) sum += (double)dy[i * outputs + o] * x[i * channels + c];
            dw[o * channels + c] += (float)sum;
        }
        double sum = 0;
        for (int64_t i = 0; i < rows; i++) sum += dy[i * outputs + o];
        if (db) db[o] += (float)sum;
    }
    return ENCDIFF_OK;
}

static encdiff_status run_batched(const ed_call *call)
{
    const ed_shape *shape = ed_ref_shape(call, 0);
    int64_t n = shape->dim[0], groups = shape->dim[1], c = shape->dim[2], outputs = ed_ref_shape(call, 1)->dim[1];
    const float *x = call->in[0], *w = call->in[1], *b = call->in[2];
    float *y = call->out[0];
    for (int64_t i = 0; i < n; i++)
        for (int64_t g = 0; g < groups; g++)
            for (int64_t o = 0; o < outputs; o++)
                y[(i * groups + g) * outputs + o] =
                    (float)(b[g * outputs + o] + ed_ref_dot(x + (i * groups + g) * c, w + (g * outputs + o) * c, c));
    return ENCDIFF_OK;
}

/* dy[n,g,o] w[g,o,c] -> dx[n,g,c] */
static encdiff_status run_batched_grad_input(const ed_call *call)
{
    const ed_shape *shape = ed_ref_shape(call, 1);
    int64_t n = ed_ref_shape(call, 0)->dim[0], groups = shape->dim[0], outputs = shape->dim[1],
            channels = shape->dim[2];
    const float *dy = call->in[0], *w = call->in[1];
    float *dx = call->out[0];
    for (int64_t i = 0; i < n; i++)
        for (int64_t g = 0; g < groups; g++)
            for (int64_t c = 0; c < channels; c++) {
                double sum = 0;
                for (int64_t o = 0; o < outputs; o++)
                    sum += (double)dy[(i * groups + g) * outputs + o] * w[(g * outputs + o) * channels + c];
                dx[(i * groups + g) * channels + c] = (float)sum;
            }
    return ENCDIFF_OK;
}

/* x[n,g,c] dy[n,g,o] dw[g,o,c]+= db[g,o]+= */
static encdiff_status run_batched_grad_weight(const ed_call *call)
{
    const ed_shape *shape = ed_ref_shape(call, 0);
    int64_t n = shape->dim[0], groups = shape->dim[1], channels = shape->dim[2],
            outputs = ed_ref_shape(call, 1)->dim[2];
    const float *x = call->in[0], *dy = call->in[1];
    float *dw = call->in[2], *db = call->in[3];
    for (int64_t g = 0; g < groups; g++)
        for (int64_t o = 0; o < outputs; o++) {
            for (int64_t c = 0; c < channels; c++) {
                double sum = 0;
                for (int64_t i = 0; i < n; i++)
                    sum += (double)dy[(i * groups + g) * outputs + o] * x[(i * groups + g) * channels + c];
                dw[(g * outputs + o) * channels + c] += (float)sum;
            }
            double sum = 0;
            for (int64_t i = 0; i < n; i++) sum += dy[(i * groups + g) * outputs + o];
            if (db) db[g * outputs + o] += (float)sum;
        }
    return ENCDIFF_OK;
}

const ed_kernel ed_ref_linear = {.run = run_linear};
const ed_kernel ed_ref_linear_grad_input = {.run = run_grad_input};
const ed_kernel ed_ref_linear_grad_weight = {.run = run_grad_weight};
const ed_kernel ed_ref_batched_linear = {.run = run_batched};
const ed_kernel ed_ref_batched_linear_grad_input = {.run = run_batched_grad_input};
const ed_kernel ed_ref_batched_linear_grad_weight = {.run = run_batched_grad_weight};
