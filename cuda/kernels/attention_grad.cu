/*
 * attention_grad. The probabilities come back from lse, so that no score is ever stored:
 *
 *   p = exp(s - lse)    dp = dy . v    ds = p (dp - delta)    delta = dy . y, which is sum of p dp over the keys
 *   dq = scale sum over keys of ds k      dk = scale sum over queries of ds q      dv = sum over queries of p dy
 *
 * q, y, dy, dq (N, L, C); k, v, dk, dv (N, M, C); lse (N, heads, L). All =. Two launches: one owns queries and leaves
 * delta, the other owns keys; nothing is added by two threads at once. (Dao et al. 2022; layout: attention.h.)
 */
#include "cuda/kernels/attention.h"

#define STEP (ED_ATTENTION_STEP / 2) /* rows of a tile that are taken together: there are two products here */

template <class T> struct operands {
    const T *q, *k, *v, *y, *dy;
    const float *lse;
    float *delta; /* (N, heads, L) */
};

/* Owners are queries, tiles are of keys and values. */
template <class T, int PACKS>
__global__ void ED_THREADS(ED_ATTENTION_BLOCK)
    attention_grad_queries(ed_attention a, operands<T> o, T *dq, int tile_rows)
{
    ED_DYNAMIC_SHARED(float, keys);
    float *values = keys + tile_rows * a.padded;
    int rows = (int)blockDim.x / a.width, lane = (int)threadIdx.x % a.width;
    ed_attention_place at = ed_attention_here(a, rows, a.l);
    int64_t query = at.first + threadIdx.x / a.width, from = at.image * a.l * a.c + query * a.c + at.head * a.d,
            other = at.image * a.m * a.c + at.head * a.d, number = (at.image * a.heads + at.head) * a.l + query;
    bool active = query < a.l;
    float4 x[PACKS], g[PACKS], sum[PACKS] = {};
    ed_read_row(a, active ? o.y + from : nullptr, lane, 1.0f, x);
    ed_read_row(a, active ? o.dy + from : nullptr, lane, 1.0f, g);
    float delta = 0;
    for (int p = 0; p < PACKS; p++) delta = ed_dot4(x[p], g[p], delta);
    delta = ed_sum_lanes(delta, a.width);
    if (active && lane == 0) o.delta[number] = delta;
    ed_read_row(a, active ? o.q + from : nullptr, lane, a.scale * ED_LOG2_E, x);
    float lse = active ? o.lse[number] * ED_LOG2_E : 0;
    for (int64_t first = 0; first < a.m; first += tile_rows) {
        int count = (int)ED_MIN((int64_t)tile_rows, a.m - first);
        __syncthreads(); /* the tile before has been read */
        ed_read_tile(a, keys, tile_rows, o.k + other, first, a.m, 1.0f);
        ed_read_tile(a, values, tile_rows, o.v + other, first, a.m, 1.0f);
        __syncthreads();
        for (int j = 0; j < count; j += STEP) {
            float s[STEP], dp[STEP];
            ed_dots(a, x, keys, j, lane, s);
            ed_dots(a, g, values, j, lane, dp);
            for (int i = 0; i < STEP; i++) s[i] = j + i < count ? exp2f(s[i] - lse) * (dp[i] - delta) : 0;
            ed_add_rows(a, s, keys, j, lane, sum);
        }
    }
    if (active) ed_write_row(a, dq + from, lane, a.scale, sum);
}

/*
 * Owners are keys, tiles are of queries and of dy, with lse and delta beside them. Where there are few keys the block
 * holds each `splits` times, and every copy takes its share of the queries; the copies' sums are added in order.
 */
template <class T, int PACKS>
__global__ void ED_THREADS(ED_ATTENTION_BLOCK)
    attention_grad_keys(ed_attention a, operands<T> o, T *dk, T *dv, int tile_rows, int splits)
{
    ED_DYNAMIC_SHARED(float, queries);
    float *grads = queries + tile_rows * a.padded, *lse = grads + tile_rows * a.padded, *delta = lse + tile_rows;
    int each = (int)blockDim.x / splits, rows = each / a.width, lane = (int)threadIdx.x % a.width,
        split = (int)threadIdx.x / each, me = (int)threadIdx.x % each;
    ed_attention_place at = ed_attention_here(a, rows, a.m);
    int64_t key = at.first + me / a.width, from = at.image * a.m * a.c + key * a.c + at.head * a.d,
            other = at.image * a.l * a.c + at.head * a.d, number = (at.image * a.heads + at.head) * a.l;
    bool active = key < a.m;
    float4 x[PACKS], v[PACKS], key_sum[PACKS] = {}, value_sum[PACKS] = {};
    ed_read_row(a, active ? o.k + from : nullptr, lane, a.scale * ED_LOG2_E, x);
    ed_read_row(a, active ? o.v + from : nullptr, lane, 1.0f, v);
    for (int64_t first = 0; first < a.l; first += tile_rows) {
        int count = (int)ED_MIN((int64_t)tile_rows, a.l - first);
        __syncthreads(); /* the tile before has been read */
        ed_read_tile(a, queries, tile_rows, o.q + other, first, a.l, 1.0f);
        ed_read_tile(a, grads, tile_rows, o.dy + other, first, a.l, 1.0f);
        for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x) {
            lse[i] = o.lse[number + first + i] * ED_LOG2_E;
            delta[i] = o.delta[number + first + i];
        }
        __syncthreads();
        for (int j = split * STEP; j < count; j += splits * STEP) {
            float p[STEP], ds[STEP];
            ed_dots(a, x, queries, j, lane, p);
            ed_dots(a, v, grads, j, lane, ds);
            for (int i = 0; i < STEP; i++) {
                bool real = j + i < count;
                p[i] = real ? exp2f(p[i] - lse[j + i]) : 0;
                ds[i] = real ? p[i] * (ds[i] - delta[j + i]) : 0;
            }
            ed_add_rows(a, p, grads, j, lane, value_sum);
            ed_add_rows(a, ds, queries, j, lane, key_sum);
        }
    }
    float4 *copies = reinterpret_cast<float4 *>(queries); /* [2 PACKS][each] */
    for (int s = 1; s < splits; s++) {
        __syncthreads();
        for (int p = 0; p < PACKS && split == s; p++) {
            copies[p * each + me] = key_sum[p];
            copies[(PACKS + p) * each + me] = value_sum[p];
        }
        __syncthreads();
        for (int p = 0; p < PACKS && split == 0; p++) {
            ed_add4(key_sum[p], 1, copies[p * each + me]);
            ed_add4(value_sum[p], 1, copies[(PACKS + p) * each + me]);
        }
    }
    if (!active || split > 0) return;
    ed_write_row(a, dk + from, lane, a.scale, key_sum);
    ed_write_row(a, dv + from, lane, 1.0f, value_sum);
}

/* ---------------------------------------------------------------- launcher */

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **)
{
    const ed_shape *q = ed_graph_shape(graph, node->in[0]);
    *scratch = (size_t)(q->dim[0] * q->dim[1] * node->attr.attention.heads) * sizeof(float);
    return ed_attention_check(env, graph, node);
}

template <class T, int PACKS> static encdiff_status launch(const ed_call *call, ed_attention a)
{
    operands<T> o = {ed_in<T>(call, 0),
                     ed_in<T>(call, 1),
                     ed_in<T>(call, 2),
                     ed_in<T>(call, 3),
                     ed_in<T>(call, 5),
                     ed_in<float>(call, 4),
                     static_cast<float *>(call->scratch)};
    T *dq = ed_out<T>(call, 0), *dk = ed_out<T>(call, 1), *dv = ed_out<T>(call, 2);
    a.wide = a.d % 4 == 0 && ed_aligned4(o.q) && ed_aligned4(o.k) && ed_aligned4(o.v) && ed_aligned4(o.y) &&
             ed_aligned4(o.dy) && ed_aligned4(dq) && ed_aligned4(dk) && ed_aligned4(dv);
    int tile_rows = ed_attention_rows(&a, a.m), block = ed_attention_block(a.l * a.width);
    size_t row = (size_t)(2 * a.padded) * sizeof(float);
    ED_TRY(ED_LAUNCH(call, (attention_grad_queries<T, PACKS>), ed_attention_grid(&a, block, a.l), block,
                     (size_t)tile_rows * row, a, o, dq, tile_rows));
    int each = ed_attention_block(a.m * a.width), splits = ED_ATTENTION_BLOCK / each;
    tile_rows = ed_attention_rows(&a, a.l);
    splits = (int)ED_MIN(splits, (tile_rows + STEP - 1) / STEP);
    size_t bytes = (size_t)tile_rows * (row + 2 * sizeof(float)),
           copies = splits > 1 ? (size_t)(2 * PACKS * each) * sizeof(float4) : 0;
    return ED_LAUNCH(call, (attention_grad_keys<T, PACKS>), ed_attention_grid(&a, each, a.m), each * splits,
                     ED_MAX(bytes, copies), a, o, dk, dv, tile_rows, splits);
}

static encdiff_status run(const ed_call *call)
{
    ed_attention a = ed_attention_of(call);
    if (a.n * a.l * a.m * a.c == 0) return ENCDIFF_OK;
    return ED_DISPATCH_ATTENTION(ed_in_type(call, 0), a, launch, call, a);
}

ED_CUDA_KERNEL(attention_grad, prepare, run);
