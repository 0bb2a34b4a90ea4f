/*
 * The distance of one feature map in LPIPS (Zhang et al. 2018): x, y, dy (N, ..., C); w (C), d, dd (N) f32.
 *
 *   lpips_distance        a = x / (|x| + e), b = y / (|y| + e) at every position, e = 1e-10
 *                         d[n] = mean over positions of sum_c w (a - b)^2
 *   lpips_distance_grad   with g = 2 w (b - a) dd / positions and s = 1 / (|y| + e):
 *                         dy = g s - y (sum_c g y) s^2 / |y|, without the second term where y is zero
 *
 * All =. A position belongs to `width` neighbouring lanes.
 */
#include "cuda/kernels/columns.h"
#include "cuda/kernels/reduce.h"

#define BLOCK 128
#define SMALL 1e-10f

typedef struct features {
    int64_t rows, channels; /* rows: positions of all images */
    int width;
} features;

/* The position of this thread, its first channel, and where its channels end (at once beyond the last position). */
template <int V> struct lpips_place {
    int64_t row, first, step, end;
};

template <int V> __device__ static inline lpips_place<V> lpips_row(const features &s)
{
    lpips_place<V> at;
    at.row = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) / s.width;
    at.first = (int64_t)(threadIdx.x % s.width) * V;
    at.step = (int64_t)s.width * V;
    at.end = at.row < s.rows ? s.channels : 0;
    return at;
}

/* |x|^2 and |y|^2 of the position. All lanes call. */
template <class T, int V>
__device__ static inline void lpips_lengths(const features &s, const lpips_place<V> &at, const T *x, const T *y,
                                            float &x_length, float &y_length)
{
    float a = 0, b = 0, u[V], v[V];
    for (int64_t c = at.first; c < at.end; c += at.step) {
        ed_load_pack(x + at.row * s.channels + c, u);
        ed_load_pack(y + at.row * s.channels + c, v);
        for (int k = 0; k < V; k++) a += u[k] * u[k], b += v[k] * v[k];
    }
    x_length = sqrtf(ed_sum_lanes(a, s.width));
    y_length = sqrtf(ed_sum_lanes(b, s.width));
}

/* -> each (rows): the distance at each position */
template <class T, int V>
__global__ void ED_THREADS(BLOCK) lpips_positions(features s, const T *x, const T *y, const float *w, float *each)
{
    lpips_place<V> at = lpips_row<V>(s);
    float x_length, y_length, sum = 0, u[V], v[V];
    lpips_lengths<T, V>(s, at, x, y, x_length, y_length);
    float a = 1 / (x_length + SMALL), b = 1 / (y_length + SMALL);
    for (int64_t c = at.first; c < at.end; c += at.step) {
        ed_load_pack(x + at.row * s.channels + c, u);
        ed_load_pack(y + at.row * s.channels + c, v);
        for (int k = 0; k < V; k++) {
            float off = u[k] * a - v[k] * b;
            sum += w[c + k] * off * off;
        }
    }
    sum = ed_sum_lanes(sum, s.width);
    if (at.first == 0 && at.end > 0) each[at.row] = sum;
}

static __global__ void ED_THREADS(BLOCK) lpips_means(const float *each, int64_t positions, float *d)
{
    float sum = 0;
    for (int64_t i = threadIdx.x; i < positions; i += BLOCK) sum += each[(int64_t)blockIdx.x * positions + i];
    sum = ed_sum_block<BLOCK>(sum);
    if (threadIdx.x == 0) d[blockIdx.x] = sum / (float)positions;
}

template <class T, int V>
__global__ void ED_THREADS(BLOCK)
    lpips_grad(features s, const T *x, const T *y, const float *w, const float *dd, int64_t positions, T *dy)
{
    lpips_place<V> at = lpips_row<V>(s);
    float x_length, y_length, along = 0, u[V], v[V];
    lpips_lengths<T, V>(s, at, x, y, x_length, y_length);
    float a = 1 / (x_length + SMALL), b = 1 / (y_length + SMALL),
          factor = at.end > 0 ? 2 * dd[at.row / positions] / (float)positions : 0;
    for (int64_t c = at.first; c < at.end; c += at.step) {
        ed_load_pack(x + at.row * s.channels + c, u);
        ed_load_pack(y + at.row * s.channels + c, v);
        for (int k = 0; k < V; k++) along += factor * w[c + k] * (v[k] * b - u[k] * a) * v[k];
    }
    along = ed_sum_lanes(along, s.width);
    float radial = y_length > 0 ? along * b * b / y_length : 0;
    for (int64_t c = at.first; c < at.end; c += at.step) {
        int64_t i = at.row * s.channels + c;
        ed_load_pack(x + i, u);
        ed_load_pack(y + i, v);
        for (int k = 0; k < V; k++) v[k] = factor * w[c + k] * (v[k] * b - u[k] * a) * b - v[k] * radial;
        ed_store_pack(dy + i, v);
    }
}

/* ---------------------------------------------------------------- launchers */

static features features_of(const ed_shape *shape, int v)
{
    int64_t channels = ed_shape_last(shape);
    return {ed_shape_rows(shape), channels, ed_power_above(channels / v, ED_WARP)};
}

static unsigned lpips_blocks(const features &s) { return (unsigned)((s.rows * s.width + BLOCK - 1) / BLOCK); }

static encdiff_status prepare(ed_env *, const ed_graph *graph, const ed_node *node, size_t *scratch, void **)
{
    *scratch = (size_t)ed_shape_rows(ed_graph_shape(graph, node->in[0])) * sizeof(float);
    return ENCDIFF_OK;
}

template <class T, int V> static encdiff_status launch(const ed_call *call)
{
    features s = features_of(ed_in_shape(call, 0), V);
    int64_t images = ed_in_shape(call, 0)->dim[0];
    float *each = static_cast<float *>(call->scratch);
    if (s.rows * s.channels == 0) return ENCDIFF_OK;
    ED_TRY(ED_LAUNCH(call, (lpips_positions<T, V>), lpips_blocks(s), BLOCK, 0, s, ed_in<T>(call, 0), ed_in<T>(call, 1),
                     ed_in<float>(call, 2), each));
    return ED_LAUNCH(call, lpips_means, (unsigned)images, BLOCK, 0, each, s.rows / images, ed_out<float>(call, 0));
}

template <class T, int V> static encdiff_status launch_grad(const ed_call *call)
{
    features s = features_of(ed_in_shape(call, 0), V);
    if (s.rows * s.channels == 0) return ENCDIFF_OK;
    return ED_LAUNCH(call, (lpips_grad<T, V>), lpips_blocks(s), BLOCK, 0, s, ed_in<T>(call, 0), ed_in<T>(call, 1),
                     ed_in<float>(call, 2), ed_in<float>(call, 3), s.rows / ed_in_shape(call, 0)->dim[0],
                     ed_out<T>(call, 0));
}

static bool wide_of(const ed_call *call)
{
    return ed_wide(ed_shape_last(ed_in_shape(call, 0)), call->in[0], call->in[1]);
}

static encdiff_status run(const ed_call *call)
{
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide_of(call), launch, call);
}
static encdiff_status run_grad(const ed_call *call)
{
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide_of(call) && ed_wide(0, call->out[0]), launch_grad, call);
}

ED_CUDA_KERNEL(lpips_distance, prepare, run);
ED_CUDA_KERNEL(lpips_distance_grad, nullptr, run_grad);
