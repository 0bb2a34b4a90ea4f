/*
 * layer_norm        y = xh gamma + beta,  xh = (x - mean)/std over the channels of a row      (Ba et al. 2016)
 * layer_norm_grad   with d = dy gamma:  dx = (d - mean(d) - xh mean(d xh)) / std + r
 *                   dgamma += sum over rows of dy xh,  dbeta += sum over rows of dy
 *
 * x, y, dy, r, dx (..., C); gamma, beta, dgamma, dbeta (C); stats (rows, 2): mean, 1/std. y =, stats =, dx =; r,
 * dgamma, dbeta may be absent. y may be x, dx may be dy.
 *
 * A row belongs to `width` neighbouring lanes, a power of two up to a warp, so that narrow rows fill warps too. Rows
 * are read again for each pass, from the first-level cache.
 */
#include "cuda/kernels/columns.h"
#include "cuda/kernels/reduce.h"

#define BLOCK 128

/* Lanes of a row. */
static int row_width(int64_t channels, int v) { return ed_power_above(channels / v, ED_WARP); }
static unsigned row_blocks(int64_t rows, int width) { return (unsigned)((rows * width + BLOCK - 1) / BLOCK); }

/* The row of this thread and its first channel; the thread takes every (width * V)-th from there. */
template <int V> struct row_place {
    int64_t row, first, step, end;
};

template <int V> __device__ static inline row_place<V> row_of(int64_t rows, int64_t channels, int width)
{
    row_place<V> at;
    at.row = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) / width;
    at.first = (int64_t)(threadIdx.x % width) * V;
    at.step = (int64_t)width * V;
    at.end = at.row < rows ? channels : 0; /* lanes beyond the last row only keep step */
    return at;
}

template <class T, int V>
__global__ void ED_THREADS(BLOCK) layer_norm_rows(const T *x, const float *gamma, const float *beta, T *y, float *stats,
                                                  int64_t rows, int64_t channels, int width, float eps)
{
    row_place<V> at = row_of<V>(rows, channels, width);
    const T *from = x + at.row * channels;
    float sum = 0, squares = 0, v[V];
    for (int64_t c = at.first; c < at.end; c += at.step) {
        ed_load_pack(from + c, v);
        for (int k = 0; k < V; k++) sum += v[k];
    }
    float mean = ed_sum_lanes(sum, width) / (float)channels;
    for (int64_t c = at.first; c < at.end; c += at.step) {
        ed_load_pack(from + c, v);
        for (int k = 0; k < V; k++) squares += (v[k] - mean) * (v[k] - mean);
    }
    float inverse = 1 / sqrtf(ed_sum_lanes(squares, width) / (float)channels + eps);
    for (int64_t c = at.first; c < at.end; c += at.step) {
        ed_load_pack(from + c, v);
        for (int k = 0; k < V; k++) v[k] = (v[k] - mean) * inverse * gamma[c + k] + beta[c + k];
        ed_store_pack(y + at.row * channels + c, v);
    }
    if (at.first > 0 || at.end == 0) return;
    stats[at.row * 2] = mean;
    stats[at.row * 2 + 1] = inverse;
}

template <class T, int V>
__global__ void ED_THREADS(BLOCK) layer_norm_grad_rows(const T *x, const float *gamma, const float *stats, const T *dy,
                                                       const T *r, T *dx, int64_t rows, int64_t channels, int width)
{
    row_place<V> at = row_of<V>(rows, channels, width);
    float mean = at.end ? stats[at.row * 2] : 0, inverse = at.end ? stats[at.row * 2 + 1] : 0, a = 0, b = 0;
    float xh[V], d[V];
    for (int64_t c = at.first; c < at.end; c += at.step) {
        ed_load_pack(x + at.row * channels + c, xh);
        ed_load_pack(dy + at.row * channels + c, d);
        for (int k = 0; k < V; k++) {
            a += d[k] * gamma[c + k];
            b += d[k] * gamma[c + k] * ((xh[k] - mean) * inverse);
        }
    }
    a = ed_sum_lanes(a, width) / (float)channels;
    b = ed_sum_lanes(b, width) / (float)channels;
    for (int64_t c = at.first; c < at.end; c += at.step) {
        int64_t i = at.row * channels + c;
        float rest[V] = {};
        ed_load_pack(x + i, xh);
        ed_load_pack(dy + i, d);
        if (r) ed_load_pack(r + i, rest);
        for (int k = 0; k < V; k++) d[k] = (d[k] * gamma[c + k] - a - (xh[k] - mean) * inverse * b) * inverse + rest[k];
        ed_store_pack(dx + i, d);
    }
}

/* -> part (chunks, 2, C): sums of dy xh, then of dy */
template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS)
    layer_norm_grad_sums(const T *x, const float *stats, const T *dy, ed_columns c, float *part)
{
    ed_place at = ed_column_place<V>(c);
    float sum[2 * V] = {};
    for (int64_t row = at.first; row < at.last && at.active; row += c.lines) {
        float xh[V], d[V], mean = stats[row * 2], inverse = stats[row * 2 + 1];
        ed_load_pack(x + row * c.channels + at.channel, xh);
        ed_load_pack(dy + row * c.channels + at.channel, d);
        for (int k = 0; k < V; k++) {
            sum[k] += d[k] * ((xh[k] - mean) * inverse);
            sum[V + k] += d[k];
        }
    }
    ed_sum_lines(sum);
    if (threadIdx.y > 0 || !at.active) return;
    float *to = part + at.chunk * 2 * c.channels + at.channel;
    for (int k = 0; k < V; k++) {
        to[k] = sum[k];
        to[c.channels + k] = sum[V + k];
    }
}

/* ---------------------------------------------------------------- launchers */

template <class T, int V> static encdiff_status launch(const ed_call *call)
{
    int64_t rows = ed_shape_rows(ed_in_shape(call, 0)), channels = ed_shape_last(ed_in_shape(call, 0));
    int width = row_width(channels, V);
    if (rows * channels == 0) return ENCDIFF_OK;
    return ED_LAUNCH(call, (layer_norm_rows<T, V>), row_blocks(rows, width), BLOCK, 0, ed_in<T>(call, 0),
                     ed_in<float>(call, 1), ed_in<float>(call, 2), ed_out<T>(call, 0), ed_out<float>(call, 1), rows,
                     channels, width, call->node->attr.layer_norm.eps);
}

static encdiff_status run(const ed_call *call)
{
    bool wide = ed_wide(ed_shape_last(ed_in_shape(call, 0)), call->in[0], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch, call);
}

static encdiff_status prepare_grad(ed_env *, const ed_graph *graph, const ed_node *node, size_t *scratch, void **)
{
    ed_columns c = ed_columns_of_rows(ed_graph_shape(graph, node->in[0]), 1);
    if (node->in[4] != ED_NONE || node->in[5] != ED_NONE) *scratch = ed_part_bytes(1, c.rows, c.channels, 2);
    return ENCDIFF_OK;
}

/* x gamma stats dy dgamma+=? dbeta+=? r? -> dx. The sums read dy before dx, which may be the same memory, is written.
 */
template <class T, int V> static encdiff_status launch_grad(const ed_call *call)
{
    ed_columns c = ed_columns_of_rows(ed_in_shape(call, 0), V);
    int width = row_width(c.channels, V);
    const T *x = ed_in<T>(call, 0), *dy = ed_in<T>(call, 3);
    const float *stats = ed_in<float>(call, 2);
    float *part = static_cast<float *>(call->scratch), *dgamma = ed_in<float>(call, 4), *dbeta = ed_in<float>(call, 5);
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    if (dgamma || dbeta) {
        ED_TRY(ED_LAUNCH(call, (layer_norm_grad_sums<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, x, stats, dy,
                         c, part));
        ED_TRY(ed_fold<float>(call, part, 1, c.chunks, 2 * c.channels, nullptr, dgamma, dbeta, c.channels));
    }
    return ED_LAUNCH(call, (layer_norm_grad_rows<T, V>), row_blocks(c.rows, width), BLOCK, 0, x, ed_in<float>(call, 1),
                     stats, dy, ed_in<T>(call, 6), ed_out<T>(call, 0), c.rows, c.channels, width);
}

static encdiff_status run_grad(const ed_call *call)
{
    bool wide = ed_wide(ed_shape_last(ed_in_shape(call, 0)), call->in[0], call->in[3], call->in[6], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch_grad, call);
}

ED_CUDA_KERNEL(layer_norm, nullptr, run);
ED_CUDA_KERNEL(layer_norm_grad, prepare_grad, run_grad);
