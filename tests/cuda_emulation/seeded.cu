/*
 * Kernels with one bug each, for seeded.cpp: with BUG they have it, without they are right. Where it can be so, the
 * bug does not show in the result on the emulation: what finds it must have looked for it.
 */
#include "cuda/gpu.h"

#define SEEDED template <bool BUG> __global__ void

/* Each block turns its 64 items round. The barrier puts the writes of all before the reads of all. */
SEEDED missing_block_barrier(const float *x, float *y)
{
    ED_SHARED(float, part, 64);
    unsigned i = threadIdx.x;
    part[i] = 0;
    __syncthreads();
    part[i] = x[i];
    if (!BUG) __syncthreads();
    y[i] = part[63 - i];
}

/* The items cross from one warp to the other, which a warp's barrier does not order. */
SEEDED warp_barrier_for_block(const float *x, float *y)
{
    ED_SHARED(float, part, 64);
    unsigned i = threadIdx.x;
    part[i] = 0;
    __syncthreads();
    part[i] = x[i];
    if (BUG)
        __syncwarp();
    else
        __syncthreads();
    y[i] = part[(i + 32) % 64];
}

/* Lanes of one warp do not run in step since compute capability 7.0. */
SEEDED missing_warp_barrier(const float *x, float *y)
{
    ED_SHARED(float, part, 32);
    unsigned i = threadIdx.x;
    part[i] = 0;
    __syncwarp();
    part[i] = x[i];
    if (!BUG) __syncwarp();
    y[i] = part[31 - i];
}

/* The second round overwrites what slow threads still read of the first. */
SEEDED missing_barrier_before_reuse(const float *x, float *y)
{
    ED_SHARED(float, part, 64);
    unsigned i = threadIdx.x;
    for (int round = 0; round < 2; round++) {
        part[i] = x[i] + (float)round;
        __syncthreads();
        y[round * 64 + i] = part[63 - i];
        if (!BUG) __syncthreads();
    }
}

/* Everybody writes the same number. */
SEEDED write_race_with_the_right_answer(const float *x, float *y)
{
    if (BUG || threadIdx.x == 0) y[0] = x[0];
}

/* The blocks' ranges overlap by one item, to which both write what belongs there. */
SEEDED blocks_that_overlap(const float *x, float *y, int64_t each)
{
    int64_t first = blockIdx.x * each;
    for (int64_t i = threadIdx.x; i < each + (BUG && blockIdx.x == 0); i += blockDim.x) y[first + i] = x[first + i];
}

SEEDED sum_without_atomics(unsigned *count)
{
    if (BUG)
        *count += 1;
    else
        atomicAdd(count, 1u);
}

SEEDED shared_overrun(const float *x, float *y)
{
    ED_SHARED(float, part, 64);
    unsigned i = threadIdx.x;
    part[i] = x[i];
    if (i == 0 && BUG) part[64] = 0; /* one too far */
    __syncthreads();
    y[i] = part[i];
}

SEEDED dynamic_shared_overrun(const float *x, float *y)
{
    ED_DYNAMIC_SHARED(float, part);
    unsigned i = threadIdx.x;
    part[BUG ? i + 1 : i] = x[i];
    y[i] = part[BUG ? i + 1 : i];
}

SEEDED global_overrun(const float *x, float *y, int64_t n)
{
    for (int64_t i = threadIdx.x; BUG ? i <= n : i < n; i += blockDim.x) y[i] = x[BUG && i == n ? 0 : i];
}

SEEDED misaligned_vector(const float *x, float *y)
{
    float4 v = ed_load4(x + threadIdx.x * 4 + (BUG ? 1 : 0));
    ed_store4(y + threadIdx.x * 4, v);
}

/* Whole numbers, in which no poison shows. */
SEEDED copy_words(const unsigned *x, unsigned *y) { y[threadIdx.x] = x[threadIdx.x]; }

SEEDED shared_never_written(const float *x, float *y)
{
    ED_SHARED(unsigned, part, 64);
    unsigned i = threadIdx.x;
    if (!BUG || i > 0) part[i] = (unsigned)x[i];
    __syncthreads();
    y[i] = (float)(part[i] % 2);
}

SEEDED barrier_in_a_branch(const float *x, float *y)
{
    unsigned i = threadIdx.x;
    if (!BUG || i < 32) __syncthreads();
    y[i] = x[i];
}

SEEDED shuffle_with_an_ended_lane(const float *x, float *y)
{
    unsigned i = threadIdx.x;
    if (BUG && i == 31) return;
    y[i] = __shfl_xor_sync(0xffffffffu, x[i], 1);
}

SEEDED copy_items(const float *x, float *y) { y[blockIdx.x * blockDim.x + threadIdx.x] = x[threadIdx.x]; }
