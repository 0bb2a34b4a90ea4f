/*
 * attention_map   p = softmax over the keys of scale q . k, mean over the heads      q (N, L, C), k (N, M, C)
 *                 -> p (N, L, M) f32, =.    For pictures; a warp per query, keys by turns, scores computed twice.
 * V: channels taken at once.
 */
#include "cuda/kernels/attention.h"
#include "cuda/kernels/columns.h"

#define WARPS 4 /* queries of a block */

/* In base 2. */
template <class T, int V> __device__ static inline float map_score(const ed_attention &a, const T *q, const T *k)
{
    float sum = 0;
    for (int c = 0; c < a.d; c += V) {
        float x[V], y[V];
        ed_load_pack(q + c, x);
        ed_load_pack(k + c, y);
        for (int i = 0; i < V; i++) sum += x[i] * y[i];
    }
    return sum * (a.scale * ED_LOG2_E);
}

template <class T, int V>
__global__ void ED_THREADS(WARPS *ED_WARP) attention_map(ed_attention a, const T *q, const T *k, float *map)
{
    ED_DYNAMIC_SHARED(float, shared); /* for each warp and head: the largest score, and 1 / (heads * sum of 2^s) */
    int lane = (int)threadIdx.x % ED_WARP, warp = (int)threadIdx.x / ED_WARP;
    int64_t row = (int64_t)blockIdx.x * WARPS + warp;
    bool active = row < a.n * a.l;
    const T *mine = q + row * a.c, *keys = k + row / a.l * a.m * a.c;
    float *most = shared + warp * 2 * a.heads, *share = most + a.heads;
    for (int e = 0; e < a.heads; e++) {
        float high = -INFINITY, total = 0;
        for (int64_t j = lane; j < a.m && active; j += ED_WARP) {
            float s = map_score<T, V>(a, mine + e * a.d, keys + j * a.c + e * a.d), before = high;
            high = fmaxf(high, s);
            total = total * exp2f(before - high) + exp2f(s - high);
        }
        float all = high;
        for (int off = ED_WARP / 2; off > 0; off /= 2) all = fmaxf(all, __shfl_xor_sync(ED_ALL_LANES, all, off));
        total = ed_sum_lanes(total * exp2f(high - all), ED_WARP);
        if (lane == 0) most[e] = all, share[e] = 1 / (total * (float)a.heads);
    }
    __syncwarp();
    for (int64_t j = lane; j < a.m && active; j += ED_WARP) {
        float p = 0;
        for (int e = 0; e < a.heads; e++)
            p += exp2f(map_score<T, V>(a, mine + e * a.d, keys + j * a.c + e * a.d) - most[e]) * share[e];
        map[row * a.m + j] = p;
    }
}

template <class T, int V> static encdiff_status launch(const ed_call *call, const ed_attention &a)
{
    return ED_LAUNCH(call, (attention_map<T, V>), (unsigned)((a.n * a.l + WARPS - 1) / WARPS), WARPS * ED_WARP,
                     (size_t)(WARPS * 2 * a.heads) * sizeof(float), a, ed_in<T>(call, 0), ed_in<T>(call, 1),
                     ed_out<float>(call, 0));
}

static encdiff_status prepare(ed_env *env, const ed_graph *, const ed_node *node, size_t *, void **)
{
    if (node->attr.attention.heads <= 1024) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "attention maps of %d heads; cuda has up to 1024",
                   node->attr.attention.heads);
}

static encdiff_status run(const ed_call *call)
{
    ed_attention a = ed_attention_of(call);
    if (a.n * a.l * a.m * a.c == 0) return ENCDIFF_OK;
    bool wide = ed_wide(a.d, call->in[0], call->in[1]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch, call, a);
}

ED_CUDA_KERNEL(attention_map, prepare, run);
