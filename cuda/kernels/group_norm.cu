/*
 * group_norm   y = act(((x - mean)/std * gamma + beta) * (1 + s) + t)      (Wu and He 2018)
 *
 * x, y (N, ..., C); gamma, beta (C); ss (N, 2C), s its first half and t its second, may be absent; stats (N, G, 2) mean
 * and 1/std of a group's channels at all positions. y =, stats =. y may be x.
 *
 * Three launches: statistics of each channel over a chunk of positions; their union for each group; the map. The mean
 * is taken off before squares are summed, and statistics are united by the formula of Chan, Golub and LeVeque (1979),
 * so that a mean far from zero costs no digits.
 */
#include "cuda/kernels/activate.h"
#include "cuda/kernels/columns.h"
#include "cuda/kernels/moments.h"

/* ---------------------------------------------------------------- of a group */

#define WARPS 4 /* groups of a block */

/* part (N, chunks, 2, C) -> stats (N, G, 2) */
static __global__ void ED_THREADS(WARPS *ED_WARP)
    group_norm_unite(const float *part, ed_columns c, int64_t groups, int width, float eps, float *stats)
{
    int64_t group = (int64_t)blockIdx.x * WARPS + threadIdx.x / ED_WARP, image = group / groups;
    int first = (int)(group % groups) * width, items = c.chunks * width;
    ed_moments sum = {0, 0, 0};
    for (int i = threadIdx.x % ED_WARP; i < items && group < c.images * groups; i += ED_WARP)
        sum = ed_unite(sum, ed_part_moments(part, c, image, i / width, first + i % width));
    sum = ed_unite_lanes(sum);
    if (threadIdx.x % ED_WARP > 0 || group >= c.images * groups) return;
    stats[group * 2] = sum.mean;
    stats[group * 2 + 1] = 1 / sqrtf(sum.squares / sum.count + eps);
}

/* ---------------------------------------------------------------- the map */

template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS)
    group_norm_map(const T *x, const float *gamma, const float *beta, const T *ss, const float *stats, T *y,
                   ed_columns c, int64_t groups, int width, ed_activation activation)
{
    ed_place at = ed_column_place<V>(c);
    if (!at.active) return;
    float mean[V], gain[V], shift[V], more[V], then[V];
    for (int k = 0; k < V; k++) {
        int64_t channel = at.channel + k, group = at.image * groups + (int)channel / width;
        mean[k] = stats[group * 2];
        gain[k] = stats[group * 2 + 1] * gamma[channel];
        shift[k] = beta[channel];
        more[k] = ss ? 1 + ed_load(ss + at.image * 2 * c.channels + channel) : 1;
        then[k] = ss ? ed_load(ss + (at.image * 2 + 1) * c.channels + channel) : 0;
    }
    for (int64_t row = at.first; row < at.last; row += c.lines) {
        int64_t i = (at.image * c.rows + row) * c.channels + at.channel;
        float v[V];
        ed_load_pack(x + i, v);
        for (int k = 0; k < V; k++)
            v[k] = ed_activate(activation, 0, ((v[k] - mean[k]) * gain[k] + shift[k]) * more[k] + then[k]);
        ed_store_pack(y + i, v);
    }
}

/* ---------------------------------------------------------------- launchers */

static encdiff_status prepare(ed_env *, const ed_graph *graph, const ed_node *node, size_t *scratch, void **)
{
    ed_columns c = ed_columns_of_images(ed_graph_shape(graph, node->in[0]), 1);
    *scratch = ed_part_bytes(c.images, c.rows, c.channels, 2);
    return ENCDIFF_OK;
}

template <class T, int V> static encdiff_status launch(const ed_call *call)
{
    ed_columns c = ed_columns_of_images(ed_in_shape(call, 0), V);
    int groups = call->node->attr.group_norm.groups, width = (int)(c.channels / groups);
    float *part = static_cast<float *>(call->scratch), *stats = ed_out<float>(call, 1);
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    ED_TRY(ED_LAUNCH(call, (ed_column_moments<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, ed_in<T>(call, 0),
                     c, part));
    ED_TRY(ED_LAUNCH(call, group_norm_unite, (unsigned)((c.images * groups + WARPS - 1) / WARPS), WARPS * ED_WARP, 0,
                     part, c, groups, width, call->node->attr.group_norm.eps, stats));
    return ED_LAUNCH(call, (group_norm_map<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, ed_in<T>(call, 0),
                     ed_in<float>(call, 1), ed_in<float>(call, 2), ed_in<T>(call, 3), stats, ed_out<T>(call, 0), c,
                     groups, width, call->node->attr.group_norm.activation);
}

static encdiff_status run(const ed_call *call)
{
    bool wide = ed_wide(ed_shape_last(ed_in_shape(call, 0)), call->in[0], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch, call);
}

ED_CUDA_KERNEL(group_norm, prepare, run);
