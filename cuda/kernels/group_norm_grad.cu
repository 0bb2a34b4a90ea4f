/*
 * group_norm_grad. With xh = (x - mean)/std, z = (xh gamma + beta) (1 + s) + t and d = dy act'(z), everything follows
 * from two sums over the positions of each image and channel, S0 = sum d and S1 = sum d xh:
 *
 *   ds = gamma S1 + beta S0    dt = S0    dgamma += sum_n (1 + s) S1    dbeta += sum_n (1 + s) S0
 *   dx = (d (1 + s) gamma - A - xh B) / std + r,   A, B: sums of gamma (1 + s) S0, S1 over a group / its items
 *
 * x, dy, r, dx (N, ..., C); ss, dss (N, 2C) = (s, t); stats (N, G, 2); gamma, beta (C). dx =, dss =, dgamma +=,
 * dbeta +=; ss, dss, r, dgamma, dbeta may be absent. dx may be dy: the sums are taken before dx is written.
 */
#include "cuda/kernels/activate.h"
#include "cuda/kernels/columns.h"
#include "cuda/kernels/reduce.h"

#define WARPS 4 /* groups of a block */

/* The group_norm_grad_operands that do not depend on the width. */
template <class T> struct group_norm_grad_operands {
    const T *x, *dy, *r, *ss;
    const float *gamma, *beta, *stats;
    int64_t groups;
    int width; /* channels of a group */
    ed_activation activation;
};

/* What a lane keeps of its channels. */
template <int V> struct group_norm_grad_channels {
    float mean[V], inverse[V], gamma[V], beta[V], more[V], then[V];
};

template <class T, int V>
__device__ static inline group_norm_grad_channels<V> group_norm_channels(const group_norm_grad_operands<T> &o,
                                                                         const ed_columns &c, const ed_place &at)
{
    group_norm_grad_channels<V> v;
    for (int k = 0; k < V; k++) {
        int64_t channel = at.channel + k, group = at.image * o.groups + (int)channel / o.width;
        v.mean[k] = o.stats[group * 2];
        v.inverse[k] = o.stats[group * 2 + 1];
        v.gamma[k] = o.gamma[channel];
        v.beta[k] = o.beta[channel];
        v.more[k] = o.ss ? 1 + ed_load(o.ss + at.image * 2 * c.channels + channel) : 1;
        v.then[k] = o.ss ? ed_load(o.ss + (at.image * 2 + 1) * c.channels + channel) : 0;
    }
    return v;
}

/* xh and d of the items at i. */
template <class T, int V>
__device__ static inline void group_norm_items(const group_norm_grad_operands<T> &o,
                                               const group_norm_grad_channels<V> &v, int64_t i, float (&xh)[V],
                                               float (&d)[V])
{
    ed_load_pack(o.x + i, xh);
    ed_load_pack(o.dy + i, d);
    for (int k = 0; k < V; k++) {
        xh[k] = (xh[k] - v.mean[k]) * v.inverse[k];
        d[k] *= ed_activate_slope(o.activation, 0, (xh[k] * v.gamma[k] + v.beta[k]) * v.more[k] + v.then[k]);
    }
}

/* -> part (N, chunks, 2, C): S1, then S0, of a chunk of positions */
template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS)
    group_norm_grad_sums(group_norm_grad_operands<T> o, ed_columns c, float *part)
{
    ed_place at = ed_column_place<V>(c);
    float sum[2 * V] = {};
    if (at.active) {
        group_norm_grad_channels<V> v = group_norm_channels<T, V>(o, c, at);
        for (int64_t row = at.first; row < at.last; row += c.lines) {
            float xh[V], d[V];
            group_norm_items<T, V>(o, v, (at.image * c.rows + row) * c.channels + at.channel, xh, d);
            for (int k = 0; k < V; k++) {
                sum[k] += d[k] * xh[k];
                sum[V + k] += d[k];
            }
        }
    }
    ed_sum_lines(sum);
    if (threadIdx.y > 0 || !at.active) return;
    float *to = part + (at.image * c.chunks + at.chunk) * 2 * c.channels + at.channel;
    for (int k = 0; k < V; k++) {
        to[k] = sum[k];
        to[c.channels + k] = sum[V + k];
    }
}

/* part -> sums (N, 2, C) = (1 + s) (S1, S0); means (N, G, 2) = (A, B); dss */
template <class T>
__global__ void ED_THREADS(WARPS *ED_WARP) group_norm_grad_unite(group_norm_grad_operands<T> o, ed_columns c,
                                                                 const float *part, float *sums, float *means, T *dss)
{
    int64_t group = (int64_t)blockIdx.x * WARPS + threadIdx.x / ED_WARP, image = group / o.groups,
            first = group % o.groups * o.width;
    bool active = group < c.images * o.groups;
    float a = 0, b = 0;
    for (int i = threadIdx.x % ED_WARP; i < o.width && active; i += ED_WARP) {
        int64_t channel = first + i, at = image * 2 * c.channels + channel;
        const float *from = part + image * c.chunks * 2 * c.channels + channel;
        float s1 = 0, s0 = 0, more = o.ss ? 1 + ed_load(o.ss + at) : 1;
        for (int chunk = 0; chunk < c.chunks; chunk++, from += 2 * c.channels) s1 += from[0], s0 += from[c.channels];
        if (dss) {
            ed_store(dss + at, o.gamma[channel] * s1 + o.beta[channel] * s0);
            ed_store(dss + at + c.channels, s0);
        }
        sums[at] = more * s1;
        sums[at + c.channels] = more * s0;
        a += o.gamma[channel] * more * s0;
        b += o.gamma[channel] * more * s1;
    }
    a = ed_sum_lanes(a, ED_WARP);
    b = ed_sum_lanes(b, ED_WARP);
    if (threadIdx.x % ED_WARP > 0 || !active) return;
    float items = (float)(c.rows * o.width);
    means[group * 2] = a / items;
    means[group * 2 + 1] = b / items;
}

template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS)
    group_norm_grad_map(group_norm_grad_operands<T> o, ed_columns c, const float *means, T *dx)
{
    ed_place at = ed_column_place<V>(c);
    if (!at.active) return;
    group_norm_grad_channels<V> v = group_norm_channels<T, V>(o, c, at);
    float a[V], b[V];
    for (int k = 0; k < V; k++) {
        int64_t group = at.image * o.groups + (int)(at.channel + k) / o.width;
        a[k] = means[group * 2];
        b[k] = means[group * 2 + 1];
    }
    for (int64_t row = at.first; row < at.last; row += c.lines) {
        int64_t i = (at.image * c.rows + row) * c.channels + at.channel;
        float xh[V], d[V], rest[V] = {};
        group_norm_items<T, V>(o, v, i, xh, d);
        if (o.r) ed_load_pack(o.r + i, rest);
        for (int k = 0; k < V; k++)
            d[k] = (d[k] * v.more[k] * v.gamma[k] - a[k] - xh[k] * b[k]) * v.inverse[k] + rest[k];
        ed_store_pack(dx + i, d);
    }
}

/* ---------------------------------------------------------------- launcher */

/* Scratch: part, then sums, then means. */
static encdiff_status prepare(ed_env *, const ed_graph *graph, const ed_node *node, size_t *scratch, void **)
{
    ed_columns c = ed_columns_of_images(ed_graph_shape(graph, node->in[0]), 1);
    size_t after = (size_t)(c.images * 2 * (c.channels + node->attr.group_norm.groups));
    *scratch = ed_part_bytes(c.images, c.rows, c.channels, 2) + after * sizeof(float);
    return ENCDIFF_OK;
}

template <class T, int V> static encdiff_status launch(const ed_call *call)
{
    ed_columns c = ed_columns_of_images(ed_in_shape(call, 0), V);
    group_norm_grad_operands<T> o = {ed_in<T>(call, 0),
                                     ed_in<T>(call, 5),
                                     ed_in<T>(call, 8),
                                     ed_in<T>(call, 3),
                                     ed_in<float>(call, 1),
                                     ed_in<float>(call, 2),
                                     ed_in<float>(call, 4),
                                     call->node->attr.group_norm.groups,
                                     (int)(c.channels / call->node->attr.group_norm.groups),
                                     call->node->attr.group_norm.activation};
    float *part = static_cast<float *>(call->scratch), *sums = part + c.images * c.chunks * 2 * c.channels,
          *means = sums + c.images * 2 * c.channels;
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    ED_TRY(ED_LAUNCH(call, (group_norm_grad_sums<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, o, c, part));
    ED_TRY(ED_LAUNCH(call, group_norm_grad_unite<T>, (unsigned)((c.images * o.groups + WARPS - 1) / WARPS),
                     WARPS * ED_WARP, 0, o, c, part, sums, means, ed_out<T>(call, 1)));
    float *dgamma = ed_in<float>(call, 6), *dbeta = ed_in<float>(call, 7);
    if (dgamma || dbeta)
        ED_TRY(ed_fold<float>(call, sums, 1, c.images, 2 * c.channels, nullptr, dgamma, dbeta, c.channels));
    return ED_LAUNCH(call, (group_norm_grad_map<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, o, c, means,
                     ed_out<T>(call, 0));
}

static encdiff_status run(const ed_call *call)
{
    bool wide = ed_wide(ed_shape_last(ed_in_shape(call, 0)), call->in[0], call->in[5], call->in[8], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch, call);
}

ED_CUDA_KERNEL(group_norm_grad, prepare, run);
