/*
 * Over all parameters in one launch: a line of spans of buffers. The gradient is a sum over buffers, in their order,
 * g = scale * (g_0 + g_1 + ...).
 *
 *   adamw         m = b1 m + (1 - b1) g    v = b2 v + (1 - b2) g^2      (Loshchilov and Hutter 2019)
 *                 p = p (1 - lr wd) - lr (m / c1) / (sqrt(v / c2) + eps)
 *                 ema -= (1 - decay) (ema - p)                        g_0 = g_1 = ... = 0
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
#define MOST_GRADS 4  /* buffers that are summed; a device's trainer has one */
#define MOST_SPANS 32 /* of a launch, whose arguments may take 4 KB */
#define MOST_BLOCKS 1024

/* Buffers from their first float on. */
typedef struct span {
    float *p, *m, *v, *ema, *grads[MOST_GRADS];
    int64_t count, end; /* floats; packs of four of this and all spans before */
    bool wide;          /* its packs lie at multiples of 16 bytes */
} span;

typedef struct line {
    span spans[MOST_SPANS];
    int count, grads;
    int64_t packs;
} line;

/* Spans first .. of those of a call: as many as a launch takes. */
static encdiff_status make_line(ed_env *env, const ed_span *spans, int first, int count, line *out)
{
    out->count = ED_MIN(count - first, MOST_SPANS);
    out->grads = spans[first].grad_count;
    out->packs = 0;
    if (out->grads < 1 || out->grads > MOST_GRADS)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%d gradient buffers; cuda sums 1 to %d", out->grads,
                       MOST_GRADS);
    for (int i = 0; i < out->count; i++) {
        const ed_span *from = &spans[first + i];
        span *to = &out->spans[i];
        float *const buffers[] = {from->p, from->m, from->v, from->ema};
        float **const places[] = {&to->p, &to->m, &to->v, &to->ema};
        to->wide = true;
        for (int k = 0; k < 4; k++) {
            *places[k] = buffers[k] ? buffers[k] + from->first : nullptr;
            to->wide = to->wide && ed_wide(0, *places[k]);
        }
        for (int k = 0; k < out->grads; k++) {
            to->grads[k] = from->grads[k] + from->first;
            to->wide = to->wide && ed_wide(0, to->grads[k]);
        }
        to->count = (int64_t)from->count;
        to->end = out->packs += (to->count + 3) / 4;
    }
    return ENCDIFF_OK;
}

/* Calls f.step<4>(span, first of a pack) or f.step<1>(span, i) for what of the line is this thread's. */
template <typename F> __device__ static inline void walk(const line &l, F f)
{
    int at = 0;
    int64_t begin = 0, stride = (int64_t)gridDim.x * BLOCK;
    for (int64_t i = (int64_t)blockIdx.x * BLOCK + threadIdx.x; i < l.packs; i += stride) {
        while (i >= l.spans[at].end) begin = l.spans[at++].end;
        const span &s = l.spans[at];
        int64_t first = (i - begin) * 4;
        if (s.wide && first + 4 <= s.count)
            f.template step<4>(s, first);
        else
            for (int64_t k = first; k < s.count && k < first + 4; k++) f.template step<1>(s, k);
    }
}

template <int V> __device__ static inline void sum_grads(const span &s, int grads, int64_t i, float (&g)[V])
{
    ed_load_pack(s.grads[0] + i, g);
    for (int part = 1; part < grads; part++) {
        float more[V];
        ed_load_pack(s.grads[part] + i, more);
        for (int k = 0; k < V; k++) g[k] += more[k];
    }
}

/* ---------------------------------------------------------------- AdamW */

typedef struct adamw_numbers {
    float keep, lr, eps, keep1, new1, keep2, new2, correction1, correction2, scale, rest;
} adamw_numbers;

struct adamw_step {
    const adamw_numbers &n;
    int grads;

    template <int V> __device__ void step(const span &s, int64_t i) const
    {
        float g[V], p[V], m[V], v[V], ema[V];
        sum_grads(s, grads, i, g);
        ed_load_pack(s.p + i, p);
        ed_load_pack(s.m + i, m);
        ed_load_pack(s.v + i, v);
        for (int k = 0; k < V; k++) {
            g[k] *= n.scale;
            m[k] = n.keep1 * m[k] + n.new1 * g[k];
            v[k] = n.keep2 * v[k] + n.new2 * g[k] * g[k];
            p[k] = p[k] * n.keep - n.lr * (m[k] / n.correction1) / (sqrtf(v[k] / n.correction2) + n.eps);
            g[k] = 0;
        }
        ed_store_pack(s.p + i, p);
        ed_store_pack(s.m + i, m);
        ed_store_pack(s.v + i, v);
        for (int part = 0; part < grads; part++) ed_store_pack(s.grads[part] + i, g);
        if (!s.ema) return;
        ed_load_pack(s.ema + i, ema);
        for (int k = 0; k < V; k++) ema[k] -= n.rest * (ema[k] - p[k]);
        ed_store_pack(s.ema + i, ema);
    }
};

static __global__ void ED_THREADS(BLOCK) optimiser_adamw(const line l, const adamw_numbers n)
{
    walk(l, adamw_step{n, l.grads});
}

encdiff_status ed_cuda_adamw(ed_backend *self, ed_env *env, const ed_adamw *o, const ed_span *spans, int count)
{
    adamw_numbers n = {(float)(1 - (double)o->lr * o->weight_decay),
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
    for (int first = 0; first < count; first += MOST_SPANS) {
        line l;
        ED_TRY(make_line(env, spans, first, count, &l));
        if (l.packs) ED_TRY(ED_LAUNCH_ON(self, env, optimiser_adamw, ed_blocks(l.packs, BLOCK), BLOCK, 0, l, n));
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- sums of squares */

struct add_squares {
    double *sum;
    int grads;

    template <int V> __device__ void step(const span &s, int64_t i) const
    {
        float g[V], squares = 0;
        sum_grads(s, grads, i, g);
        for (int k = 0; k < V; k++) squares += g[k] * g[k];
        *sum += (double)squares;
    }
};

/* part[block] = sum of squares over the block's share */
static __global__ void ED_THREADS(BLOCK) optimiser_squares(const line l, double *part)
{
    double sum = 0;
    walk(l, add_squares{&sum, l.grads});
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

static unsigned square_blocks(int64_t packs) { return ed_blocks(packs, BLOCK, MOST_BLOCKS); }

static encdiff_status enqueue_squares(const ed_backend *backend, ed_env *env, const line &l, double *part)
{
    return ED_LAUNCH_ON(backend, env, optimiser_squares, square_blocks(l.packs), BLOCK, 0, l, part);
}

encdiff_status ed_cuda_sum_squares(ed_backend *self, ed_env *env, const ed_span *spans, int count, double *out)
{
    static_assert(MOST_BLOCKS + 1 <= ED_CUDA_PARTIALS, "one place for each block and one for the total");
    double *part = ed_cuda_partials(self);
    *out = 0;
    for (int first = 0; first < count; first += MOST_SPANS) {
        line l;
        double sum;
        ED_TRY(make_line(env, spans, first, count, &l));
        if (!l.packs) continue;
        ED_TRY(enqueue_squares(self, env, l, part));
        ED_TRY(ED_LAUNCH_ON(self, env, optimiser_total, 1, BLOCK, 0, part, (int)square_blocks(l.packs),
                            part + MOST_BLOCKS));
        ED_TRY(self->download(self, env, &sum, part + MOST_BLOCKS, sizeof sum));
        *out += sum;
    }
    return ENCDIFF_OK;
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
    line lines[2];
    for (int i = 0; i < 2; i++) {
        float *gradient = (float *)call->in[i];
        ed_span s = {};
        s.grads = &gradient;
        s.grad_count = 1;
        s.count = (size_t)ed_shape_count(ed_in_shape(call, i));
        ED_TRY(make_line(call->env, &s, 0, 1, &lines[i]));
        ED_TRY(enqueue_squares(call->backend, call->env, lines[i], part + (size_t)i * MOST_BLOCKS));
    }
    return ED_LAUNCH(call, optimiser_weight, 1, BLOCK, 0, part, (int)square_blocks(lines[0].packs),
                     (int)square_blocks(lines[1].packs), ed_in<float>(call, 2), ed_out<float>(call, 0));
}

ED_CUDA_KERNEL(adaptive_weight, prepare_weight, run_weight);
