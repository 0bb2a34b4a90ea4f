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

static double summed(float *const *parts, int part_count, size_t i)
{
    double sum = 0;
    for (int part = 0; part < part_count; part++) sum += parts[part][i];
    return sum;
}

/* Loshchilov and Hutter 2019, algorithm 2; then the moving average of the new parameters. */
static encdiff_status adamw(ed_backend *self, ed_env *env, const ed_adamw *options, size_t count, float *p,
                            float *const *parts, int part_count, float *m, float *v, float *ema)
{
    (void)self;
    (void)env;
    const ed_adamw *o = options;
    for (size_t i = 0; i < count; i++) {
        double g = summed(parts, part_count, i) * o->grad_scale;
        m[i] = (float)(o->beta1 * (double)m[i] + (1 - (double)o->beta1) * g);
        v[i] = (float)(o->beta2 * (double)v[i] + (1 - (double)o->beta2) * g * g);
        double step = (m[i] / (double)o->correction1) / (sqrt(v[i] / (double)o->correction2) + o->eps);
        p[i] = (float)(p[i] - (double)o->lr * (o->weight_decay * (double)p[i] + step));
        if (ema) ema[i] = (float)(ema[i] - (1 - (double)o->ema_decay) * ((double)ema[i] - p[i]));
    }
    return ENCDIFF_OK;
}

static encdiff_status sum_squares(ed_backend *self, ed_env *env, size_t count, float *const *parts, int part_count,
                                  double *out)
{
    (void)self;
    (void)env;
    *out = 0;
    for (size_t i = 0; i < count; i++) {
        double g = summed(parts, part_count, i);
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
