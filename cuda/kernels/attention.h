/*
 * What the attention kernels share. Head e owns channels e d .. e d + d - 1 of q, k, v, d = C / heads.
 *
 * A row, a query or a key, belongs to `width` neighbouring lanes, a power of two up to a warp. Lane s of them keeps
 * PACKS packs of four channels: packs s, s + width, ... of a row padded with zeros to 4 * PACKS * width channels. Dot
 * products are summed over the lanes. The rows on the other side go through shared memory in tiles, as f32 and with
 * the same padding; all rows of a warp read the same one at a time, four channels at once, so that there are no bank
 * conflicts. Eight at a time, so that the softmax is corrected once for eight and the products run in parallel.
 *
 * Scores are kept in base 2, s = log2(e) * scale * q . k, because 2^x is one instruction.
 */
#ifndef ED_CUDA_ATTENTION_H
#define ED_CUDA_ATTENTION_H

#include "cuda/gpu.h"
#include "cuda/kernels/reduce.h"

#define ED_ATTENTION_BLOCK 128
#define ED_ATTENTION_STEP 8     /* rows of a tile that are taken together */
#define ED_ATTENTION_TILE 2048  /* floats of a tile, if that makes eight rows; else eight rows */
#define ED_ATTENTION_WIDEST 512 /* channels of a head: a warp of lanes with four packs */
#define ED_LOG2_E 1.44269504088896341f
#define ED_LN_2 0.69314718055994531f

typedef struct ed_attention {
    int64_t n, l, m, c;          /* images, queries, keys, channels of all heads */
    int heads, d, width, padded; /* channels of a head; lanes of a row; channels of a row of a tile */
    float scale;
    bool wide; /* rows may be read four channels at a time */
} ed_attention;

static inline ed_attention ed_attention_of(const ed_call *call)
{
    const ed_shape *q = ed_in_shape(call, 0), *k = ed_in_shape(call, 1);
    ed_attention a = {q->dim[0],
                      q->dim[1],
                      k->dim[1],
                      q->dim[2],
                      call->node->attr.attention.heads,
                      0,
                      0,
                      0,
                      call->node->attr.attention.scale,
                      false};
    a.d = (int)(a.c / a.heads);
    int packs = a.d <= 8 ? 2 : 4;
    a.width = ed_power_above((a.d + 4 * packs - 1) / (4 * packs), ED_WARP);
    a.padded = 4 * packs * a.width;
    return a;
}

static inline encdiff_status ed_attention_check(ed_env *env, const ed_graph *graph, const ed_node *node)
{
    int64_t d = ed_shape_last(ed_graph_shape(graph, node->in[0])) / node->attr.attention.heads;
    if (d <= ED_ATTENTION_WIDEST) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "attention with heads of %lld channels; cuda has up to %d",
                   (long long)d, ED_ATTENTION_WIDEST);
}

/* Rows of a tile. */
static inline int ed_attention_rows(const ed_attention *a, int64_t rows)
{
    int64_t most = ED_MAX(ED_ATTENTION_TILE / a->padded, ED_ATTENTION_STEP);
    int64_t whole = (rows + ED_ATTENTION_STEP - 1) / ED_ATTENTION_STEP * ED_ATTENTION_STEP;
    return (int)ED_MIN(most, whole);
}

/* Threads of a block for so many lanes of one image and head, and blocks of all. */
static inline int ed_attention_block(int64_t lanes)
{
    return (int)ED_MIN((lanes + ED_WARP - 1) / ED_WARP * ED_WARP, ED_ATTENTION_BLOCK);
}
static inline unsigned ed_attention_grid(const ed_attention *a, int block, int64_t rows)
{
    int each = block / a->width;
    return (unsigned)(a->n * a->heads * ((rows + each - 1) / each));
}

/* function<T, PACKS>(arguments) */
#define ED_DISPATCH_ATTENTION(type, a, function, ...)                                                                  \
    ((type) == ED_BF16                                                                                                 \
         ? (a).d <= 8 ? function<__nv_bfloat16, 2>(__VA_ARGS__) : function<__nv_bfloat16, 4>(__VA_ARGS__)              \
     : (a).d <= 8 ? function<float, 2>(__VA_ARGS__)                                                                    \
                  : function<float, 4>(__VA_ARGS__))

/* ---------------------------------------------------------------- rows in registers */

/* out = factor * the lane's packs of a row of d channels; zeros where `row` is nullptr and beyond d. */
template <int PACKS, class T>
__device__ static inline void ed_read_row(const ed_attention &a, const T *row, int lane, float factor,
                                          float4 (&out)[PACKS])
{
    for (int p = 0; p < PACKS; p++) {
        int c = (p * a.width + lane) * 4;
        float4 v = make_float4(0, 0, 0, 0);
        if (row && a.wide && c < a.d) {
            v = ed_load4(row + c);
        } else if (row && c < a.d) {
            v.x = ed_load(row + c);
            if (c + 1 < a.d) v.y = ed_load(row + c + 1);
            if (c + 2 < a.d) v.z = ed_load(row + c + 2);
            if (c + 3 < a.d) v.w = ed_load(row + c + 3);
        }
        out[p] = make_float4(v.x * factor, v.y * factor, v.z * factor, v.w * factor);
    }
}

template <int PACKS, class T>
__device__ static inline void ed_write_row(const ed_attention &a, T *row, int lane, float factor,
                                           const float4 (&in)[PACKS])
{
    for (int p = 0; p < PACKS; p++) {
        int c = (p * a.width + lane) * 4;
        float4 v = make_float4(in[p].x * factor, in[p].y * factor, in[p].z * factor, in[p].w * factor);
        if (a.wide && c < a.d) {
            ed_store4(row + c, v);
        } else if (c < a.d) {
            ed_store(row + c, v.x);
            if (c + 1 < a.d) ed_store(row + c + 1, v.y);
            if (c + 2 < a.d) ed_store(row + c + 2, v.z);
            if (c + 3 < a.d) ed_store(row + c + 3, v.w);
        }
    }
}

__device__ static inline float ed_dot4(float4 a, float4 b, float sum)
{
    return a.w * b.w + (a.z * b.z + (a.y * b.y + (a.x * b.x + sum)));
}

/* sum += f * v */
__device__ static inline void ed_add4(float4 &sum, float f, float4 v)
{
    sum.x += f * v.x;
    sum.y += f * v.y;
    sum.z += f * v.z;
    sum.w += f * v.w;
}

/* ---------------------------------------------------------------- rows in shared memory */

/* tile[rows][padded] = factor * rows first .. of in[...][c], channels `from` .. from + d - 1; zeros beyond `end` and d.
 */
template <class T>
__device__ static inline void ed_read_tile(const ed_attention &a, float *tile, int rows, const T *in, int64_t first,
                                           int64_t end, float factor)
{
    int packs = a.padded / 4;
    for (int i = (int)threadIdx.x; i < rows * packs; i += (int)blockDim.x) {
        int row = i / packs, c = i % packs * 4;
        const T *from = first + row < end ? in + (first + row) * a.c + c : nullptr;
        float4 v = make_float4(0, 0, 0, 0);
        if (from && a.wide && c < a.d) {
            v = ed_load4(from);
        } else if (from && c < a.d) {
            v.x = ed_load(from);
            if (c + 1 < a.d) v.y = ed_load(from + 1);
            if (c + 2 < a.d) v.z = ed_load(from + 2);
            if (c + 3 < a.d) v.w = ed_load(from + 3);
        }
        reinterpret_cast<float4 *>(tile)[i] = make_float4(v.x * factor, v.y * factor, v.z * factor, v.w * factor);
    }
}

/* dot[j] = x . row j of the tile, STEP rows from `row`; complete on every lane of the row. All lanes call. */
template <int PACKS, int STEP>
__device__ static inline void ed_dots(const ed_attention &a, const float4 (&x)[PACKS], const float *tile, int row,
                                      int lane, float (&dot)[STEP])
{
    const float4 *packs = reinterpret_cast<const float4 *>(tile) + row * (a.padded / 4) + lane;
    for (int j = 0; j < STEP; j++) {
        dot[j] = 0;
        for (int p = 0; p < PACKS; p++) dot[j] = ed_dot4(x[p], packs[j * (a.padded / 4) + p * a.width], dot[j]);
    }
    for (int off = a.width / 2; off > 0; off /= 2)
        for (int j = 0; j < STEP; j++) dot[j] += __shfl_xor_sync(ED_ALL_LANES, dot[j], off);
}

/* sum += factor[j] * row j of the tile, for STEP rows from `row` */
template <int PACKS, int STEP>
__device__ static inline void ed_add_rows(const ed_attention &a, const float (&factor)[STEP], const float *tile,
                                          int row, int lane, float4 (&sum)[PACKS])
{
    const float4 *packs = reinterpret_cast<const float4 *>(tile) + row * (a.padded / 4) + lane;
    for (int j = 0; j < STEP; j++)
        for (int p = 0; p < PACKS; p++) ed_add4(sum[p], factor[j], packs[j * (a.padded / 4) + p * a.width]);
}

/* Which image, head and block of rows a block of threads has. */
typedef struct ed_attention_place {
    int64_t image, first;
    int head;
} ed_attention_place;

/* rows: of a block, of `all`. The grid has n * heads * blocks. */
__device__ static inline ed_attention_place ed_attention_here(const ed_attention &a, int rows, int64_t all)
{
    unsigned blocks = (unsigned)((all + rows - 1) / rows), rest = blockIdx.x / blocks;
    return {rest / (unsigned)a.heads, (int64_t)(blockIdx.x % blocks) * rows, (int)(rest % (unsigned)a.heads)};
}

#endif
