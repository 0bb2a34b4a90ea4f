/*
 * Over the parameters of a whole set, which are one buffer, in one launch. The gradient is a sum over buffers, in
 * their order, g = scale * (g_0 + g_1 + ...).
 *
 *   adamw         m = b1 m + (1 - b1) g    v = b2 v + (1 - b2) g^2      (Loshchilov and Hutter 2019)
 *                 p = p (1 - lr wd) - lr (m / c1) / (sqrt(v / c2) + eps)
 *                 ema -= (1 - decay) (ema - p)
 *   sum_squares   sum of g^2, scale 1
 *   adaptive_weight   w = factor min(|a| / (|b| + 1e-4), 1e4)      (Esser et al. 2021, equation 7)
 *
 * All f32, any lengths. Sums of squares are f64: a few million terms.
 */
#include "cuda/kernels/columns.h"
#include "cuda/kernels/reduce.h"

extern "C" {
#include "cuda/kernels/kernels.h"
}

#define BLOCK 256
#define MOST_PARTS 64
#define MOST_BLOCKS 1024

typedef struct gradients {
    const float *at[MOST_PARTS];
    int count;
} gradients;

template <int V> __device__ static inline void sum_parts(const gradients &parts, int64_t i, float (&g)[V])
{
    ed_load_pack(parts.at[0] + i, g);
    for (int part = 1; part < parts.count; part++) {
        float more[V];
        ed_load_pack(parts.at[part] + i, more);
        for (int k = 0; k < V; k++) g[k] += more[k];
    }
}

static encdiff_status gather_parts(ed_env *env, float *const *parts, int part_count, gradients *out)
{
    if (part_count < 1 || part_count > MOST_PARTS)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%d gradient buffers; cuda sums 1 to %d", part_count,
                       MOST_PARTS);
    out->count = part_count;
    for (int i = 0; i < MOST_PARTS; i++) out->at[i] = i < part_count ? parts[i] : nullptr;
    return ENCDIFF_OK;
}

static bool parts_wide(const gradients &parts)
{
    bool wide = true;
    for (int i = 0; i < parts.count; i++) wide = wide && ed_wide(0, parts.at[i]);
    return wide;
}

/* ---------------------------------------------------------------- AdamW */

typedef struct adamw_set {
    float *p, *m, *v, *ema;
    float keep, lr, eps, keep1, new1, keep2, new2, correction1, correction2, scale, rest;
} adamw_set;

template <int V> __device__ static inline void adamw_step(const adamw_set &s, const gradients &parts, int64_t i)
{
    float g[V], p[V], m[V], v[V], ema[V];
    sum_parts(parts, i, g);
    ed_load_pack(s.p + i, p);
    ed_load_pack(s.m + i, m);
    ed_load_pack(s.v + i, v);
    for (int k = 0; k < V; k++) {
        g[k] *= s.scale;
        m[k] = s.keep1 * m[k] + s.new1 * g[k];
        v[k] = s.keep2 * v[k] + s.new2 * g[k] * g[k];
        p[k] = p[k] * s.keep - s.lr * (m[k] / s.correction1) / (sqrtf(v[k] / s.correction2) + s.eps);
    }
    ed_store_pack(s.p + i, p);
    ed_store_pack(s.m + i, m);
    ed_store_pack(s.v + i, v);
    if (!s.ema) return;
    ed_load_pack(s.ema + i, ema);
    for (int k = 0; k < V; k++) ema[k] -= s.rest * (ema[k] - p[k]);
    ed_store_pack(s.ema + i, ema);
}

/* packs: of four parameters that may be taken at once */
static __global__ void ED_THREADS(BLOCK)
    optimiser_adamw(adamw_set s, const gradients parts, int64_t count, int64_t packs)
{
    int64_t me = (int64_t)blockIdx.x * BLOCK + threadIdx.x, stride = (int64_t)gridDim.x * BLOCK;
    for (int64_t i = me; i < packs; i += stride) adamw_step<4>(s, parts, i * 4);
    for (int64_t i = packs * 4 + me; i < count; i += stride) adamw_step<1>(s, parts, i);
}

encdiff_status ed_cuda_adamw(ed_backend *self, ed_env *env, const ed_adamw *o, size_t count, float *p,
                             float *const *parts, int part_count, float *m, float *v, float *ema)
{
    gradients g;
    ED_TRY(gather_parts(env, parts, part_count, &g));
    adamw_set s = {p,
                   m,
                   v,
                   ema,
                   (float)(1 - (double)o->lr * o->weight_decay),
                   o->lr,
                   o->eps,
                   o->beta1,
                   (float)(1 - (double)o->beta1),
                   o->beta2,
                   (float)(1 - (double)o->beta2),
                   o->correction1,
                   o->correction2,
                   o->grad_scale,
                   (float)(1 - (double)o->ema_decay)};
    if (count == 0) return ENCDIFF_OK;
    int64_t packs = ed_wide(0, p, m, v, ema) && parts_wide(g) ? (int64_t)(count / 4) : 0;
    return ED_LAUNCH_ON(self, env, optimiser_adamw, ed_blocks((int64_t)(packs ? count / 4 + 3 : count), BLOCK), BLOCK,
                        0, s, g, (int64_t)count, packs);
}

/* ---------------------------------------------------------------- sums of squares */

/* part[block] = sum of squares over the block's share */
static __global__ void ED_THREADS(BLOCK)
    optimiser_squares(const gradients parts, int64_t count, int64_t packs, double *part)
{
    int64_t me = (int64_t)blockIdx.x * BLOCK + threadIdx.x, stride = (int64_t)gridDim.x * BLOCK;
    double sum = 0;
    for (int64_t i = me; i < packs; i += stride) {
        float g[4];
        sum_parts(parts, i * 4, g);
        sum += (double)(g[0] * g[0] + g[1] * g[1] + g[2] * g[2] + g[3] * g[3]);
    }
    for (int64_t i = packs * 4 + me; i < count; i += stride) {
        float g[1];
        sum_parts(parts, i, g);
        sum += (double)(g[0] * g[0]);
    }
    sum = ed_sum_block<BLOCK>(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

__device__ static inline double sum_of_parts(const double *part, int parts)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < parts; i += BLOCK) sum += part[i];
    return ed_sum_block<BLOCK>(sum);
}

static __global__ void ED_THREADS(BLOCK) optimiser_total(const double *part, int parts, double *total)
{
    double sum = sum_of_parts(part, parts);
    if (threadIdx.x == 0) *total = sum;
}

static unsigned square_blocks(int64_t count) { return ed_blocks(count, BLOCK * 4, MOST_BLOCKS); }

static encdiff_status enqueue_squares(const ed_backend *backend, ed_env *env, const gradients &g, int64_t count,
                                      double *part)
{
    int64_t packs = parts_wide(g) ? count / 4 : 0;
    return ED_LAUNCH_ON(backend, env, optimiser_squares, square_blocks(count), BLOCK, 0, g, count, packs, part);
}

encdiff_status ed_cuda_sum_squares(ed_backend *self, ed_env *env, size_t count, float *const *parts, int part_count,
                                   double *out)
{
    static_assert(MOST_BLOCKS + 1 <= ED_CUDA_PARTIALS, "one place for each block and one for the total");
    double *part = ed_cuda_partials(self);
    gradients g;
    *out = 0;
    ED_TRY(gather_parts(env, parts, part_count, &g));
    if (count == 0) return ENCDIFF_OK;
    ED_TRY(enqueue_squares(self, env, g, (int64_t)count, part));
    ED_TRY(ED_LAUNCH_ON(self, env, optimiser_total, 1, BLOCK, 0, part, (int)square_blocks((int64_t)count),
                        part + MOST_BLOCKS));
    return self->download(self, env, out, part + MOST_BLOCKS, sizeof *out);
}

/* ---------------------------------------------------------------- adaptive weight */

static __global__ void ED_THREADS(BLOCK)
    optimiser_weight(const double *part, int a_parts, int b_parts, const float *factor, float *weight)
{
    double a = sum_of_parts(part, a_parts), b = sum_of_parts(part + MOST_BLOCKS, b_parts);
    if (threadIdx.x > 0) return;
    double ratio = sqrt(a) / (sqrt(b) + 1e-4);
    *weight = (float)(*factor * (ratio > 1e4 ? 1e4 : ratio));
}

static encdiff_status prepare_weight(ed_env *, const ed_graph *, const ed_node *, size_t *scratch, void **)
{
    *scratch = 2 * MOST_BLOCKS * sizeof(double);
    return ENCDIFF_OK;
}

static encdiff_status run_weight(const ed_call *call)
{
    const ed_comm *comm = call->run ? call->run->comm : nullptr;
    if (comm && comm->ranks > 1)
        return ed_fail(call->env, ENCDIFF_ERROR_UNSUPPORTED,
                       "the adaptive weight over %d ranks is not available on cuda", comm->ranks);
    double *part = static_cast<double *>(call->scratch);
    int64_t a = ed_shape_count(ed_in_shape(call, 0)), b = ed_shape_count(ed_in_shape(call, 1));
    gradients left = {{ed_in<float>(call, 0)}, 1}, right = {{ed_in<float>(call, 1)}, 1};
    ED_TRY(enqueue_squares(call->backend, call->env, left, a, part));
    ED_TRY(enqueue_squares(call->backend, call->env, right, b, part + MOST_BLOCKS));
    return ED_LAUNCH(call, optimiser_weight, 1, BLOCK, 0, part, (int)square_blocks(a), (int)square_blocks(b),
                     ed_in<float>(call, 2), ed_out<float>(call, 0));
}

ED_CUDA_KERNEL(adaptive_weight, prepare_weight, run_weight);
