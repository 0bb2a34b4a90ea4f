/*
 * batch_norm   y = act((x - mean)/std * gamma + beta)      (Ioffe and Szegedy 2015)
 *
 * x, y (N, ..., C); all others (C). Training: mean and variance over all rows, and running += momentum * (s - running)
 * with the unbiased variance; otherwise the running ones are used. stats (2, C): mean, 1/std. y =, stats =,
 * running +=. y may be x.
 *
 * batch_norm_grad. With d = dy act'(xh gamma + beta), S1 = sum d xh, S0 = sum d over the R rows:
 *   dgamma += S1    dbeta += S0    dx = (d - S0/R - xh S1/R) gamma / std        dx may be dy
 *
 * One device is one rank: a run that divides the batch over several ranks is refused.
 */
#include "cuda/kernels/activate.h"
#include "cuda/kernels/moments.h"

#define WARPS 4 /* channels of a block */

/* ---------------------------------------------------------------- statistics */

/* part (chunks, 2, C) -> stats, running_mean, running_var */
static __global__ void ED_THREADS(WARPS *ED_WARP)
    batch_norm_unite(const float *part, ed_columns c, float eps, float momentum, float *stats, float *running_mean,
                     float *running_var)
{
    int64_t channel = (int64_t)blockIdx.x * WARPS + threadIdx.x / ED_WARP;
    ed_moments sum = {0, 0, 0};
    for (int64_t i = threadIdx.x % ED_WARP; i < c.chunks && channel < c.channels; i += ED_WARP)
        sum = ed_unite(sum, ed_part_moments(part, c, 0, i, channel));
    sum = ed_unite_lanes(sum);
    if (threadIdx.x % ED_WARP > 0 || channel >= c.channels) return;
    stats[channel] = sum.mean;
    stats[c.channels + channel] = 1 / sqrtf(sum.squares / sum.count + eps);
    float unbiased = sum.squares / (sum.count > 1 ? sum.count - 1 : 1);
    running_mean[channel] += momentum * (sum.mean - running_mean[channel]);
    running_var[channel] += momentum * (unbiased - running_var[channel]);
}

static __global__ void ED_THREADS(256)
    batch_norm_running(int64_t channels, float eps, const float *mean, const float *var, float *stats)
{
    int64_t channel = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= channels) return;
    stats[channel] = mean[channel];
    stats[channels + channel] = 1 / sqrtf(var[channel] + eps);
}

/* ---------------------------------------------------------------- maps and sums */

template <class T> struct batch_norm_operands {
    const T *x, *dy;
    const float *gamma, *beta, *stats;
    ed_activation activation;
    float slope;
};

template <int V> struct channels_of {
    float mean[V], inverse[V], gamma[V], beta[V];
};

template <class T, int V>
__device__ static inline channels_of<V> batch_norm_channels(const batch_norm_operands<T> &o, const ed_columns &c,
                                                            int64_t channel)
{
    channels_of<V> v;
    for (int k = 0; k < V; k++) {
        v.mean[k] = o.stats[channel + k];
        v.inverse[k] = o.stats[c.channels + channel + k];
        v.gamma[k] = o.gamma[channel + k];
        v.beta[k] = o.beta[channel + k];
    }
    return v;
}

template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS) batch_norm_map(batch_norm_operands<T> o, ed_columns c, T *y)
{
    ed_place at = ed_column_place<V>(c);
    if (!at.active) return;
    channels_of<V> v = batch_norm_channels<T, V>(o, c, at.channel);
    for (int64_t row = at.first; row < at.last; row += c.lines) {
        float item[V];
        ed_load_pack(o.x + row * c.channels + at.channel, item);
        for (int k = 0; k < V; k++)
            item[k] = ed_activate(o.activation, o.slope, (item[k] - v.mean[k]) * v.inverse[k] * v.gamma[k] + v.beta[k]);
        ed_store_pack(y + row * c.channels + at.channel, item);
    }
}

/* xh and d of the items at i. */
template <class T, int V>
__device__ static inline void batch_norm_items(const batch_norm_operands<T> &o, const channels_of<V> &v, int64_t i,
                                               float (&xh)[V], float (&d)[V])
{
    ed_load_pack(o.x + i, xh);
    ed_load_pack(o.dy + i, d);
    for (int k = 0; k < V; k++) {
        xh[k] = (xh[k] - v.mean[k]) * v.inverse[k];
        d[k] *= ed_activate_slope(o.activation, o.slope, xh[k] * v.gamma[k] + v.beta[k]);
    }
}

/* -> part (chunks, 2, C): S1, then S0 */
template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS) batch_norm_grad_sums(batch_norm_operands<T> o, ed_columns c, float *part)
{
    ed_place at = ed_column_place<V>(c);
    float sum[2 * V] = {};
    if (at.active) {
        channels_of<V> v = batch_norm_channels<T, V>(o, c, at.channel);
        for (int64_t row = at.first; row < at.last; row += c.lines) {
            float xh[V], d[V];
            batch_norm_items<T, V>(o, v, row * c.channels + at.channel, xh, d);
            for (int k = 0; k < V; k++) {
                sum[k] += d[k] * xh[k];
                sum[V + k] += d[k];
            }
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

/* sums (2, C): S1, then S0 */
template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS)
    batch_norm_grad_map(batch_norm_operands<T> o, ed_columns c, const float *sums, T *dx)
{
    ed_place at = ed_column_place<V>(c);
    if (!at.active) return;
    channels_of<V> v = batch_norm_channels<T, V>(o, c, at.channel);
    float a[V], b[V];
    for (int k = 0; k < V; k++) {
        b[k] = sums[at.channel + k] / (float)c.rows;
        a[k] = sums[c.channels + at.channel + k] / (float)c.rows;
    }
    for (int64_t row = at.first; row < at.last; row += c.lines) {
        int64_t i = row * c.channels + at.channel;
        float xh[V], d[V];
        batch_norm_items<T, V>(o, v, i, xh, d);
        for (int k = 0; k < V; k++) d[k] = (d[k] - a[k] - xh[k] * b[k]) * v.gamma[k] * v.inverse[k];
        ed_store_pack(dx + i, d);
    }
}

/* ---------------------------------------------------------------- launchers */

static encdiff_status check_alone(const ed_call *call)
{
    const ed_comm *comm = call->run ? call->run->comm : nullptr;
    if (!comm || comm->ranks < 2) return ENCDIFF_OK;
    return ed_fail(call->env, ENCDIFF_ERROR_UNSUPPORTED, "batch norm over %d ranks is not available on cuda",
                   comm->ranks);
}

/* Scratch: part, then for the gradient the sums. */
static encdiff_status prepare(ed_env *, const ed_graph *graph, const ed_node *node, size_t *scratch, void **)
{
    ed_columns c = ed_columns_of_rows(ed_graph_shape(graph, node->in[0]), 1);
    *scratch = ed_part_bytes(1, c.rows, c.channels, 2) + (size_t)(2 * c.channels) * sizeof(float);
    return ENCDIFF_OK;
}

template <class T, int V> static encdiff_status launch_statistics(const ed_call *call, const ed_columns &c)
{
    ed_attributes attr = call->node->attr;
    float *part = static_cast<float *>(call->scratch), *stats = ed_out<float>(call, 1), *mean = ed_in<float>(call, 3),
          *var = ed_in<float>(call, 4), eps = attr.batch_norm.eps;
    if (!attr.batch_norm.training)
        return ED_LAUNCH(call, batch_norm_running, (unsigned)((c.channels + 255) / 256), 256, 0, c.channels, eps, mean,
                         var, stats);
    ED_TRY(ED_LAUNCH(call, (ed_column_moments<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, ed_in<T>(call, 0),
                     c, part));
    return ED_LAUNCH(call, batch_norm_unite, (unsigned)((c.channels + WARPS - 1) / WARPS), WARPS * ED_WARP, 0, part, c,
                     eps, attr.batch_norm.momentum, stats, mean, var);
}

template <class T, int V> static encdiff_status launch(const ed_call *call)
{
    ed_columns c = ed_columns_of_rows(ed_in_shape(call, 0), V);
    ed_attributes attr = call->node->attr;
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    ED_TRY((launch_statistics<T, V>(call, c)));
    batch_norm_operands<T> o = {ed_in<T>(call, 0),      nullptr,
                                ed_in<float>(call, 1),  ed_in<float>(call, 2),
                                ed_out<float>(call, 1), attr.batch_norm.activation,
                                attr.batch_norm.slope};
    return ED_LAUNCH(call, (batch_norm_map<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, o, c,
                     ed_out<T>(call, 0));
}

static encdiff_status run(const ed_call *call)
{
    ED_TRY(check_alone(call));
    bool wide = ed_wide(ed_shape_last(ed_in_shape(call, 0)), call->in[0], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch, call);
}

template <class T, int V> static encdiff_status launch_grad(const ed_call *call)
{
    ed_columns c = ed_columns_of_rows(ed_in_shape(call, 0), V);
    ed_attributes attr = call->node->attr;
    batch_norm_operands<T> o = {ed_in<T>(call, 0),     ed_in<T>(call, 4),     ed_in<float>(call, 1),
                                ed_in<float>(call, 2), ed_in<float>(call, 3), attr.batch_norm.activation,
                                attr.batch_norm.slope};
    float *part = static_cast<float *>(call->scratch), *sums = part + c.chunks * 2 * c.channels;
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    ED_TRY(ED_LAUNCH(call, (batch_norm_grad_sums<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, o, c, part));
    ED_TRY(ed_fold<float>(call, part, 1, c.chunks, 2 * c.channels, sums, ed_in<float>(call, 5), ed_in<float>(call, 6),
                          c.channels));
    return ED_LAUNCH(call, (batch_norm_grad_map<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, o, c, sums,
                     ed_out<T>(call, 0));
}

static encdiff_status run_grad(const ed_call *call)
{
    ED_TRY(check_alone(call));
    bool wide = ed_wide(ed_shape_last(ed_in_shape(call, 0)), call->in[0], call->in[4], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch_grad, call);
}

ED_CUDA_KERNEL(batch_norm, prepare, run);
ED_CUDA_KERNEL(batch_norm_grad, prepare, run_grad);
