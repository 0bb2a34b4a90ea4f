/* Operators that move items: nearest upsampling and its adjoint, maximum pooling, concatenation, slices. */
#include "reference/reference.h"

/* Index of pixel (n, row, column) of an image [n,h,w,c]. */
static int64_t pixel(const ed_shape *s, int64_t n, int64_t row, int64_t column)
{
    return ((n * s->dim[1] + row) * s->dim[2] + column) * s->dim[3];
}

/* y[n,p,q,c] = alpha x[n, p / f, q / f, c] */
static encdiff_status run_upsample(const ed_call *call)
{
    const ed_shape *in = ed_ref_shape(call, 0), *out = ed_ref_out_shape(call, 0);
    int64_t f = call->node->attr.resample.factor;
    const float *x = call->in[0];
    float *y = call->out[0], alpha = call->node->attr.resample.alpha;
    for (int64_t n = 0; n < out->dim[0]; n++)
        for (int64_t p = 0; p < out->dim[1]; p++)
            for (int64_t q = 0; q < out->dim[2]; q++)
                for (int64_t c = 0; c < out->dim[3]; c++)
                    y[pixel(out, n, p, q) + c] = alpha * x[pixel(in, n, p / f, q / f) + c];
    return ENCDIFF_OK;
}

/* y[n,p,q,c] = alpha sum_{i,j < f} x[n, p f + i, q f + j, c] */
static encdiff_status run_pool(const ed_call *call)
{
    const ed_shape *in = ed_ref_shape(call, 0), *out = ed_ref_out_shape(call, 0);
    int64_t f = call->node->attr.resample.factor;
    const float *x = call->in[0];
    float *y = call->out[0], alpha = call->node->attr.resample.alpha;
    for (int64_t n = 0; n < out->dim[0]; n++)
        for (int64_t p = 0; p < out->dim[1]; p++)
            for (int64_t q = 0; q < out->dim[2]; q++)
                for (int64_t c = 0; c < out->dim[3]; c++) {
                    double sum = 0;
                    for (int64_t i = 0; i < f * f; i++) sum += x[pixel(in, n, p * f + i / f, q * f + i % f) + c];
                    y[pixel(out, n, p, q) + c] = (float)(alpha * sum);
                }
    return ENCDIFF_OK;
}

/* The first maximum of the 2x2 window at (p, q), as an index into x. */
static int64_t first_maximum(const ed_shape *in, const float *x, int64_t n, int64_t p, int64_t q, int64_t c)
{
    int64_t best = pixel(in, n, 2 * p, 2 * q) + c;
    for (int64_t i = 1; i < 4; i++) {
        int64_t at = pixel(in, n, 2 * p + i / 2, 2 * q + i % 2) + c;
        if (x[at] > x[best]) best = at;
    }
    return best;
}

static encdiff_status run_max_pool(const ed_call *call)
{
    const ed_shape *in = ed_ref_shape(call, 0), *out = ed_ref_out_shape(call, 0);
    const float *x = call->in[0];
    float *y = call->out[0];
    for (int64_t n = 0; n < out->dim[0]; n++)
        for (int64_t p = 0; p < out->dim[1]; p++)
            for (int64_t q = 0; q < out->dim[2]; q++)
                for (int64_t c = 0; c < out->dim[3]; c++)
                    y[pixel(out, n, p, q) + c] = x[first_maximum(in, x, n, p, q, c)];
    return ENCDIFF_OK;
}

/* x y dy -> dx */
static encdiff_status run_max_pool_grad(const ed_call *call)
{
    const ed_shape *in = ed_ref_shape(call, 0), *out = ed_ref_shape(call, 2);
    const float *x = call->in[0], *dy = call->in[2];
    float *dx = call->out[0];
    memset(dx, 0, (size_t)ed_shape_count(in) * sizeof *dx);
    for (int64_t n = 0; n < out->dim[0]; n++)
        for (int64_t p = 0; p < out->dim[1]; p++)
            for (int64_t q = 0; q < out->dim[2]; q++)
                for (int64_t c = 0; c < out->dim[3]; c++)
                    dx[first_maximum(in, x, n, p, q, c)] = dy[pixel(out, n, p, q) + c];
    return ENCDIFF_OK;
}

/* y[n,p,q,c]: the largest or the mean over the pixels (p stride - pad + i, q stride - pad + j), i, j < size, that exist
 */
static encdiff_status run_window_pool(const ed_call *call)
{
    const ed_shape *in = ed_ref_shape(call, 0), *out = ed_ref_out_shape(call, 0);
    int64_t size = call->node->attr.window.size, stride = call->node->attr.window.stride,
            pad = call->node->attr.window.pad;
    bool mean = call->node->attr.window.kind == ED_WINDOW_MEAN;
    const float *x = call->in[0];
    float *y = call->out[0];
    for (int64_t i = 0; i < ed_shape_count(out); i++) {
        int64_t c = i % out->dim[3], q = i / out->dim[3] % out->dim[2], p = i / out->dim[3] / out->dim[2];
        int64_t n = p / out->dim[1], row = p % out->dim[1] * stride - pad, column = q * stride - pad, count = 0;
        double sum = 0, largest = 0;
        for (int64_t k = 0; k < size * size; k++) {
            int64_t r = row + k / size, s = column + k % size;
            if (r < 0 || r >= in->dim[1] || s < 0 || s >= in->dim[2]) continue;
            double v = x[pixel(in, n, r, s) + c];
            largest = count++ && largest >= v ? largest : v;
            sum += v;
        }
        y[i] = (float)(mean ? sum / (double)count : largest);
    }
    return ENCDIFF_OK;
}

static encdiff_status run_concat(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 0)), c1 = ed_shape_last(ed_ref_shape(call, 0)),
            c2 = ed_shape_last(ed_ref_shape(call, 1));
    const float *a = call->in[0], *b = call->in[1];
    float *y = call->out[0];
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < c1 + c2; c++) y[row * (c1 + c2) + c] = c < c1 ? a[row * c1 + c] : b[row * c2 + c - c1];
    return ENCDIFF_OK;
}

static encdiff_status run_slice(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_ref_shape(call, 0)), channels = ed_shape_last(ed_ref_shape(call, 0)),
            from = call->node->attr.slice.from, kept = ed_shape_last(ed_ref_out_shape(call, 0));
    const float *x = call->in[0];
    float *y = call->out[0];
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < kept; c++) y[row * kept + c] = x[row * channels + from + c];
    return ENCDIFF_OK;
}

const ed_kernel ed_ref_upsample = {.run = run_upsample};
const ed_kernel ed_ref_pool = {.run = run_pool};
const ed_kernel ed_ref_max_pool = {.run = run_max_pool};
const ed_kernel ed_ref_max_pool_grad = {.run = run_max_pool_grad};
const ed_kernel ed_ref_window_pool = {.run = run_window_pool};
const ed_kernel ed_ref_concat = {.run = run_concat};
const ed_kernel ed_ref_slice = {.run = run_slice};
