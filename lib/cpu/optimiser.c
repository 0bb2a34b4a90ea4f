/*
 * AdamW (Loshchilov and Hutter 2019) with the moving average of the parameters, one pass over memory, and the sum of
 * squares for gradient clipping. Both read the gradient as a sum over the shards' buffers, in their order.
 *
 *   p *= 1 - lr wd;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *   p -= lr (m / c1) / (sqrt(v / c2) + eps);  ema -= (1 - decay) (ema - p)
 */
#include "cpu/cpu.h"
#include "cpu/kernel.h"

#define BLOCK 512 /* elements whose gradient is summed at once; they stay in the cache */

/* g = scale * (parts[0] + parts[1] + ...), elements first .. first + count - 1. */
static void sum_parts(float *restrict g, float *const *parts, int part_count, size_t first, size_t count, float scale)
{
    const float *p0 = parts[0] + first;
    for (size_t i = 0; i < count; i++) g[i] = p0[i];
    for (int k = 1; k < part_count; k++) {
        const float *restrict part = parts[k] + first;
        for (size_t i = 0; i < count; i++) g[i] += part[i];
    }
    for (size_t i = 0; i < count; i++) g[i] *= scale;
}

static void update(const ed_adamw *o, size_t count, const float *restrict g, float *restrict p, float *restrict m,
                   float *restrict v)
{
    const float decay = (float)(1 - (double)o->lr * o->weight_decay), lr = o->lr, eps = o->eps;
    const float keep1 = o->beta1, keep2 = o->beta2, new1 = (float)(1 - (double)o->beta1),
                new2 = (float)(1 - (double)o->beta2), correction1 = o->correction1, correction2 = o->correction2;
    for (size_t i = 0; i < count; i++) {
        m[i] = keep1 * m[i] + new1 * g[i];
        v[i] = keep2 * v[i] + new2 * g[i] * g[i];
        p[i] = p[i] * decay - lr * (m[i] / correction1) / (sqrtf(v[i] / correction2) + eps);
    }
}

static void average(size_t count, const float *restrict p, float *restrict ema, float rest)
{
    for (size_t i = 0; i < count; i++) ema[i] -= rest * (ema[i] - p[i]);
}

encdiff_status ED_CPU(adamw)(ed_backend *self, ed_env *env, const ed_adamw *options, size_t count, float *p,
                             float *const *parts, int part_count, float *m, float *v, float *ema)
{
    (void)self, (void)env;
    float g[BLOCK], rest = (float)(1 - (double)options->ema_decay);
    for (size_t first = 0; first < count; first += BLOCK) {
        size_t size = ED_MIN(BLOCK, count - first);
        sum_parts(g, parts, part_count, first, size, options->grad_scale);
        update(options, size, g, p + first, m + first, v + first);
        if (ema) average(size, p + first, ema + first, rest);
    }
    return ENCDIFF_OK;
}

encdiff_status ED_CPU(sum_squares)(ed_backend *self, ed_env *env, size_t count, float *const *parts, int part_count,
                                   double *out)
{
    (void)self, (void)env;
    float g[BLOCK];
    double total = 0;
    for (size_t first = 0; first < count; first += BLOCK) {
        size_t size = ED_MIN(BLOCK, count - first), i = 0;
        sum_parts(g, parts, part_count, first, size, 1);
        ed_vec s = {0};
        for (; i + ED_LANES <= size; i += ED_LANES) s += ed_load(g + i) * ed_load(g + i);
        total += ed_sum_lanes(s);
        for (; i < size; i++) total += (double)g[i] * g[i];
    }
    *out = total;
    return ENCDIFF_OK;
}
