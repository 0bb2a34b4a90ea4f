/* The reference backend's table, its memory, which is the host's, and its optimiser step. */
#include <math.h>

#include "reference/reference.h"

void ed_ref_sum_over_ranks(const ed_call *call, double *data, size_t count)
{
    ed_comm *comm = call->run->comm;
    if (comm && comm->ranks > 1) comm->sum_f64(comm, call->run->rank, data, count);
}

static void *allocate(ed_backend *self, ed_env *env, size_t bytes)
{
    (void)self;
    return ed_alloc(env, bytes, 1);
}

static void release(ed_backend *self, ed_env *env, void *pointer)
{
    (void)self;
    ed_free(env, pointer);
}

static encdiff_status copy(ed_backend *self, ed_env *env, void *to, const void *from, size_t bytes)
{
    (void)self;
    (void)env;
    if (bytes) memcpy(to, from, bytes);
    return ENCDIFF_OK;
}

static encdiff_status zero(ed_backend *self, ed_env *env, void *pointer, size_t bytes)
{
    (void)self;
    (void)env;
    if (bytes) memset(pointer, 0, bytes);
    return ENCDIFF_OK;
}

static encdiff_status synchronise(ed_backend *self, ed_env *env)
{
    (void)self;
    (void)env;
    return ENCDIFF_OK;
}

static double summed(const ed_span *s, size_t i)
{
    double sum = 0;
    for (int k = 0; k < s->grad_count; k++) sum += s->grads[k][i];
    return sum;
}

/* Loshchilov and Hutter 2019, algorithm 2; then the moving average of the new parameters. */
static void step(const ed_adamw *o, const ed_span *s)
{
    for (size_t i = s->first; i < s->first + s->count; i++) {
        double g = summed(s, i) * o->grad_scale;
        float *p = &s->p[i], *m = &s->m[i], *v = &s->v[i];
        *m = (float)(o->beta1 * (double)*m + (1 - (double)o->beta1) * g);
        *v = (float)(o->beta2 * (double)*v + (1 - (double)o->beta2) * g * g);
        double step = (*m / (double)o->correction1) / (sqrt(*v / (double)o->correction2) + o->eps);
        *p = (float)(*p - (double)o->lr * (o->weight_decay * (double)*p + step));
        if (s->ema) s->ema[i] = (float)(s->ema[i] - (1 - (double)o->ema_decay) * ((double)s->ema[i] - *p));
        for (int k = 0; k < s->grad_count; k++) s->grads[k][i] = 0;
    }
}

static encdiff_status adamw(ed_backend *self, ed_env *env, const ed_adamw *options, const ed_span *spans, int count)
{
    (void)self;
    (void)env;
    for (int i = 0; i < count; i++) step(options, &spans[i]);
    return ENCDIFF_OK;
}

static encdiff_status sum_squares(ed_backend *self, ed_env *env, const ed_span *spans, int count, double *out)
{
    (void)self;
    (void)env;
    *out = 0;
    for (int n = 0; n < count; n++)
        for (size_t i = spans[n].first; i < spans[n].first + spans[n].count; i++) {
            double g = summed(&spans[n], i);
            *out += g * g;
        }
    return ENCDIFF_OK;
}

static void widen(const uint16_t *from, float *to, size_t count)
{
    for (size_t i = 0; i < count; i++) to[i] = ed_f32_from_bf16(from[i]);
}

static void narrow(const float *from, uint16_t *to, size_t count)
{
    for (size_t i = 0; i < count; i++) to[i] = ed_bf16_from_f32(from[i]);
}

static const ed_backend backend = {
    .version = ED_BACKEND_VERSION,
    .name = "reference",
    .host_memory = true,
    .images = 8,
    .kernels =
        {
#define ED_OP(id, name, inputs, outputs, accumulated, in_place) [ED_OP_##id] = &ed_ref_##name,
#include "graph/ops.def"
#undef ED_OP
        },
    .allocate = allocate,
    .release = release,
    .upload = copy,
    .download = copy,
    .copy = copy,
    .zero = zero,
    .synchronise = synchronise,
    .widen = widen,
    .narrow = narrow,
    .adamw = adamw,
    .sum_squares = sum_squares,
};

/* Nobody writes to a backend; its functions take it without const because a device's may hold state. */
ed_backend *ed_backend_reference(void) { return (ed_backend *)&backend; }
