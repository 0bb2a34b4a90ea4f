/*
 * Mean and sum of squared deviations of the channels of x[images][rows][channels], by parts that are united with the
 * formula of Chan, Golub and LeVeque (1979). Group norm and batch norm start from them.
 */
#ifndef ED_CUDA_MOMENTS_H
#define ED_CUDA_MOMENTS_H

#include "cuda/kernels/columns.h"
#include "cuda/kernels/reduce.h"

typedef struct ed_moments {
    float count, mean, squares; /* squares: of the deviations from the mean, summed */
} ed_moments;

__device__ static inline ed_moments ed_unite(ed_moments a, ed_moments b)
{
    if (b.count == 0) return a;
    if (a.count == 0) return b;
    float count = a.count + b.count, off = b.mean - a.mean, share = b.count / count;
    return {count, a.mean + off * share, a.squares + b.squares + off * off * a.count * share};
}

/* Over the lanes of a warp; lane 0 has the union. All lanes call. */
__device__ static inline ed_moments ed_unite_lanes(ed_moments sum)
{
    for (int off = ED_WARP / 2; off > 0; off /= 2) {
        ed_moments other = {__shfl_down_sync(ED_ALL_LANES, sum.count, off),
                            __shfl_down_sync(ED_ALL_LANES, sum.mean, off),
                            __shfl_down_sync(ED_ALL_LANES, sum.squares, off)};
        sum = ed_unite(sum, other);
    }
    return sum;
}

/* The union over the lines of a block for V channels, which line 0 gets. All call. */
template <int V> __device__ static inline void ed_unite_lines(float count, float (&mean)[V], float (&squares)[V])
{
    ED_SHARED(float, means, V *ED_COLUMN_THREADS);
    ED_SHARED(float, deviations, V *ED_COLUMN_THREADS);
    ED_SHARED(float, counts, ED_COLUMN_THREADS);
    unsigned me = threadIdx.y * blockDim.x + threadIdx.x;
    for (unsigned lines = blockDim.y; lines > 1;) {
        unsigned half = (lines + 1) / 2;
        if (threadIdx.y >= half && threadIdx.y < lines) {
            counts[me] = count;
            for (int k = 0; k < V; k++) {
                means[k * ED_COLUMN_THREADS + me] = mean[k];
                deviations[k * ED_COLUMN_THREADS + me] = squares[k];
            }
        }
        __syncthreads();
        if (threadIdx.y + half < lines) {
            unsigned other = me + half * blockDim.x;
            for (int k = 0; k < V; k++) {
                ed_moments sum = ed_unite(
                    {count, mean[k], squares[k]},
                    {counts[other], means[k * ED_COLUMN_THREADS + other], deviations[k * ED_COLUMN_THREADS + other]});
                mean[k] = sum.mean;
                squares[k] = sum.squares;
            }
            count += counts[other];
        }
        __syncthreads();
        lines = half;
    }
}

/*
 * x -> part (images, chunks, 2, channels): mean and squares over the chunk. A thread sums deviations from its first
 * item, which is one of the few that it sums, so that they do not cancel much.
 */
template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS) ed_column_moments(const T *x, ed_columns c, float *part)
{
    ed_place at = ed_column_place<V>(c);
    float count = 0, mean[V] = {}, squares[V] = {};
    if (at.active && at.first < at.last) {
        float shift[V];
        ed_load_pack(x + (at.image * c.rows + at.first) * c.channels + at.channel, shift);
        for (int64_t row = at.first; row < at.last; row += c.lines) {
            float v[V];
            ed_load_pack(x + (at.image * c.rows + row) * c.channels + at.channel, v);
            for (int k = 0; k < V; k++) {
                float off = v[k] - shift[k];
                mean[k] += off;
                squares[k] += off * off;
            }
            count++;
        }
        for (int k = 0; k < V; k++) {
            squares[k] -= mean[k] * mean[k] / count;
            if (squares[k] < 0) squares[k] = 0; /* NaN stays */
            mean[k] = shift[k] + mean[k] / count;
        }
    }
    ed_unite_lines(count, mean, squares);
    if (threadIdx.y > 0 || !at.active) return;
    float *to = part + (at.image * c.chunks + at.chunk) * 2 * c.channels + at.channel;
    for (int k = 0; k < V; k++) {
        to[k] = mean[k];
        to[c.channels + k] = squares[k];
    }
}

/* What ed_column_moments left for one channel of one chunk. */
__device__ static inline ed_moments ed_part_moments(const float *part, const ed_columns &c, int64_t image,
                                                    int64_t chunk, int64_t channel)
{
    const float *from = part + (image * c.chunks + chunk) * 2 * c.channels + channel;
    return {(float)(ED_MIN((chunk + 1) * c.chunk, c.rows) - chunk * c.chunk), from[0], from[c.channels]};
}

#endif
