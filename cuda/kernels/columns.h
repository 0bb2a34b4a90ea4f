/*
 * The shape in which most kernels see a tensor: x[images][rows][channels] with the channels innermost, cut into blocks
 * of threads (lanes, lines). A lane owns V neighbouring channels for the whole block and walks down its rows, `lines`
 * apart, so that what depends on the channel is read once and a warp reads neighbouring addresses:
 *
 *              slab 0            slab 1
 *            lanes * V         lanes * V
 *          +-----------------+-----------------+
 *   chunk  | lines by turns  |                 |   one block each
 *          +-----------------+-----------------+
 *
 * V is 4 where all arrays allow 16-byte access, else 1. The same cut serves maps (each item on its own) and sums over
 * rows, which leave part[image][chunk][...] for a second kernel to add in the order of the chunks.
 */
#ifndef ED_CUDA_COLUMNS_H
#define ED_CUDA_COLUMNS_H

#include "cuda/gpu.h"

#define ED_COLUMN_THREADS 256
#define ED_COLUMN_LANES 32
#define ED_COLUMN_DEPTH 8    /* rows of a thread, unless there are too many chunks */
#define ED_COLUMN_CHUNKS 512 /* at most, of an image */

typedef struct ed_columns {
    int64_t images, rows, channels, chunk; /* chunk: rows of a block */
    int lanes, lines, slabs, chunks;
} ed_columns;

/* v: channels of a lane, of which `channels` is a multiple. */
static inline ed_columns ed_columns_of(int64_t images, int64_t rows, int64_t channels, int v)
{
    ed_columns c = {images, rows, channels, 1, 1, 1, 1, 1};
    int64_t packs = channels / v;
    if (images * rows * packs == 0) return c;
    c.slabs = (int)((packs + ED_COLUMN_LANES - 1) / ED_COLUMN_LANES);
    c.lanes = (int)((packs + c.slabs - 1) / c.slabs);
    c.lines = (int)ED_MIN(ED_COLUMN_THREADS / c.lanes, rows);
    int64_t deep = (rows + (int64_t)c.lines * ED_COLUMN_CHUNKS - 1) / ((int64_t)c.lines * ED_COLUMN_CHUNKS);
    c.chunk = c.lines * ED_MAX(deep, ED_COLUMN_DEPTH);
    c.chunks = (int)((rows + c.chunk - 1) / c.chunk);
    return c;
}

/* x[n,...,c] as images, positions and channels. */
static inline ed_columns ed_columns_of_images(const ed_shape *shape, int v)
{
    int64_t images = shape->dim[0], channels = ed_shape_last(shape);
    return ed_columns_of(images, ed_shape_count(shape) / (images * channels), channels, v);
}

static inline ed_columns ed_columns_of_rows(const ed_shape *shape, int v)
{
    return ed_columns_of(1, ed_shape_rows(shape), ed_shape_last(shape), v);
}

/* Bytes of part[images][chunks][values][channels], whichever V the launch will take. */
static inline size_t ed_part_bytes(int64_t images, int64_t rows, int64_t channels, int values)
{
    int chunks = ed_columns_of(images, rows, channels, 1).chunks;
    if (channels % 4 == 0) chunks = ED_MAX(chunks, ed_columns_of(images, rows, channels, 4).chunks);
    return (size_t)(images * chunks * values * channels) * sizeof(float);
}

/* Nothing to compute: a launch of no blocks is an error to CUDA. */
static inline bool ed_columns_empty(const ed_columns *c) { return c->images * c->rows * c->channels == 0; }
static inline unsigned ed_columns_grid(const ed_columns *c) { return (unsigned)(c->images * c->chunks * c->slabs); }
static inline dim3 ed_columns_block(const ed_columns *c) { return dim3((unsigned)c->lanes, (unsigned)c->lines); }

/* What a thread works on: rows first, first + lines, ... below last of its image, channels channel .. channel + V - 1.
 * `active` is false for lanes beyond the last channel, which only keep step. */
typedef struct ed_place {
    int64_t image, chunk, first, last, channel;
    bool active;
} ed_place;

template <int V> __device__ static inline ed_place ed_column_place(const ed_columns &c)
{
    ed_place place;
    unsigned block = blockIdx.x / (unsigned)c.slabs;
    place.channel = (int64_t)((blockIdx.x % (unsigned)c.slabs) * (unsigned)c.lanes + threadIdx.x) * V;
    place.chunk = block % (unsigned)c.chunks;
    place.image = block / (unsigned)c.chunks;
    place.first = place.chunk * c.chunk + threadIdx.y;
    place.last = ED_MIN((place.chunk + 1) * c.chunk, c.rows);
    place.active = place.channel < c.channels;
    return place;
}

/* ---------------------------------------------------------------- V items */

template <int V, class T> __device__ static inline void ed_load_pack(const T *p, float (&v)[V])
{
    if constexpr (V == 4) {
        float4 four = ed_load4(p);
        v[0] = four.x, v[1] = four.y, v[2] = four.z, v[3] = four.w;
    } else {
        for (int k = 0; k < V; k++) v[k] = ed_load(p + k);
    }
}

template <int V, class T> __device__ static inline void ed_store_pack(T *p, const float (&v)[V])
{
    if constexpr (V == 4) {
        ed_store4(p, make_float4(v[0], v[1], v[2], v[3]));
    } else {
        for (int k = 0; k < V; k++) ed_store(p + k, v[k]);
    }
}

/* ---------------------------------------------------------------- sums over rows */

/* Sums over the lines of the block, which line 0 gets: pairs at half the distance until one is left. All call. */
template <int K> __device__ static inline void ed_sum_lines(float (&v)[K])
{
    ED_SHARED(float, part, K *ED_COLUMN_THREADS);
    unsigned me = threadIdx.y * blockDim.x + threadIdx.x;
    for (unsigned lines = blockDim.y; lines > 1;) {
        unsigned half = (lines + 1) / 2;
        if (threadIdx.y >= half && threadIdx.y < lines)
            for (int k = 0; k < K; k++) part[k * ED_COLUMN_THREADS + me] = v[k];
        __syncthreads();
        if (threadIdx.y + half < lines)
            for (int k = 0; k < K; k++) v[k] += part[k * ED_COLUMN_THREADS + me + half * blockDim.x];
        __syncthreads();
        lines = half;
    }
}

/* The second kernel's cut: blocks of 32 columns and 8 lines that take the parts by turns. */
#define ED_FOLD_LANES 32
#define ED_FOLD_LINES 8

/*
 * s[image][j] = sum over r < parts of part[image][r][j], j < columns. total[image][columns] = s where not null. With
 * one image, also left[j] += s for j < split and right[j - split] += s for the others, where not null.
 */
template <class T>
__global__ void ED_THREADS(ED_FOLD_LANES *ED_FOLD_LINES)
    ed_fold_columns(const float *part, int64_t parts, int64_t columns, T *total, float *left, float *right,
                    int64_t split)
{
    int64_t blocks = (columns + ED_FOLD_LANES - 1) / ED_FOLD_LANES;
    int64_t image = blockIdx.x / blocks, j = blockIdx.x % blocks * ED_FOLD_LANES + threadIdx.x;
    float sum[1] = {0};
    if (j < columns)
        for (int64_t r = threadIdx.y; r < parts; r += ED_FOLD_LINES) sum[0] += part[(image * parts + r) * columns + j];
    ed_sum_lines(sum);
    if (threadIdx.y > 0 || j >= columns) return;
    if (total) ed_store(total + image * columns + j, sum[0]);
    if (left && j < split) left[j] += sum[0];
    if (right && j >= split) right[j - split] += sum[0];
}

template <class T>
static inline encdiff_status ed_fold(const ed_call *call, const float *part, int64_t images, int64_t parts,
                                     int64_t columns, T *total, float *left, float *right, int64_t split)
{
    if (images * columns == 0) return ENCDIFF_OK;
    unsigned grid = (unsigned)(images * ((columns + ED_FOLD_LANES - 1) / ED_FOLD_LANES));
    return ED_LAUNCH(call, ed_fold_columns<T>, grid, dim3(ED_FOLD_LANES, ED_FOLD_LINES), 0, part, parts, columns, total,
                     left, right, split);
}

/* function<T, 4>(arguments) where 16-byte access is possible, else function<T, 1>. */
#define ED_DISPATCH_PACK(type, wide, function, ...)                                                                    \
    ((type) == ED_BF16 ? (wide) ? function<__nv_bfloat16, 4>(__VA_ARGS__) : function<__nv_bfloat16, 1>(__VA_ARGS__)    \
     : (wide) ? function<float, 4>(__VA_ARGS__)                                                                        \
                       : function<float, 1>(__VA_ARGS__))

/* Whether the arrays may be read four items at a time, rows of `items` after one another; nullptr counts as yes. */
template <class... P> static inline bool ed_wide(int64_t items, const P *...arrays)
{
    return items % 4 == 0 && (reinterpret_cast<uintptr_t>(arrays) | ...) % 16 == 0;
}

#endif
