/*
 * attention       s = scale q . k over the channels of a head, p = softmax over the keys of s, y = sum of p v
 *                 (Vaswani et al. 2017), with the softmax corrected on the way (Milakov and Gimelshein 2018), so that
 *                 scores are never stored.
 *
 * q, y (N, L, C); k, v (N, M, C); lse (N, heads, L): log of the sum of exp(s). y =, lse =. Layout: attention.h.
 */
#include "cuda/kernels/attention.h"

template <class T, int PACKS>
__global__ void ED_THREADS(ED_ATTENTION_BLOCK)
    attention_forward(ed_attention a, const T *q, const T *k, const T *v, T *y, float *lse, int tile_rows)
{
    ED_DYNAMIC_SHARED(float, keys);
    const int STEP = ED_ATTENTION_STEP;
    float *values = keys + tile_rows * a.padded;
    int rows = (int)blockDim.x / a.width, lane = (int)threadIdx.x % a.width;
    ed_attention_place at = ed_attention_here(a, rows, a.l);
    int64_t query = at.first + threadIdx.x / a.width, from = at.image * a.l * a.c + query * a.c + at.head * a.d,
            other = at.image * a.m * a.c + at.head * a.d;
    bool active = query < a.l;
    float4 x[PACKS], sum[PACKS] = {};
    ed_read_row(a, active ? q + from : nullptr, lane, a.scale * ED_LOG2_E, x);
    float most = -INFINITY, total = 0;
    for (int64_t first = 0; first < a.m; first += tile_rows) {
        int count = (int)ED_MIN((int64_t)tile_rows, a.m - first);
        __syncthreads(); /* the tile before has been read */
        ed_read_tile(a, keys, tile_rows, k + other, first, a.m, 1.0f);
        ed_read_tile(a, values, tile_rows, v + other, first, a.m, 1.0f);
        __syncthreads();
        for (int j = 0; j < count; j += STEP) {
            float s[STEP], high = most;
            ed_dots(a, x, keys, j, lane, s);
            for (int i = 0; i < STEP; i++) {
                if (j + i >= count) s[i] = -INFINITY;
                high = fmaxf(high, s[i]);
            }
            float correction = exp2f(most - high);
            most = high;
            total *= correction;
            for (int p = 0; p < PACKS; p++)
                sum[p] = make_float4(sum[p].x * correction, sum[p].y * correction, sum[p].z * correction,
                                     sum[p].w * correction);
            for (int i = 0; i < STEP; i++) total += s[i] = exp2f(s[i] - most);
            ed_add_rows(a, s, values, j, lane, sum);
        }
    }
    if (!active) return;
    ed_write_row(a, y + from, lane, 1 / total, sum);
    if (lane == 0) lse[(at.image * a.heads + at.head) * a.l + query] = most * ED_LN_2 + logf(total);
}

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *, void **)
{
    return ed_attention_check(env, graph, node);
}

template <class T, int PACKS> static encdiff_status launch(const ed_call *call, ed_attention a)
{
    const T *q = ed_in<T>(call, 0), *k = ed_in<T>(call, 1), *v = ed_in<T>(call, 2);
    T *y = ed_out<T>(call, 0);
    a.wide = a.d % 4 == 0 && ed_aligned4(q) && ed_aligned4(k) && ed_aligned4(v) && ed_aligned4(y);
    int tile_rows = ed_attention_rows(&a, a.m), block = ed_attention_block(a.l * a.width);
    return ED_LAUNCH(call, (attention_forward<T, PACKS>), ed_attention_grid(&a, block, a.l), block,
                     (size_t)(2 * tile_rows * a.padded) * sizeof(float), a, q, k, v, y, ed_out<float>(call, 1),
                     tile_rows);
}

static encdiff_status run(const ed_call *call)
{
    ed_attention a = ed_attention_of(call);
    if (a.n * a.l * a.m * a.c == 0) return ENCDIFF_OK;
    return ED_DISPATCH_ATTENTION(ed_in_type(call, 0), a, launch, call, a);
}

ED_CUDA_KERNEL(attention, prepare, run);
