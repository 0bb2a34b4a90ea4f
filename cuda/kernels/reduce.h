/*
 * Sums over the threads of a warp or a block, each in one fixed order, so that a result is the same in every run.
 */
#ifndef ED_CUDA_REDUCE_H
#define ED_CUDA_REDUCE_H

#include "cuda/gpu.h"

#define ED_WARP 32
#define ED_ALL_LANES 0xffffffffu

/* Over groups of `width` neighbouring lanes, a power of two; every lane gets the sum. All lanes of the warp call. */
template <class T> __device__ static inline T ed_sum_lanes(T value, int width)
{
    for (int off = width / 2; off > 0; off /= 2) value += __shfl_xor_sync(ED_ALL_LANES, value, off);
    return value;
}

/* Over a block of BLOCK threads in one dimension; thread 0 gets the sum. */
template <int BLOCK, class T> __device__ static inline T ed_sum_block(T value)
{
    ED_SHARED(T, part, BLOCK / ED_WARP);
    value = ed_sum_lanes(value, ED_WARP);
    if (threadIdx.x % ED_WARP == 0) part[threadIdx.x / ED_WARP] = value;
    __syncthreads();
    T sum = 0;
    if (threadIdx.x == 0)
        for (int i = 0; i < BLOCK / ED_WARP; i++) sum += part[i];
    __syncthreads(); /* part may be used again */
    return sum;
}

/* The smallest power of two that is at least `n`, at most `most` (a power of two). */
static inline int ed_power_above(int64_t n, int most)
{
    int power = 1;
    while (power < n && power < most) power *= 2;
    return power;
}

#endif
