/*
 * x (N, H, W, C), y (N, H', W', C). All =.
 *
 *   upsample   y[n,p,q] = alpha x[n,p/f,q/f]                pool      y[n,p,q] = alpha * sum of x over f x f
 *   max_pool   y = largest of x over 2 x 2, H' = H/2 and W' = W/2, odd rows and columns dropped
 *   window_pool  y = largest or mean of what of x lies in a window of size x size pixels, `stride` apart and padded
 *   max_pool_grad   dx: dy where x was the first largest of its 2 x 2, else 0
 *
 * A block takes a row of the output (of the input for max_pool_grad), its threads the pixels and packs of channels.
 */
#include "cuda/kernels/columns.h"

#define BLOCK 256
#define DEPTH 4 /* packs of a thread */

typedef struct images {
    int64_t n, h, w, c;    /* of the input */
    int64_t rows, columns; /* of the output */
    int factor;
    float alpha;
    unsigned blocks; /* of a row */
} images;

/* Calls f(n, p, q, channel) for each pack of this block's row. */
template <int V, class F>
__device__ static inline void each_pack(const images &s, int64_t rows, int64_t columns, const F &f)
{
    int64_t row = blockIdx.x / s.blocks, n = row / rows, p = row % rows;
    unsigned packs = (unsigned)(s.c / V), all = (unsigned)columns * packs;
    for (unsigned i = blockIdx.x % s.blocks * BLOCK + threadIdx.x; i < all; i += s.blocks * BLOCK)
        f(n, p, (int64_t)(i / packs), (int64_t)(i % packs) * V);
}

template <class T, int V> __global__ void ED_THREADS(BLOCK) resample_up(const T *x, T *y, images s)
{
    each_pack<V>(s, s.rows, s.columns, [&](int64_t n, int64_t p, int64_t q, int64_t channel) {
        float v[V];
        ed_load_pack(x + ((n * s.h + p / s.factor) * s.w + q / s.factor) * s.c + channel, v);
        for (int k = 0; k < V; k++) v[k] *= s.alpha;
        ed_store_pack(y + ((n * s.rows + p) * s.columns + q) * s.c + channel, v);
    });
}

template <class T, int V> __global__ void ED_THREADS(BLOCK) resample_pool(const T *x, T *y, images s)
{
    each_pack<V>(s, s.rows, s.columns, [&](int64_t n, int64_t p, int64_t q, int64_t channel) {
        float sum[V] = {};
        for (int i = 0; i < s.factor; i++)
            for (int j = 0; j < s.factor; j++) {
                float v[V];
                ed_load_pack(x + ((n * s.h + p * s.factor + i) * s.w + q * s.factor + j) * s.c + channel, v);
                for (int k = 0; k < V; k++) sum[k] += v[k];
            }
        for (int k = 0; k < V; k++) sum[k] *= s.alpha;
        ed_store_pack(y + ((n * s.rows + p) * s.columns + q) * s.c + channel, sum);
    });
}

/* Padding counts for nothing, and every window has a pixel of the image. */
template <class T, int V>
__global__ void ED_THREADS(BLOCK) resample_window(const T *x, T *y, images s, int stride, int pad, bool mean)
{
    each_pack<V>(s, s.rows, s.columns, [&](int64_t n, int64_t p, int64_t q, int64_t channel) {
        int64_t top = p * stride - pad, left = q * stride - pad, bottom = ED_MIN(top + s.factor, s.h),
                right = ED_MIN(left + s.factor, s.w), count = 0;
        float best[V] = {}, v[V];
        for (int64_t row = ED_MAX(top, 0); row < bottom; row++)
            for (int64_t column = ED_MAX(left, 0); column < right; column++, count++) {
                ed_load_pack(x + ((n * s.h + row) * s.w + column) * s.c + channel, v);
                for (int k = 0; k < V; k++) {
                    if (mean)
                        best[k] += v[k];
                    else if (count == 0 || v[k] > best[k])
                        best[k] = v[k];
                }
            }
        for (int k = 0; k < V && mean; k++) best[k] /= (float)count;
        ed_store_pack(y + ((n * s.rows + p) * s.columns + q) * s.c + channel, best);
    });
}

/* The largest of the 2 x 2 window (p, q), and which of its four pixels is the first that has it. */
template <class T, int V>
__device__ static inline void largest(const T *x, const images &s, int64_t n, int64_t p, int64_t q, int64_t channel,
                                      float (&best)[V], int (&which)[V])
{
    for (int i = 0; i < 4; i++) {
        float v[V];
        ed_load_pack(x + ((n * s.h + 2 * p + i / 2) * s.w + 2 * q + i % 2) * s.c + channel, v);
        for (int k = 0; k < V; k++)
            if (i == 0 || v[k] > best[k]) best[k] = v[k], which[k] = i;
    }
}

template <class T, int V> __global__ void ED_THREADS(BLOCK) resample_max(const T *x, T *y, images s)
{
    each_pack<V>(s, s.rows, s.columns, [&](int64_t n, int64_t p, int64_t q, int64_t channel) {
        float best[V];
        int which[V];
        largest<T, V>(x, s, n, p, q, channel, best, which);
        ed_store_pack(y + ((n * s.rows + p) * s.columns + q) * s.c + channel, best);
    });
}

/* By pixels of x, because dropped rows and columns get a zero. */
template <class T, int V> __global__ void ED_THREADS(BLOCK) resample_max_grad(const T *x, const T *dy, T *dx, images s)
{
    each_pack<V>(s, s.h, s.w, [&](int64_t n, int64_t row, int64_t column, int64_t channel) {
        float d[V] = {}, best[V];
        int which[V];
        int64_t p = row / 2, q = column / 2;
        if (p < s.rows && q < s.columns) {
            largest<T, V>(x, s, n, p, q, channel, best, which);
            ed_load_pack(dy + ((n * s.rows + p) * s.columns + q) * s.c + channel, d);
            for (int k = 0; k < V; k++)
                if (which[k] != row % 2 * 2 + column % 2) d[k] = 0;
        }
        ed_store_pack(dx + ((n * s.h + row) * s.w + column) * s.c + channel, d);
    });
}

/* ---------------------------------------------------------------- launchers */

/* y: shape of the output; w: pixels of a row that the blocks take. */
static images images_of(const ed_shape *x, const ed_shape *y, int64_t w, int v)
{
    images s = {x->dim[0], x->dim[1], x->dim[2], x->dim[3], y->dim[1], y->dim[2], 0, 0, 1};
    s.blocks = ed_blocks(w * (s.c / v), BLOCK * DEPTH, 1 << 16);
    return s;
}

static bool wide_of(const ed_call *call)
{
    return ed_wide(ed_in_shape(call, 0)->dim[3], call->in[0], call->in[2], call->out[0]);
}

enum resampling { UP, POOL, MAX, WINDOW };

template <class T, int V> static encdiff_status launch(const ed_call *call, resampling which)
{
    const ed_shape *y_shape = ed_out_shape(call, 0);
    images s = images_of(ed_in_shape(call, 0), y_shape, y_shape->dim[2], V);
    const T *x = ed_in<T>(call, 0);
    T *y = ed_out<T>(call, 0);
    unsigned grid = (unsigned)(s.n * s.rows) * s.blocks;
    if (ed_shape_count(y_shape) == 0) return ENCDIFF_OK;
    if (which == MAX) return ED_LAUNCH(call, (resample_max<T, V>), grid, BLOCK, 0, x, y, s);
    if (which == WINDOW) {
        ed_attributes attr = call->node->attr;
        s.factor = attr.window.size;
        return ED_LAUNCH(call, (resample_window<T, V>), grid, BLOCK, 0, x, y, s, attr.window.stride, attr.window.pad,
                         attr.window.kind == ED_WINDOW_MEAN);
    }
    s.factor = call->node->attr.resample.factor;
    s.alpha = call->node->attr.resample.alpha;
    if (which == UP) return ED_LAUNCH(call, (resample_up<T, V>), grid, BLOCK, 0, x, y, s);
    return ED_LAUNCH(call, (resample_pool<T, V>), grid, BLOCK, 0, x, y, s);
}

/* x y dy -> dx */
template <class T, int V> static encdiff_status launch_max_grad(const ed_call *call)
{
    images s = images_of(ed_in_shape(call, 0), ed_in_shape(call, 1), ed_in_shape(call, 0)->dim[2], V);
    if (s.n * s.h * s.w * s.c == 0) return ENCDIFF_OK;
    return ED_LAUNCH(call, (resample_max_grad<T, V>), (unsigned)(s.n * s.h) * s.blocks, BLOCK, 0, ed_in<T>(call, 0),
                     ed_in<T>(call, 2), ed_out<T>(call, 0), s);
}

static encdiff_status run_upsample(const ed_call *call)
{
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide_of(call), launch, call, UP);
}
static encdiff_status run_pool(const ed_call *call)
{
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide_of(call), launch, call, POOL);
}
static encdiff_status run_max_pool(const ed_call *call)
{
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide_of(call), launch, call, MAX);
}
static encdiff_status run_window_pool(const ed_call *call)
{
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide_of(call), launch, call, WINDOW);
}
static encdiff_status run_max_pool_grad(const ed_call *call)
{
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide_of(call), launch_max_grad, call);
}

ED_CUDA_KERNEL(upsample, nullptr, run_upsample);
ED_CUDA_KERNEL(pool, nullptr, run_pool);
ED_CUDA_KERNEL(max_pool, nullptr, run_max_pool);
ED_CUDA_KERNEL(window_pool, nullptr, run_window_pool);
ED_CUDA_KERNEL(max_pool_grad, nullptr, run_max_pool_grad);
