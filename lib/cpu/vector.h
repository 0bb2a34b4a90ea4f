/*
 * Vectors of the width that this file is compiled for, and the functions that dominate elementwise work. Portable:
 * GCC's vector extension, which clang knows too. See cpu.h for how a kernel is compiled once a level.
 *
 * Loops of plain arithmetic are left to the compiler and marked ED_VECTORISE. Loops with exp, and sums and products,
 * which it may not reorder, use ed_vec: a function takes `lanes`, is inlined with the constant ED_LANES for the whole
 * vectors of a row and with what remains for its end.
 */
#ifndef ED_CPU_VECTOR_H
#define ED_CPU_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define ED_INLINE static inline __attribute__((always_inline, unused))

/* Before a loop whose iterations are independent, also where an output is the same memory as an input. */
#if defined(__clang__)
#define ED_VECTORISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define ED_VECTORISE _Pragma("GCC ivdep")
#endif

/* Before a short loop of products: the counter then costs little beside them. */
#if defined(__clang__)
#define ED_UNROLL _Pragma("clang loop unroll_count(8)")
#else
#define ED_UNROLL _Pragma("GCC unroll 8")
#endif

#if defined(__AVX512F__)
#define ED_LANES 16
#elif defined(__AVX__)
#define ED_LANES 8
#else
#define ED_LANES 4
#endif

typedef float ed_vec __attribute__((vector_size(4 * ED_LANES)));
typedef int32_t ed_ivec __attribute__((vector_size(4 * ED_LANES)));

ED_INLINE ed_vec ed_load_f32(const float *p)
{
    ed_vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

ED_INLINE void ed_store_f32(float *p, ed_vec v) { memcpy(p, &v, sizeof v); }

/* The upper half of a float. A struct, so that nobody computes with the bits. */
typedef struct ed_bf16 {
    uint16_t bits;
} ed_bf16;

typedef uint16_t ed_hvec __attribute__((vector_size(2 * ED_LANES)));
typedef uint32_t ed_uvec __attribute__((vector_size(4 * ED_LANES)));

ED_INLINE ed_vec ed_load_bf16(const ed_bf16 *p)
{
    ed_hvec half;
    memcpy(&half, p, sizeof half);
    return (ed_vec)(__builtin_convertvector(half, ed_uvec) << 16);
}

/* Rounds to nearest, ties to even; NaN stays NaN. The processor's own instruction takes numbers below 2^-126 for 0. */
ED_INLINE void ed_store_bf16(ed_bf16 *p, ed_vec v)
{
#if defined(__AVX512BF16__)
    __m256bh half = _mm512_cvtneps_pbh((__m512)v);
    memcpy(p, &half, sizeof half);
#else
    ed_uvec bits = (ed_uvec)v, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    ed_uvec number = (ed_uvec)(v == v);
    ed_hvec half = __builtin_convertvector((rounded & number) | (0x7fc0 & ~number), ed_hvec);
    memcpy(p, &half, sizeof half);
#endif
}

ED_INLINE float ed_get_f32(const float *p) { return *p; }
ED_INLINE void ed_put_f32(float *p, float x) { *p = x; }

ED_INLINE float ed_get_bf16(const ed_bf16 *p)
{
    uint32_t bits = (uint32_t)p->bits << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

ED_INLINE void ed_put_bf16(ed_bf16 *p, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    p->bits = (uint16_t)(x == x ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0);
}

/* One source serves both: vectors and single numbers from and to memory of either type. */
#define ed_load(p) _Generic(*(p), float : ed_load_f32, ed_bf16 : ed_load_bf16)(p)
#define ed_store(p, v) _Generic(*(p), float : ed_store_f32, ed_bf16 : ed_store_bf16)(p, v)
#define ed_load_some(p, lanes) _Generic(*(p), float : ed_load_some_f32, ed_bf16 : ed_load_some_bf16)(p, lanes)
#define ed_store_some(p, v, lanes) _Generic(*(p), float : ed_store_some_f32, ed_bf16 : ed_store_some_bf16)(p, v, lanes)
#define ed_get(p) _Generic(*(p), float : ed_get_f32, ed_bf16 : ed_get_bf16)(p)
#define ed_put(p, x) _Generic(*(p), float : ed_put_f32, ed_bf16 : ed_put_bf16)(p, x)

/* The first `lanes` lanes, the others zero. */
ED_INLINE ed_vec ed_load_some_f32(const float *p, int lanes)
{
    if (lanes == ED_LANES) return ed_load(p);
    float copy[ED_LANES] = {0};
    for (int i = 0; i < lanes; i++) copy[i] = p[i];
    return ed_load(copy);
}

ED_INLINE void ed_store_some_f32(float *p, ed_vec v, int lanes)
{
    if (lanes == ED_LANES) {
        ed_store(p, v);
        return;
    }
    float copy[ED_LANES];
    ed_store(copy, v);
    for (int i = 0; i < lanes; i++) p[i] = copy[i];
}

ED_INLINE ed_vec ed_load_some_bf16(const ed_bf16 *p, int lanes)
{
    if (lanes == ED_LANES) return ed_load(p);
    ed_bf16 copy[ED_LANES] = {{0}};
    for (int i = 0; i < lanes; i++) copy[i] = p[i];
    return ed_load(copy);
}

ED_INLINE void ed_store_some_bf16(ed_bf16 *p, ed_vec v, int lanes)
{
    if (lanes == ED_LANES) {
        ed_store(p, v);
        return;
    }
    ed_bf16 copy[ED_LANES];
    ed_store(copy, v);
    for (int i = 0; i < lanes; i++) p[i] = copy[i];
}

ED_INLINE ed_vec ed_splat(float x) { return x - (ed_vec){0}; }

ED_INLINE ed_vec ed_select(ed_ivec mask, ed_vec a, ed_vec b)
{
    return (ed_vec)((mask & (ed_ivec)a) | (~mask & (ed_ivec)b));
}

/* a > b ? a : b and a < b ? a : b, so that a NaN in b stays. */
ED_INLINE ed_vec ed_vmax(ed_vec a, ed_vec b)
{
#if defined(__AVX512F__)
    return (ed_vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX__)
    return (ed_vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (ed_vec)_mm_max_ps((__m128)a, (__m128)b);
#else
    return ed_select(a > b, a, b);
#endif
}

ED_INLINE ed_vec ed_vmin(ed_vec a, ed_vec b)
{
#if defined(__AVX512F__)
    return (ed_vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX__)
    return (ed_vec)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (ed_vec)_mm_min_ps((__m128)a, (__m128)b);
#else
    return ed_select(a < b, a, b);
#endif
}

ED_INLINE ed_vec ed_vabs(ed_vec x) { return (ed_vec)((ed_ivec)x & 0x7fffffff); }

/* Pairwise, so that the order does not depend on the compiler. */
ED_INLINE float ed_sum_lanes(ed_vec v)
{
    for (int half = ED_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    return v[0];
}

/* ---------------------------------------------------------------- exp and log */

/*
 * Adding ED_ROUND to a small number rounds it to an integer n, which then stands with the exponent's bias in the low
 * bits: shifted left by 23 they are 2^n.
 */
#define ED_ROUND (12582912.0f + 127.0f) /* 1.5 * 2^23 and the bias */

/*
 * e^x as *power = 2^n and the return value e^r - 1, with n = round(x / ln 2) and r = x - n ln 2, |r| <= ln(2) / 2,
 * where ln 2 is subtracted in two parts. The polynomial is a minimax fit of our own (3e-9); e^x has a relative error of
 * 2e-7. Saturates below -87 and above 88; NaN stays NaN.
 */
ED_INLINE ed_vec ed_vexp_parts(ed_vec x, ed_vec *power)
{
    x = ed_vmin(ed_splat(88.0f), ed_vmax(ed_splat(-87.0f), x));
    ed_vec shifted = x * 1.44269504f + ED_ROUND, n = shifted - ED_ROUND;
    ed_vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    ed_vec p = r * 1.39506023e-3f + 8.36895351e-3f;
    p = p * r + 4.16662041e-2f;
    p = p * r + 1.66665183e-1f;
    p = p * r + 5.00000010e-1f;
    *power = (ed_vec)((ed_ivec)shifted << 23);
    return p * (r * r) + r;
}

ED_INLINE ed_vec ed_vexp(ed_vec x)
{
    ed_vec power, rest = ed_vexp_parts(x, &power);
    return power * rest + power;
}

/* e^x - 1, right to the last bits near 0 too. */
ED_INLINE ed_vec ed_vexpm1(ed_vec x)
{
    ed_vec power, rest = ed_vexp_parts(x, &power);
    return power * rest + (power - 1.0f);
}

/* 2^x for x < 128, of relative error 2e-7: what attention uses, whose scores are in base 2. Saturates below -126. */
ED_INLINE ed_vec ed_vexp2(ed_vec x)
{
    x = ed_vmax(ed_splat(-126.0f), x);
    ed_vec shifted = x + ED_ROUND, f = x - (shifted - ED_ROUND);
    ed_vec p = f * 1.32645907e-3f + 9.67161901e-3f;
    p = p * f + 5.55073503e-2f;
    p = p * f + 2.40222405e-1f;
    p = p * f + 6.93146976e-1f;
    ed_vec power = (ed_vec)((ed_ivec)shifted << 23);
    return power * (p * f) + power;
}

/* Natural logarithm of normal positive numbers: x = 2^n f, log f = 2 artanh((f - 1) / (f + 1)). Relative error 2e-7. */
ED_INLINE ed_vec ed_vlog(ed_vec x)
{
    ed_ivec n = ((ed_ivec)x - 0x3f3504f3) >> 23; /* f between sqrt(1/2) and sqrt(2) */
    ed_vec f = (ed_vec)((ed_ivec)x - (n << 23));
    ed_vec s = (f - 1.0f) / (f + 1.0f), z = s * s;
    ed_vec p = (z * 2.98851869e-1f + 3.99770794e-1f) * z + 6.66667798e-1f;
    ed_vec count = __builtin_convertvector(n, ed_vec);
    return count * 0.693147181f + (s * 2.0f + s * z * p);
}

/* ---------------------------------------------------------------- of activations */

ED_INLINE ed_vec ed_vsigmoid(ed_vec x) { return 1.0f / (1.0f + ed_vexp(-x)); }
ED_INLINE ed_vec ed_vsilu(ed_vec x) { return x / (1.0f + ed_vexp(-x)); }

/* The derivative of silu(x) = x s(x), where s is the sigmoid: s (1 + x (1 - s)). */
ED_INLINE ed_vec ed_vsilu_slope(ed_vec x)
{
    ed_vec s = ed_vsigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

/*
 * The standard normal distribution: *density = exp(-x^2/2) (without 1/sqrt(2 pi)) and the return value
 * P(x) = erfc(-x / sqrt 2) / 2. The tail is exp(-x^2/2) t Q(t) with t = 1/(1 + 0.23 |x|), the form of Abramowitz and
 * Stegun 7.1.26, with a polynomial Q of our own fit: absolute error 6e-8, so that gelu(x) = x P(x) is good to 1e-7.
 */
ED_INLINE ed_vec ed_vnormal_cdf(ed_vec x, ed_vec *density)
{
    ed_vec t = 1.0f / (1.0f + 0.23f * ed_vabs(x));
    *density = ed_vexp(-0.5f * x * x);
    ed_vec q = t * -7.50490894e-2f + 2.73676876e-1f;
    q = q * t - 2.43240116e-1f;
    q = q * t + 2.61130481e-1f;
    q = q * t - 4.67717187e-3f;
    q = q * t + 1.07283161e-1f;
    q = q * t + 8.89562893e-2f;
    q = q * t + 9.19195720e-2f;
    ed_vec tail = *density * t * q;
    return ed_select(x > 0, 1.0f - tail, tail);
}

#endif
