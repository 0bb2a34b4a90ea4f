/*
 * Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
 * A number is a function of (seed, purpose, step, index): nothing is stored, nothing depends on order.
 */
#include <math.h>

#include "base/base.h"

static inline void round_once(uint32_t c[4], uint32_t k0, uint32_t k1)
{
    uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
    uint32_t c1 = c[1], c3 = c[3];
    c[0] = (uint32_t)(b >> 32) ^ c1 ^ k0;
    c[1] = (uint32_t)b;
    c[2] = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c[3] = (uint32_t)a;
}

/* Counter: index (64 bits), step (low 56 bits), purpose (high 8 bits); key: seed. */
void ed_philox(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index, uint32_t out[4])
{
    uint64_t high = (step & 0x00FFFFFFFFFFFFFFu) | (uint64_t)purpose << 56;
    uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)high, (uint32_t)(high >> 32)};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int i = 0; i < 10; i++) {
        round_once(c, k0, k1);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

static float unit(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

/* Box-Muller on two words; the first uniform is in (0, 1]. */
static void normal_pair(uint32_t a, uint32_t b, float out[2])
{
    float radius = sqrtf(-2.0f * logf((float)((a >> 8) + 1) * 0x1p-24f)), angle = 6.28318530718f * unit(b);
    out[0] = radius * cosf(angle);
    out[1] = radius * sinf(angle);
}

/* Four items share one counter. */
static void four_uniform(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t block, float out[4])
{
    uint32_t w[4];
    ed_philox(seed, purpose, step, block, w);
    for (int i = 0; i < 4; i++) out[i] = unit(w[i]);
}

static void four_normal(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t block, float out[4])
{
    uint32_t w[4];
    ed_philox(seed, purpose, step, block, w);
    normal_pair(w[0], w[1], out);
    normal_pair(w[2], w[3], out + 2);
}

typedef void four_function(uint64_t, ed_purpose, uint64_t, uint64_t, float[4]);

static void fill(four_function *four, uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t first, size_t count,
                 float *out)
{
    float block[4];
    for (size_t i = 0; i < count;) {
        uint64_t item = first + i;
        size_t skip = item % 4, n = ED_MIN(4 - skip, count - i);
        four(seed, purpose, step, item / 4, block);
        memcpy(out + i, block + skip, n * sizeof *out);
        i += n;
    }
}

void ed_fill_uniform(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t first, size_t count, float *out)
{
    fill(four_uniform, seed, purpose, step, first, count, out);
}

void ed_fill_normal(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t first, size_t count, float *out)
{
    fill(four_normal, seed, purpose, step, first, count, out);
}

float ed_uniform(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index)
{
    float value;
    ed_fill_uniform(seed, purpose, step, index, 1, &value);
    return value;
}

float ed_normal(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index)
{
    float value;
    ed_fill_normal(seed, purpose, step, index, 1, &value);
    return value;
}

/* A 64-bit product keeps the bias of the multiply-shift below 2^-32. */
uint32_t ed_below(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index, uint32_t bound)
{
    uint32_t w[4];
    ed_philox(seed, purpose, step, index, w);
    uint64_t wide = (uint64_t)w[0] << 32 | w[1];
    return (uint32_t)(((__uint128_t)wide * bound) >> 64);
}

/*
 * A four-round Feistel network on 2b bits is a permutation of [0, 4^b); walking along the cycle until the value is
 * below `count` makes it one of [0, count). 4^b < 4 count, so fewer than four steps on average.
 */
uint64_t ed_permute(uint64_t seed, ed_purpose purpose, uint64_t step, uint64_t index, uint64_t count)
{
    unsigned half = 1;
    while (((uint64_t)1 << (2 * half)) < count) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1, value = index;
    do {
        uint64_t left = value >> half, right = value & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint32_t w[4];
            ed_philox(seed, purpose, step, right | round << 60, w);
            uint64_t mixed = ((uint64_t)w[0] << 32 | w[1]) & mask;
            uint64_t next = left ^ mixed;
            left = right;
            right = next;
        }
        value = left << half | right;
    } while (value >= count);
    return value;
}
