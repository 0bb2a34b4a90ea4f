/*
 * The loop that all samplers share, and the update of each. With a = alphas_cumprod at the step, a' at the one it goes
 * to, b = 1 - a / a', e the predicted noise and x_0 the clean latents it implies:
 *
 *   DDIM   x' = sqrt(a') x_0 + sqrt(1 - a' - s^2) e + s z
 *          s^2 = eta^2 (1 - a') / (1 - a) b
 *   DDPM   x' = sqrt(a') b / (1 - a) x_0 + sqrt(a / a') (1 - a') / (1 - a) x + sqrt(b (1 - a') / (1 - a)) z
 *   PLMS   DDIM with s = 0 and, for e, a combination of the last four
 *   DPM++  x' = sqrt((1 - a') / (1 - a)) x - sqrt(a') (exp(-h) - 1) D
 *          D = x_0 + (x_0 - its predecessor) h / (2 h of the step before), h the step's difference of log_snr()
 */
#include <math.h>

#include <encdiff/sampler.h>

#include "diffusion/sampler.h"

_Static_assert((int)ED_SAMPLER_DDIM == ENCDIFF_SAMPLER_DDIM && (int)ED_SAMPLER_DDPM == ENCDIFF_SAMPLER_DDPM &&
                   (int)ED_SAMPLER_PLMS == ENCDIFF_SAMPLER_PLMS &&
                   (int)ED_SAMPLER_DPM_SOLVER_PP == ENCDIFF_SAMPLER_DPM_SOLVER_PP,
               "the numbers of the public enumeration");

#define HISTORY 3 /* earlier predictions that a multistep method keeps */
#define DEFAULT_STEPS 50
#define FEW_STEPS 15 /* below, DPM-Solver++ ends with a first-order step, as its authors do */

typedef struct step {
    int t;                   /* where the network is asked */
    double a, a_next, sigma; /* alphas_cumprod here and where the step goes; DDIM's noise */
} step;

struct ed_sampler {
    ed_sampler_options options;
    step *steps; /* in the order taken */
    int count;
    int capacity;  /* images that the buffers below have room for */
    float *memory; /* the buffers: each float[capacity][elements], `timesteps` float[capacity] */
    float *eps, *x0, *scratch, *history[HISTORY], *timesteps;
};

/* One run: what the updates read and write. */
typedef struct run {
    ed_env *env;
    ed_sampler *sampler;
    const ed_denoiser *denoiser;
    int n;
    size_t count; /* floats of n images */
    float *x;
} run;

/* ---------------------------------------------------------------- steps of a run */

static encdiff_status check_options(ed_env *env, const ed_schedule *schedule, const ed_sampler_options *o)
{
    if (o->method < ED_SAMPLER_DDIM || o->method > ED_SAMPLER_DPM_SOLVER_PP)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "sampler method %d: expected 1 to 4", (int)o->method);
    if (o->steps < 0 || o->steps > schedule->timesteps)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "%d sampling steps: expected 1 to the schedule's %d timesteps",
                       o->steps, schedule->timesteps);
    if (o->method == ED_SAMPLER_DDPM && o->steps != 0 && o->steps != schedule->timesteps)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT,
                       "%d sampling steps: DDPM takes all %d timesteps; DDIM with eta 1 takes fewer", o->steps,
                       schedule->timesteps);
    if (!(o->eta >= 0 && o->eta <= 1))
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "sampler eta %g: expected 0 to 1", o->eta);
    if (o->eta > 0 && o->method != ED_SAMPLER_DDIM)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "sampler eta %g: only DDIM has one", o->eta);
    if (o->inversion_calls < 0 || o->inversion_calls > 1000)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "%d calls for each step of inversion: expected 1 to 1000",
                       o->inversion_calls);
    if (o->elements == 0) return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "a sampler of latents without elements");
    return ENCDIFF_OK;
}

/* Every timestep; the last step goes to clean latents. */
static void ddpm_steps(const ed_schedule *schedule, ed_sampler *sampler)
{
    for (int i = 0; i < sampler->count; i++) {
        int t = schedule->timesteps - 1 - i;
        sampler->steps[i] = (step){.t = t, .a = schedule->alphas_cumprod[t]};
        sampler->steps[i].a_next = t ? schedule->alphas_cumprod[t - 1] : 1;
    }
}

/* The published DDIM steps; the last goes to timestep 0, which has the noise of one beta left. */
static void ddim_steps(const ed_schedule *schedule, int requested, double eta, ed_sampler *sampler)
{
    int stride = schedule->timesteps / requested;
    for (int i = 0; i < sampler->count; i++) {
        int k = sampler->count - 1 - i, t = 1 + k * stride;
        double a = schedule->alphas_cumprod[t], next = schedule->alphas_cumprod[k ? t - stride : 0];
        double sigma = eta * sqrt((1 - next) / (1 - a) * (1 - a / next));
        sampler->steps[i] = (step){.t = t, .a = a, .a_next = next, .sigma = sigma};
    }
}

/* Half the logarithm of the signal-to-noise ratio. */
static double log_snr(double a) { return 0.5 * log(a / (1 - a)); }

/*
 * DPM-Solver++ is of second order in the log of the signal-to-noise ratio, so its steps are even in that, from DDIM's
 * first timestep to 0, as near as whole timesteps allow: near 0 one timestep is more than an even step, and each step
 * that remains needs one.
 */
static void dpm_solver_steps(const ed_schedule *schedule, int requested, ed_sampler *sampler)
{
    int count = sampler->count, t = 1 + (count - 1) * (schedule->timesteps / requested);
    const double *a = schedule->alphas_cumprod;
    double from = log_snr(a[t]), to = log_snr(a[0]);
    for (int i = 0; i < count; i++) {
        double wanted = from + (to - from) * (i + 1) / count;
        int next = t - 1, lowest = count - 1 - i;
        while (next > lowest && fabs(log_snr(a[next - 1]) - wanted) <= fabs(log_snr(a[next]) - wanted)) next--;
        sampler->steps[i] = (step){.t = t, .a = a[t], .a_next = a[next]};
        t = next;
    }
}

encdiff_status ed_sampler_create(ed_env *env, const ed_schedule *schedule, const ed_sampler_options *options,
                                 ed_sampler **out)
{
    *out = NULL;
    ED_TRY(check_options(env, schedule, options));
    bool all = options->method == ED_SAMPLER_DDPM;
    int steps = options->steps ? options->steps : ED_MIN(DEFAULT_STEPS, schedule->timesteps);
    ed_sampler *sampler = ed_alloc(env, 1, sizeof *sampler);
    if (!sampler) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    sampler->options = *options;
    if (!sampler->options.inversion_calls) sampler->options.inversion_calls = 2;
    sampler->count = all ? schedule->timesteps : ed_ddim_step_count(steps, schedule->timesteps);
    sampler->steps = ed_alloc(env, (size_t)sampler->count, sizeof *sampler->steps);
    if (!sampler->steps) {
        ed_sampler_free(env, sampler);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    if (all)
        ddpm_steps(schedule, sampler);
    else if (options->method == ED_SAMPLER_DPM_SOLVER_PP)
        dpm_solver_steps(schedule, steps, sampler);
    else
        ddim_steps(schedule, steps, options->eta, sampler);
    *out = sampler;
    return ENCDIFF_OK;
}

void ed_sampler_free(ed_env *env, ed_sampler *sampler)
{
    if (!sampler) return;
    ed_free(env, sampler->steps);
    ed_free(env, sampler->memory);
    ed_free(env, sampler);
}

int ed_sampler_step_count(const ed_sampler *sampler) { return sampler->count; }

void ed_sampler_set_seed(ed_sampler *sampler, uint64_t seed) { sampler->options.seed = seed; }

bool ed_sampler_is_deterministic(const ed_sampler *sampler)
{
    return sampler->options.method != ED_SAMPLER_DDPM && !(sampler->options.eta > 0);
}

static int history_size(const ed_sampler *sampler)
{
    if (sampler->options.method == ED_SAMPLER_PLMS) return HISTORY;
    return sampler->options.method == ED_SAMPLER_DPM_SOLVER_PP ? 1 : 0;
}

encdiff_status ed_sampler_reserve(ed_env *env, ed_sampler *sampler, int n)
{
    if (n <= sampler->capacity) return ENCDIFF_OK;
    size_t one, all, buffers = 3 + (size_t)history_size(sampler);
    if (!ed_mul((size_t)n, sampler->options.elements, &one) || !ed_mul(one, buffers, &all) ||
        !ed_add(all, (size_t)n, &all))
        return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "out of memory: %d images of %zu latents in a sampler", n,
                       sampler->options.elements);
    float *memory = ed_alloc(env, all, sizeof *memory);
    if (!memory) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_free(env, sampler->memory);
    sampler->memory = memory;
    sampler->capacity = n;
    sampler->eps = memory;
    sampler->x0 = memory + one;
    sampler->scratch = memory + 2 * one;
    for (int i = 0; i < history_size(sampler); i++) sampler->history[i] = memory + (3 + (size_t)i) * one;
    sampler->timesteps = memory + buffers * one;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- noise */

/* Step 0 of the stream is the starting noise, step i + 1 the noise of update i. */
static void draw(const ed_sampler *sampler, uint64_t stream_step, uint64_t first_image, int n, float *out)
{
    size_t elements = sampler->options.elements;
    ed_fill_normal(sampler->options.seed, ED_RANDOM_SAMPLER, stream_step, first_image * elements, (size_t)n * elements,
                   out);
}

void ed_sampler_draw(const ed_sampler *sampler, uint64_t first_image, int n, float *x_T)
{
    draw(sampler, 0, first_image, n, x_T);
}

/* The noise of update i: given, or drawn into the scratch buffer. */
static const float *step_noise(const run *r, const ed_sampler_run_args *args, int i)
{
    if (args->step_noise) return args->step_noise + (size_t)i * r->count;
    draw(r->sampler, (uint64_t)i + 1, args->first_image, r->n, r->sampler->scratch);
    return r->sampler->scratch;
}

/* ---------------------------------------------------------------- predictions */

static void clean_from_noise(size_t count, double a, const float *x, const float *eps, float *x0)
{
    float signal = (float)sqrt(a), noise = (float)sqrt(1 - a);
    for (size_t i = 0; i < count; i++) x0[i] = (x[i] - noise * eps[i]) / signal;
}

static void noise_from_clean(size_t count, double a, const float *x, const float *x0, float *eps)
{
    float signal = (float)sqrt(a), noise = (float)sqrt(1 - a);
    for (size_t i = 0; i < count; i++) eps[i] = (x[i] - signal * x0[i]) / noise;
}

static encdiff_status ask(const run *r, int t, const float *x, float *out)
{
    for (int i = 0; i < r->n; i++) r->sampler->timesteps[i] = (float)t;
    return r->denoiser->predict(r->denoiser->user, r->n, x, r->sampler->timesteps, out);
}

/* out = p u + q v; out may be u or v. */
static void combine(size_t count, double p, const float *u, double q, const float *v, float *out)
{
    float fp = (float)p, fq = (float)q;
    for (size_t i = 0; i < count; i++) out[i] = fp * u[i] + fq * v[i];
}

/* The noise in x, whose level is a. */
static encdiff_status predict_noise(const run *r, int t, double a, const float *x, float *eps)
{
    ED_TRY(ask(r, t, x, eps));
    switch (r->sampler->options.parameterization) {
    case ED_PREDICT_EPS: break;
    case ED_PREDICT_X0: noise_from_clean(r->count, a, x, eps, eps); break;
    case ED_PREDICT_V: combine(r->count, sqrt(1 - a), x, sqrt(a), eps, eps); break;
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- updates */

static void add_noise(size_t count, double sigma, const float *z, float *x)
{
    float s = (float)sigma;
    for (size_t i = 0; i < count; i++) x[i] += s * z[i];
}

static void update_ddim(const run *r, const step *at, const float *noise)
{
    ed_sampler *s = r->sampler;
    double rest = 1 - at->a_next - at->sigma * at->sigma;
    combine(r->count, sqrt(at->a_next), s->x0, sqrt(ED_MAX(rest, 0.0)), s->eps, r->x);
    if (noise) add_noise(r->count, at->sigma, noise, r->x);
}

static void update_ddpm(const run *r, const step *at, const float *noise)
{
    double alpha = at->a / at->a_next, beta = 1 - alpha, left = (1 - at->a_next) / (1 - at->a);
    combine(r->count, sqrt(at->a_next) * beta / (1 - at->a), r->sampler->x0, sqrt(alpha) * left, r->x, r->x);
    if (noise) add_noise(r->count, sqrt(left * beta), noise, r->x);
}

static void swap(float **a, float **b)
{
    float *kept = *a;
    *a = *b;
    *b = kept;
}

/* The oldest prediction makes room: history[0] becomes `latest`, whose buffer is reused for the next prediction. */
static void remember(ed_sampler *s, float **latest)
{
    for (int i = history_size(s) - 1; i > 0; i--) swap(&s->history[i], &s->history[i - 1]);
    swap(&s->history[0], latest);
}

/* Adams-Bashforth of order 2 to 4 over the predictions so far; the result is in scratch. */
static void adams_bashforth(const run *r, int order)
{
    static const float weights[5][4] = {
        {0}, {0}, {1.5f, -0.5f}, {23.f / 12, -16.f / 12, 5.f / 12}, {55.f / 24, -59.f / 24, 37.f / 24, -9.f / 24}};
    ed_sampler *s = r->sampler;
    const float *w = weights[order];
    for (size_t i = 0; i < r->count; i++) {
        float sum = w[0] * s->eps[i];
        for (int j = 1; j < order; j++) sum += w[j] * s->history[j - 1][i];
        s->scratch[i] = sum;
    }
}

/* The first PLMS step has no past: it looks at the slope where DDIM would arrive, and takes the mean. */
static encdiff_status improved_euler(const run *r, const step *at)
{
    ed_sampler *s = r->sampler;
    if (s->count == 1) {
        memcpy(s->scratch, s->eps, r->count * sizeof(float));
        return ENCDIFF_OK;
    }
    clean_from_noise(r->count, at->a, r->x, s->eps, s->x0);
    combine(r->count, sqrt(at->a_next), s->x0, sqrt(1 - at->a_next), s->eps, s->x0);
    ED_TRY(predict_noise(r, at[1].t, at->a_next, s->x0, s->scratch));
    combine(r->count, 0.5, s->eps, 0.5, s->scratch, s->scratch);
    return ENCDIFF_OK;
}

/* Replace eps by the multistep estimate and keep eps itself for the steps that follow. */
static encdiff_status multistep_noise(const run *r, const step *at, int i)
{
    if (i == 0)
        ED_TRY(improved_euler(r, at));
    else
        adams_bashforth(r, ED_MIN(i + 1, HISTORY + 1));
    remember(r->sampler, &r->sampler->eps);
    swap(&r->sampler->eps, &r->sampler->scratch);
    return ENCDIFF_OK;
}

static void update_dpm_solver(const run *r, const step *at, int i)
{
    ed_sampler *s = r->sampler;
    bool last = i == s->count - 1, second = i > 0 && !(last && s->count < FEW_STEPS);
    double h = log_snr(at->a_next) - log_snr(at->a), weight = 0;
    if (second) weight = 0.5 * h / (log_snr(at->a) - log_snr(at[-1].a));
    /* D is written over the older prediction, which nothing needs after this step. */
    float *d = s->history[0];
    if (second)
        combine(r->count, 1 + weight, s->x0, -weight, d, d);
    else
        memcpy(d, s->x0, r->count * sizeof *d);
    combine(r->count, sqrt((1 - at->a_next) / (1 - at->a)), r->x, -sqrt(at->a_next) * expm1(-h), d, r->x);
    memcpy(d, s->x0, r->count * sizeof *d);
}

/* ---------------------------------------------------------------- the loop */

/*
 * eps and x0 at r->x. Where the network predicts clean latents or v, they do not go through the noise, in which they
 * would lose digits where there is little signal. Only PLMS needs them as noise, which is what it combines.
 */
static encdiff_status predict(const run *r, const step *at, int i)
{
    ed_sampler *s = r->sampler;
    bool multistep = s->options.method == ED_SAMPLER_PLMS;
    ed_parameterization predicted = multistep ? ED_PREDICT_EPS : s->options.parameterization;
    switch (predicted) {
    case ED_PREDICT_EPS:
        ED_TRY(predict_noise(r, at->t, at->a, r->x, s->eps));
        if (multistep) ED_TRY(multistep_noise(r, at, i));
        clean_from_noise(r->count, at->a, r->x, s->eps, s->x0);
        break;
    case ED_PREDICT_X0:
        ED_TRY(ask(r, at->t, r->x, s->x0));
        noise_from_clean(r->count, at->a, r->x, s->x0, s->eps);
        break;
    case ED_PREDICT_V:
        ED_TRY(ask(r, at->t, r->x, s->eps));
        combine(r->count, sqrt(at->a), r->x, -sqrt(1 - at->a), s->eps, s->x0);
        combine(r->count, sqrt(1 - at->a), r->x, sqrt(at->a), s->eps, s->eps);
        break;
    }
    /* eps stays what was predicted, as published. */
    return r->denoiser->quantize ? r->denoiser->quantize(r->denoiser->user, r->n, s->x0) : ENCDIFF_OK;
}

static encdiff_status check_finite(const run *r, int t)
{
    bool finite = true;
    for (size_t i = 0; i < r->count; i++) finite &= isfinite(r->x[i]) != 0;
    if (finite) return ENCDIFF_OK;
    return ed_fail(r->env, ENCDIFF_ERROR_NUMERIC, "sampling: latents that are not finite after the step at timestep %d",
                   t);
}

static encdiff_status take_step(const run *r, const ed_sampler_run_args *args, int i)
{
    ed_sampler *s = r->sampler;
    const step *at = &s->steps[i];
    const float *noise = NULL;
    ED_TRY(predict(r, at, i));
    switch (s->options.method) {
    case ED_SAMPLER_DDIM:
    case ED_SAMPLER_PLMS:
        if (at->sigma > 0) noise = step_noise(r, args, i);
        update_ddim(r, at, noise);
        break;
    case ED_SAMPLER_DDPM:
        if (at->t > 0) noise = step_noise(r, args, i);
        update_ddpm(r, at, noise);
        break;
    case ED_SAMPLER_DPM_SOLVER_PP: update_dpm_solver(r, at, i); break;
    }
    return check_finite(r, at->t);
}

static encdiff_status report(const run *r, const ed_sampler_run_args *args, int done)
{
    if (!args->progress) return ENCDIFF_OK;
    if (args->progress(args->progress_user, done, r->sampler->count, r->n, r->sampler->x0) == 0) return ENCDIFF_OK;
    return ed_fail(r->env, ENCDIFF_CANCELLED, "stopped after %d of %d sampling steps", done, r->sampler->count);
}

static encdiff_status begin(ed_env *env, ed_sampler *sampler, const ed_denoiser *denoiser,
                            const ed_sampler_run_args *args, run *r)
{
    if (args->n <= 0) return ed_fail(env, ENCDIFF_ERROR_SHAPE, "sampling %d images: expected at least 1", args->n);
    ED_TRY(ed_sampler_reserve(env, sampler, args->n));
    *r = (run){.env = env, .sampler = sampler, .denoiser = denoiser, .n = args->n, .x = args->x};
    r->count = (size_t)args->n * sampler->options.elements;
    if (!args->x_T)
        ed_sampler_draw(sampler, args->first_image, args->n, args->x);
    else if (args->x_T != args->x)
        memcpy(args->x, args->x_T, r->count * sizeof(float));
    return ENCDIFF_OK;
}

encdiff_status ed_sampler_run(ed_env *env, ed_sampler *sampler, const ed_denoiser *denoiser,
                              const ed_sampler_run_args *args)
{
    run r;
    ED_TRY(begin(env, sampler, denoiser, args, &r));
    for (int i = 0; i < sampler->count; i++) {
        ED_TRY(ed_check_cancel(env));
        ED_TRY(take_step(&r, args, i));
        ED_TRY(report(&r, args, i + 1));
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- inversion */

/*
 * DDIM's step y -> x is x = sqrt(a' / a) (y - sqrt(1 - a) e(y)) + sqrt(1 - a') e(y), so y is a fixed point of
 * y = sqrt(a / a') x + (sqrt(1 - a) - sqrt(a (1 - a') / a')) e(y), a contraction where steps are small.
 */
static encdiff_status invert_step(const run *r, const step *at)
{
    ed_sampler *s = r->sampler;
    double keep = sqrt(at->a / at->a_next), turn = sqrt(1 - at->a) - keep * sqrt(1 - at->a_next);
    float *y = s->scratch;
    memcpy(y, r->x, r->count * sizeof *y);
    for (int call = 0; call < s->options.inversion_calls; call++) {
        ED_TRY(predict_noise(r, at->t, at->a, y, s->eps));
        combine(r->count, keep, r->x, turn, s->eps, y);
    }
    clean_from_noise(r->count, at->a, y, s->eps, s->x0);
    memcpy(r->x, y, r->count * sizeof *y);
    return check_finite(r, at->t);
}

encdiff_status ed_sampler_invert(ed_env *env, ed_sampler *sampler, const ed_denoiser *denoiser,
                                 const ed_sampler_run_args *args)
{
    run r;
    if (sampler->options.method != ED_SAMPLER_DDIM || sampler->options.eta > 0)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "inversion needs the DDIM sampler with eta 0");
    if (!args->x_T) return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "inversion needs latents to begin with, got NULL");
    ED_TRY(begin(env, sampler, denoiser, args, &r));
    for (int i = sampler->count - 1; i >= 0; i--) {
        ED_TRY(ed_check_cancel(env));
        ED_TRY(invert_step(&r, &sampler->steps[i]));
        ED_TRY(report(&r, args, sampler->count - i));
    }
    return ENCDIFF_OK;
}
