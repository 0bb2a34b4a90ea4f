/* Betas and their products in double; what meets f32 latents is rounded once, at the end. */
#include <math.h>

#include "diffusion/schedule.h"

static const double half_pi = 1.57079632679489661923;

/* Item i of n numbers spaced evenly from first to last. */
static double spaced(double first, double last, int i, int n)
{
    if (n == 1) return first;
    return i == n - 1 ? last : first + i * ((last - first) / (n - 1));
}

/* The cosine schedule's a at step i of n, up to a factor that cancels. */
static double cosine_alpha(int i, int n, double s)
{
    double c = cos(((double)i / n + s) / (1 + s) * half_pi);
    return c * c;
}

static double beta_at(ed_schedule_kind kind, int i, int n, double start, double end, double s)
{
    double root, beta;
    switch (kind) {
    case ED_SCHEDULE_LINEAR: root = spaced(sqrt(start), sqrt(end), i, n); return root * root;
    case ED_SCHEDULE_SQRT_LINEAR: return spaced(start, end, i, n);
    case ED_SCHEDULE_SQRT: return sqrt(spaced(start, end, i, n));
    case ED_SCHEDULE_COSINE:
        beta = 1 - cosine_alpha(i + 1, n, s) / cosine_alpha(i, n, s);
        return ED_MIN(ED_MAX(beta, 0.0), 0.999);
    }
    return NAN;
}

static encdiff_status fill(ed_env *env, ed_schedule *schedule, ed_schedule_kind kind, double start, double end,
                           double s)
{
    double product = 1;
    for (int i = 0; i < schedule->timesteps; i++) {
        double beta = beta_at(kind, i, schedule->timesteps, start, end, s);
        product *= 1 - beta;
        schedule->betas[i] = beta;
        schedule->alphas_cumprod[i] = product;
        schedule->signal[i] = (float)sqrt(product);
        schedule->noise[i] = (float)sqrt(1 - product);
        /* The samplers divide by both: in f32 neither may vanish. */
        if (!(schedule->signal[i] > 0 && schedule->noise[i] > 0))
            return ed_fail(env, ENCDIFF_ERROR_CONFIG,
                           "diffusion.beta_schedule: expected signal and noise at every timestep, got %s at timestep "
                           "%d of %d",
                           schedule->noise[i] > 0 ? "no signal" : "no noise", i, schedule->timesteps);
    }
    return ENCDIFF_OK;
}

encdiff_status ed_schedule_init(ed_env *env, ed_schedule_kind kind, int timesteps, double start, double end,
                                double cosine_s, ed_schedule *out)
{
    encdiff_status status = ENCDIFF_OK;
    ed_schedule schedule = {.timesteps = timesteps};
    size_t n = timesteps > 0 ? (size_t)timesteps : 0;
    schedule.betas = ed_alloc(env, n, sizeof(double));
    schedule.alphas_cumprod = ed_alloc(env, n, sizeof(double));
    schedule.signal = ed_alloc(env, n, sizeof(float));
    schedule.noise = ed_alloc(env, n, sizeof(float));
    if (!schedule.betas || !schedule.alphas_cumprod || !schedule.signal || !schedule.noise)
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK) status = fill(env, &schedule, kind, start, end, cosine_s);
    if (status != ENCDIFF_OK) ed_schedule_free(env, &schedule);
    *out = schedule;
    return status;
}

encdiff_status ed_schedule_from_config(ed_env *env, const ed_config *config, ed_schedule *out)
{
    return ed_schedule_init(env, config->diffusion.beta_schedule, config->diffusion.timesteps,
                            config->diffusion.linear_start, config->diffusion.linear_end, config->diffusion.cosine_s,
                            out);
}

void ed_schedule_free(ed_env *env, ed_schedule *schedule)
{
    ed_free(env, schedule->betas);
    ed_free(env, schedule->alphas_cumprod);
    ed_free(env, schedule->signal);
    ed_free(env, schedule->noise);
    *schedule = (ed_schedule){0};
}

/* out[i] = signal[t[i]] u[i] + sign noise[t[i]] v[i] */
static encdiff_status mix(ed_env *env, const ed_schedule *schedule, int n, size_t elements, const int32_t *t,
                          const float *u, float sign, const float *v, float *out)
{
    for (int i = 0; i < n; i++)
        if (t[i] < 0 || t[i] >= schedule->timesteps)
            return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "timestep %d of image %d: expected 0 to %d", (int)t[i], i,
                           schedule->timesteps - 1);
    for (int i = 0; i < n; i++) {
        float of_u = schedule->signal[t[i]], of_v = sign * schedule->noise[t[i]];
        size_t first = (size_t)i * elements;
        for (size_t e = first; e < first + elements; e++) out[e] = of_u * u[e] + of_v * v[e];
    }
    return ENCDIFF_OK;
}

encdiff_status ed_q_sample(ed_env *env, const ed_schedule *schedule, int n, size_t elements, const int32_t *t,
                           const float *x0, const float *eps, float *out)
{
    return mix(env, schedule, n, elements, t, x0, 1, eps, out);
}

encdiff_status ed_velocity(ed_env *env, const ed_schedule *schedule, int n, size_t elements, const int32_t *t,
                           const float *x0, const float *eps, float *out)
{
    return mix(env, schedule, n, elements, t, eps, -1, x0, out);
}

int ed_ddim_step_count(int steps, int timesteps)
{
    int stride = timesteps / steps;
    return (timesteps - 2) / stride + 1;
}

void ed_ddim_steps(int steps, int timesteps, int32_t *ascending)
{
    int stride = timesteps / steps, count = ed_ddim_step_count(steps, timesteps);
    for (int i = 0; i < count; i++) ascending[i] = 1 + i * stride;
}
