/*
 * Vectors of the width that this file is compiled for, and the functions that dominate elementwise work. Portable:
 * GCC's vector extension, which clang knows too. See cpu.h for how a kernel is compiled once a level.
 *
 * Two styles. Elementwise kernels are plain loops over the scalar functions below, marked ED_VECTORISE, and the
 * compiler makes vectors of them. Sums and products, which it may not reorder, use ed_vec explicitly.
 */
#ifndef ED_CPU_VECTOR_H
#define ED_CPU_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define ED_INLINE static inline __attribute__((always_inline, unused))

/* Before a loop whose iterations are independent, also where an output is the same memory as an input. */
#if defined(__clang__)
#define ED_VECTORISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define ED_VECTORISE _Pragma("GCC ivdep")
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

ED_INLINE ed_vec ed_load(const float *p)
{
    ed_vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

ED_INLINE void ed_store(float *p, ed_vec v) { memcpy(p, &v, sizeof v); }

/* The first `count` lanes, the others zero; a plain load where count is known to be ED_LANES. */
ED_INLINE ed_vec ed_load_some(const float *p, int count)
{
    ed_vec v = {0};
    if (count == ED_LANES) return ed_load(p);
    for (int i = 0; i < count; i++) v[i] = p[i];
    return v;
}

ED_INLINE void ed_store_some(float *p, ed_vec v, int count)
{
    if (count == ED_LANES)
        ed_store(p, v);
    else
        for (int i = 0; i < count; i++) p[i] = v[i];
}

ED_INLINE ed_vec ed_splat(float x) { return x - (ed_vec){0}; }

ED_INLINE ed_vec ed_select(ed_ivec mask, ed_vec a, ed_vec b)
{
    return (ed_vec)((mask & (ed_ivec)a) | (~mask & (ed_ivec)b));
}

ED_INLINE ed_vec ed_vmax(ed_vec a, ed_vec b) { return ed_select(a > b, a, b); }

/* Pairwise, so that the order does not depend on the compiler. */
ED_INLINE float ed_sum_lanes(ed_vec v)
{
    for (int half = ED_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    return v[0];
}

/*
 * exp(x) = 2^n e^r with n = round(x / ln 2) and |r| <= ln(2) / 2; ln 2 is subtracted in two parts, e^r is a minimax
 * polynomial of our own fit (3e-9). Relative error 2e-7. Saturates below -87 and above 88; NaN stays NaN.
 */
#define ED_EXP_LOW (-87.0f)
#define ED_EXP_HIGH 88.0f
#define ED_LOG2_E 1.44269504f
#define ED_LN2_HIGH 0.693359375f
#define ED_LN2_LOW (-2.12194440e-4f)
#define ED_ROUND 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, kept in the low bits */
#define ED_ROUND_BITS 0x4B400000
#define ED_EXP_POLYNOMIAL(r)                                                                                           \
    ((((1.39506023e-3f * (r) + 8.36895351e-3f) * (r) + 4.16662041e-2f) * (r) + 1.66665183e-1f) * (r) + 5.00000010e-1f)

/* e^x in two factors: `power` = 2^n, and `rest` = e^r - 1 without cancellation. */
ED_INLINE void ed_exp_parts(float x, float *power, float *rest)
{
    x = x < ED_EXP_LOW ? ED_EXP_LOW : x;
    x = x > ED_EXP_HIGH ? ED_EXP_HIGH : x;
    float shifted = x * ED_LOG2_E + ED_ROUND, n = shifted - ED_ROUND;
    float r = (x - n * ED_LN2_HIGH) - n * ED_LN2_LOW;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)((uint32_t)(bits - ED_ROUND_BITS + 127) << 23);
    memcpy(power, &bits, sizeof bits);
    *rest = ED_EXP_POLYNOMIAL(r) * (r * r) + r;
}

ED_INLINE float ed_exp(float x)
{
    float power, rest;
    ed_exp_parts(x, &power, &rest);
    return power * (rest + 1.0f);
}

/* e^x - 1, right to the last bits near 0 too. */
ED_INLINE float ed_expm1(float x)
{
    float power, rest;
    ed_exp_parts(x, &power, &rest);
    return power * rest + (power - 1.0f);
}

ED_INLINE ed_vec ed_vexp(ed_vec x)
{
    x = ed_select(x < ED_EXP_LOW, ed_splat(ED_EXP_LOW), x);
    x = ed_select(x > ED_EXP_HIGH, ed_splat(ED_EXP_HIGH), x);
    ed_vec shifted = x * ED_LOG2_E + ED_ROUND, n = shifted - ED_ROUND;
    ed_vec r = (x - n * ED_LN2_HIGH) - n * ED_LN2_LOW;
    ed_vec e = ED_EXP_POLYNOMIAL(r) * (r * r) + r + 1.0f;
    return e * (ed_vec)(((ed_ivec)shifted - ED_ROUND_BITS + 127) << 23);
}

ED_INLINE float ed_sigmoid(float x) { return 1.0f / (1.0f + ed_exp(-x)); }
ED_INLINE ed_vec ed_vsigmoid(ed_vec x) { return 1.0f / (1.0f + ed_vexp(-x)); }

/* d/dx of silu(x) = x s(x), where s is the sigmoid: s (1 + x (1 - s)). */
ED_INLINE float ed_silu_slope(float x)
{
    float s = ed_sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}
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
ED_INLINE float ed_normal_cdf(float x, float *density)
{
    float a = fabsf(x), t = 1.0f / (1.0f + 0.23f * a), e = ed_exp(-0.5f * x * x);
    float q = -7.50490894e-2f;
    q = q * t + 2.73676876e-1f;
    q = q * t - 2.43240116e-1f;
    q = q * t + 2.61130481e-1f;
    q = q * t - 4.67717187e-3f;
    q = q * t + 1.07283161e-1f;
    q = q * t + 8.89562893e-2f;
    q = q * t + 9.19195720e-2f;
    float tail = e * t * q;
    *density = e;
    return x > 0 ? 1.0f - tail : tail;
}

#endif
