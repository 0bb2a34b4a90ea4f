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

/* g = the sum of the gradient buffers, elements first .. first + count - 1 of them. */
static void sum_grads(float *restrict g, const ed_span *s, size_t first, size_t count)
{
    const float *g0 = s->grads[0] + first;
    for (size_t i = 0; i < count; i++) g[i] = g0[i];
    for (int k = 1; k < s->grad_count; k++) {
        const float *restrict more = s->grads[k] + first;
        for (size_t i = 0; i < count; i++) g[i] += more[i];
    }
}

static void update(const ed_adamw *o, size_t count, float *restrict g, float *restrict p, float *restrict m,
                   float *restrict v)
{
    const float decay = (float)(1 - (double)o->lr * o->weight_decay), lr = o->lr, eps = o->eps;
    const float keep1 = o->beta1, keep2 = o->beta2, new1 = (float)(1 - (double)o->beta1),
                new2 = (float)(1 - (double)o->beta2), correction1 = o->correction1, correction2 = o->correction2;
    for (size_t i = 0; i < count; i++) g[i] *= o->grad_scale;
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

static void step(const ed_adamw *o, const ed_span *s)
{
    float g[BLOCK], rest = (float)(1 - (double)o->ema_decay);
    for (size_t first = s->first, end = s->first + s->count; first < end; first += BLOCK) {
        size_t size = ED_MIN(BLOCK, end - first);
        sum_grads(g, s, first, size);
        for (int k = 0; k < s->grad_count; k++) memset(s->grads[k] + first, 0, size * sizeof(float));
        update(o, size, g, s->p + first, s->m + first, s->v + first);
        if (s->ema) average(size, s->p + first, s->ema + first, rest);
    }
}

encdiff_status ED_CPU(adamw)(ed_backend *self, ed_env *env, const ed_adamw *options, const ed_span *spans, int count)
{
    (void)self, (void)env;
    for (int i = 0; i < count; i++) step(options, &spans[i]);
    return ENCDIFF_OK;
}

static double squares(const ed_span *s)
{
    float g[BLOCK];
    double total = 0;
    for (size_t first = s->first, end = s->first + s->count; first < end; first += BLOCK) {
        size_t size = ED_MIN(BLOCK, end - first), i = 0;
        sum_grads(g, s, first, size);
        ed_vec sum = {0};
        for (; i + ED_LANES <= size; i += ED_LANES) sum += ed_load(g + i) * ed_load(g + i);
        total += ed_sum_lanes(sum);
        for (; i < size; i++) total += (double)g[i] * g[i];
    }
    return total;
}

encdiff_status ED_CPU(sum_squares)(ed_backend *self, ed_env *env, const ed_span *spans, int count, double *out)
{
    (void)self, (void)env;
    *out = 0;
    for (int i = 0; i < count; i++) *out += squares(&spans[i]);
    return ENCDIFF_OK;
}
