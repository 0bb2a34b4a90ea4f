/*
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011), the numbers of lib/base/philox.c: a function of seed, purpose, step
 * and index. Four uniform numbers in [0, 1) share one counter.
 */
#ifndef ED_CUDA_RANDOM_H
#define ED_CUDA_RANDOM_H

#include "cuda/gpu.h"

/* Counter: index (64 bits), step (low 56 bits), purpose (high 8 bits); key: seed. */
__device__ static inline uint4 ed_random_words(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index)
{
    uint64_t high = (step & 0x00FFFFFFFFFFFFFFu) | (uint64_t)purpose << 56;
    uint4 c = make_uint4((unsigned)index, (unsigned)(index >> 32), (unsigned)high, (unsigned)(high >> 32));
    unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
    for (int i = 0; i < 10; i++) {
        uint64_t a = (uint64_t)0xD2511F53u * c.x, b = (uint64_t)0xCD9E8D57u * c.z;
        c = make_uint4((unsigned)(b >> 32) ^ c.y ^ k0, (unsigned)b, (unsigned)(a >> 32) ^ c.w ^ k1, (unsigned)a);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

__device__ static inline float ed_unit(unsigned word) { return (float)(word >> 8) * 0x1p-24f; }

#endif
