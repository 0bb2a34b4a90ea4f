/*
 * Noise schedules and samplers. Golden numbers come from the fixtures and, for a small formula in the network's place,
 * from a PyTorch implementation of the same equations. The rest is held by analysis: for data that are normal with mean
 * mu and deviation s the best prediction of the noise is known in closed form, the probability-flow ODE keeps
 * z = (x_t - sqrt(a) mu) / sqrt(a s^2 + 1 - a), and stochastic samplers must arrive at the data's moments.
 */
#include <stdlib.h>

#include "diffusion/diffusion.h"
#include "io/safetensors.h"
#include "test.h"

#ifndef FIXTURES
#define FIXTURES "tests/data/fixtures"
#endif

static const char *const kinds[] = {"linear", "sqrt_linear", "sqrt", "cosine"};

typedef struct place {
    ed_memory memory;
    atomic_bool cancel;
    ed_env env;
} place;

static ed_env *place_init(place *p)
{
    memset(p, 0, sizeof *p);
    ed_memory_init(&p->memory, NULL);
    p->env = (ed_env){.memory = &p->memory, .cancel = &p->cancel};
    return &p->env;
}

static ed_schedule make_schedule(ed_env *env, ed_schedule_kind kind, int timesteps)
{
    ed_schedule schedule;
    CHECK_THAT(ed_schedule_init(env, kind, timesteps, 0.0015, 0.0155, 0.008, &schedule) == ENCDIFF_OK, "%s",
               env->message);
    return schedule;
}

/* ---------------------------------------------------------------- schedules */

static const char *fixtures(void)
{
    const char *folder = getenv("ENCDIFF_FIXTURES");
    return folder ? folder : FIXTURES;
}

static void compare(ed_env *env, const ed_safetensors *file, const char *prefix, const char *kind, const double *got)
{
    char name[64];
    double wanted[1000];
    snprintf(name, sizeof name, "%s.%s", prefix, kind);
    const ed_st_tensor *tensor = ed_safetensors_find(file, name);
    if (!CHECK_THAT(tensor && tensor->type == ED_ST_F64 && tensor->count == 1000, "no %s", name)) return;
    CHECK_EQUAL(ed_safetensors_read_raw(env, file, tensor, wanted), ENCDIFF_OK);
    double worst = 0;
    for (int i = 0; i < 1000; i++) worst = fmax(worst, fabs(got[i] - wanted[i]));
    CHECK_THAT(worst <= 1e-12, "%s is off by %g", name, worst);
}

static void schedules_equal_the_published_ones(void)
{
    place p;
    ed_env *env = place_init(&p);
    char path[1024];
    ed_safetensors *file;
    snprintf(path, sizeof path, "%s/schedules.safetensors", fixtures());
    if (!CHECK_THAT(ed_safetensors_open(env, path, &file) == ENCDIFF_OK, "%s", env->message)) return;
    for (int kind = 0; kind < 4; kind++) {
        ed_schedule s = make_schedule(env, (ed_schedule_kind)kind, 1000);
        compare(env, file, "betas", kinds[kind], s.betas);
        compare(env, file, "alphas_cumprod", kinds[kind], s.alphas_cumprod);
        ed_schedule_free(env, &s);
    }
    int64_t wanted[50];
    int32_t got[50];
    const ed_st_tensor *tensor = ed_safetensors_find(file, "ddim_steps.50");
    if (CHECK(tensor && tensor->count == 50) && CHECK_EQUAL(ed_ddim_step_count(50, 1000), 50)) {
        CHECK_EQUAL(ed_safetensors_read_i64(env, file, tensor, wanted), ENCDIFF_OK);
        ed_ddim_steps(50, 1000, got);
        for (int i = 0; i < 50; i++) CHECK_EQUAL(got[i], wanted[i]);
    }
    ed_safetensors_close(env, file);
    CHECK_EQUAL(atomic_load(&p.memory.in_use), 0);
}

static void short_runs_stay_inside_the_schedule(void)
{
    static const int cases[][3] = {{50, 1000, 50},   {30, 1000, 31}, {1000, 1000, 999}, {999, 1000, 999},
                                   {600, 1000, 999}, {1, 1000, 1},   {1, 2, 1},         {2, 2, 1},
                                   {3, 10, 3},       {4, 10, 5},     {7, 1000, 8}};
    for (size_t i = 0; i < ED_COUNT(cases); i++) {
        int32_t steps[1000];
        CHECK_EQUAL(ed_ddim_step_count(cases[i][0], cases[i][1]), cases[i][2]);
        ed_ddim_steps(cases[i][0], cases[i][1], steps);
        CHECK_EQUAL(steps[0], 1);
        CHECK(steps[cases[i][2] - 1] < cases[i][1]);
        CHECK(steps[cases[i][2] - 1] + cases[i][1] / cases[i][0] >= cases[i][1]);
    }
}

static void noising_is_the_schedule_applied(void)
{
    place p;
    ed_env *env = place_init(&p);
    ed_schedule s = make_schedule(env, ED_SCHEDULE_COSINE, 1000);
    const float x0[4] = {1, -2, 0.5f, 3}, eps[4] = {0.25f, 1, -1, 0};
    const int32_t t[2] = {0, 700};
    float out[4];
    CHECK_EQUAL(ed_q_sample(env, &s, 2, 2, t, x0, eps, out), ENCDIFF_OK);
    for (int i = 0; i < 4; i++) {
        double a = s.alphas_cumprod[t[i / 2]];
        CHECK_NEAR(out[i], sqrt(a) * x0[i] + sqrt(1 - a) * eps[i], 1e-6, "f32");
    }
    CHECK_EQUAL(ed_q_sample(env, &s, 2, 2, (int32_t[]){0, 1000}, x0, eps, out), ENCDIFF_ERROR_ARGUMENT);
    CHECK(strstr(env->message, "timestep 1000 of image 1"));
    CHECK_EQUAL(ed_q_sample(env, &s, 1, 2, (int32_t[]){-1}, x0, eps, out), ENCDIFF_ERROR_ARGUMENT);
    ed_schedule_free(env, &s);
    CHECK_EQUAL(atomic_load(&p.memory.in_use), 0);
}

static void a_schedule_that_runs_out_of_signal_is_refused(void)
{
    place p;
    ed_env *env = place_init(&p);
    ed_schedule s;
    CHECK_EQUAL(ed_schedule_init(env, ED_SCHEDULE_SQRT, 100000, 0.5, 0.9, 0, &s), ENCDIFF_ERROR_CONFIG);
    CHECK_THAT(strstr(env->message, "diffusion.beta_schedule"), "%s", env->message);
    CHECK(!s.betas && atomic_load(&p.memory.in_use) == 0);
    for (int kind = 0; kind < 4; kind++) { /* the shortest that a configuration allows */
        s = make_schedule(env, (ed_schedule_kind)kind, 2);
        CHECK(s.alphas_cumprod[1] > 0 && s.alphas_cumprod[1] < s.alphas_cumprod[0] && s.alphas_cumprod[0] < 1);
        ed_schedule_free(env, &s);
    }
}

/* ---------------------------------------------------------------- samplers against given numbers */

static encdiff_status formula(void *user, int n, const float *x, const float *timesteps, float *out)
{
    size_t elements = *(const size_t *)user;
    for (size_t i = 0; i < (size_t)n * elements; i++)
        out[i] = 0.5f * tanhf(x[i]) + 0.1f * cosf(timesteps[i / elements] / 100);
    return ENCDIFF_OK;
}

static void ddim_equals_the_published_arithmetic(void)
{
    static const struct {
        ed_schedule_kind kind;
        int steps, count;
        double eta, wanted[6];
    } cases[] = {
        {ED_SCHEDULE_LINEAR, 10, 10, 0, {15.7971311, 17.5856302, 1.16589917, -12.3901235, -17.663229, -2.27848007}},
        {ED_SCHEDULE_LINEAR, 7, 8, 0, {32.6412046, 36.1382739, 3.26144837, -23.8383503, -34.1728551, -3.90439224}},
        {ED_SCHEDULE_LINEAR, 5, 5, 0.5, {9.15684721, 9.49632802, 0.362417147, -8.02816372, -10.3597478, -1.2388812}},
        {ED_SCHEDULE_COSINE, 50, 50, 1, {32.6875039, 31.1105721, 0.332363846, -19.5207826, -25.4724479, -0.0263677607}},
    };
    place p;
    ed_env *env = place_init(&p);
    float x_T[6], x[6], noise[60 * 6];
    for (int i = 0; i < 6; i++) x_T[i] = 1.5f * sinf((float)i + 1);
    for (int k = 0; k < 60; k++)
        for (int i = 0; i < 6; i++) noise[k * 6 + i] = cosf(3.f * (float)k + (float)i);
    for (size_t c = 0; c < ED_COUNT(cases); c++) {
        ed_schedule schedule = make_schedule(env, cases[c].kind, 1000);
        size_t elements = 3; /* two images of three */
        ed_sampler_options options = {
            .method = ED_SAMPLER_DDIM, .steps = cases[c].steps, .eta = cases[c].eta, .elements = elements};
        ed_denoiser denoiser = {.predict = formula, .user = &elements};
        ed_sampler *sampler;
        CHECK_EQUAL(ed_sampler_create(env, &schedule, &options, &sampler), ENCDIFF_OK);
        CHECK_EQUAL(ed_sampler_step_count(sampler), cases[c].count);
        ed_sampler_run_args args = {.n = 2, .x_T = x_T, .step_noise = noise, .x = x};
        CHECK_EQUAL(ed_sampler_run(env, sampler, &denoiser, &args), ENCDIFF_OK);
        for (int i = 0; i < 6; i++) CHECK_NEAR(x[i], cases[c].wanted[i], 2e-4, "f32 against f64, growing thirtyfold");
        ed_sampler_free(env, sampler);
        ed_schedule_free(env, &schedule);
    }
    CHECK_EQUAL(atomic_load(&p.memory.in_use), 0);
}

/* ---------------------------------------------------------------- samplers against analysis */

#define MEAN 0.7
#define DEVIATION 0.4
#define PARAMETERIZATIONS 3

typedef struct gaussian {
    const ed_schedule *schedule;
    ed_parameterization parameterization;
    size_t elements;
    int calls, fail_at; /* fail_at: the call that returns a NaN; 0: none */
    ed_env *cancel_at_call_3;
} gaussian;

static encdiff_status best_prediction(void *user, int n, const float *x, const float *timesteps, float *out)
{
    gaussian *g = user;
    size_t count = (size_t)n * g->elements;
    double a = g->schedule->alphas_cumprod[(int)timesteps[n - 1]], variance = a * DEVIATION * DEVIATION + 1 - a;
    g->calls++;
    if (g->cancel_at_call_3 && g->calls == 3) atomic_store(g->cancel_at_call_3->cancel, true);
    for (size_t i = 0; i < count; i++) {
        double centred = (x[i] - sqrt(a) * MEAN) / variance;
        double eps = sqrt(1 - a) * centred, x0 = MEAN + sqrt(a) * DEVIATION * DEVIATION * centred;
        out[i] = (float)(g->parameterization == ED_PREDICT_EPS  ? eps
                         : g->parameterization == ED_PREDICT_X0 ? x0
                                                                : sqrt(a) * eps - sqrt(1 - a) * x0);
    }
    if (g->fail_at == g->calls) out[count - 1] = NAN;
    return ENCDIFF_OK;
}

/* Where the exact flow takes x from the first step's level to timestep 0. */
static double exact_flow(const ed_schedule *s, int first, double x)
{
    double a = s->alphas_cumprod[first], b = s->alphas_cumprod[0], v = DEVIATION * DEVIATION;
    return sqrt(b) * MEAN + sqrt(b * v + 1 - b) * (x - sqrt(a) * MEAN) / sqrt(a * v + 1 - a);
}

enum { IMAGES = 3, ELEMENTS = 12, COUNT = IMAGES * ELEMENTS };

/* The largest distance of a deterministic sampler from the exact flow. */
static double flow_error(ed_env *env, const ed_schedule *schedule, ed_sampler_method method,
                         ed_parameterization parameterization, int steps)
{
    gaussian g = {.schedule = schedule, .parameterization = parameterization, .elements = ELEMENTS};
    ed_sampler_options options = {
        .method = method, .steps = steps, .parameterization = parameterization, .elements = ELEMENTS, .seed = 5};
    ed_denoiser denoiser = {.predict = best_prediction, .user = &g};
    ed_sampler *sampler;
    float x_T[COUNT], x[COUNT];
    if (!CHECK_THAT(ed_sampler_create(env, schedule, &options, &sampler) == ENCDIFF_OK, "%s", env->message)) return 1;
    CHECK(ed_sampler_is_deterministic(sampler));
    ed_sampler_draw(sampler, 0, IMAGES, x_T);
    ed_sampler_run_args args = {.n = IMAGES, .x = x};
    CHECK_EQUAL(ed_sampler_run(env, sampler, &denoiser, &args), ENCDIFF_OK);
    int count = ed_sampler_step_count(sampler), first = 1 + (count - 1) * (1000 / steps);
    CHECK_EQUAL(g.calls, count + (method == ED_SAMPLER_PLMS && count > 1));
    double worst = 0;
    for (int i = 0; i < COUNT; i++) worst = fmax(worst, fabs(x[i] - exact_flow(schedule, first, x_T[i])));
    ed_sampler_free(env, sampler);
    return worst;
}

/*
 * Halving the step divides the error by 2^order, less a margin for the last steps, which whole timesteps make uneven.
 * "sqrt" has almost no signal left at its end: there only many steps are accurate, and PLMS, which extrapolates over
 * steps whose size changes a lot, needs hundreds to be stable.
 */
static void deterministic_samplers_converge_to_the_exact_flow(void)
{
    static const struct {
        ed_sampler_method method;
        double at_25, at_200, at_200_sqrt, ratio;
    } cases[] = {{ED_SAMPLER_DDIM, 0.2, 0.03, 0.1, 1.7},
                 {ED_SAMPLER_PLMS, 0.03, 0.0012, 0.02, 3.5},
                 {ED_SAMPLER_DPM_SOLVER_PP, 0.008, 0.001, 0.001, 2.8}};
    place p;
    ed_env *env = place_init(&p);
    for (int i = 0; i < 4 * (int)ED_COUNT(cases) * PARAMETERIZATIONS; i++) {
        int kind = i % 4, c = i / 4 % (int)ED_COUNT(cases);
        ed_parameterization q = (ed_parameterization)(i / (4 * (int)ED_COUNT(cases)));
        ed_schedule schedule = make_schedule(env, (ed_schedule_kind)kind, 1000);
        double e200 = flow_error(env, &schedule, cases[c].method, q, 200);
        if (kind == ED_SCHEDULE_SQRT) {
            CHECK_THAT(e200 <= cases[c].at_200_sqrt, "method %d: %g at 200 steps", cases[c].method, e200);
        } else {
            double e25 = flow_error(env, &schedule, cases[c].method, q, 25);
            double e50 = flow_error(env, &schedule, cases[c].method, q, 50);
            CHECK_THAT(e25 <= cases[c].at_25 && e200 <= cases[c].at_200 && e25 / e50 >= cases[c].ratio,
                       "%s, method %d: %g at 25 steps, %g at 50, %g at 200", kinds[kind], cases[c].method, e25, e50,
                       e200);
        }
        ed_schedule_free(env, &schedule);
    }
    CHECK_EQUAL(atomic_load(&p.memory.in_use), 0);
}

/* ---------------------------------------------------------------- a sampler on the Gaussian, ready to run */

typedef struct bench {
    place place;
    ed_env *env;
    ed_schedule schedule;
    gaussian gaussian;
    ed_denoiser denoiser;
    ed_sampler *sampler;
} bench;

static bool bench_init(bench *b, ed_schedule_kind kind, ed_sampler_options options)
{
    b->env = place_init(&b->place);
    b->schedule = make_schedule(b->env, kind, 1000);
    b->gaussian = (gaussian){
        .schedule = &b->schedule, .parameterization = options.parameterization, .elements = options.elements};
    b->denoiser = (ed_denoiser){.predict = best_prediction, .user = &b->gaussian};
    return CHECK_THAT(ed_sampler_create(b->env, &b->schedule, &options, &b->sampler) == ENCDIFF_OK, "%s",
                      b->env->message);
}

static void bench_free(bench *b)
{
    ed_sampler_free(b->env, b->sampler);
    ed_schedule_free(b->env, &b->schedule);
    CHECK_EQUAL(atomic_load(&b->place.memory.in_use), 0);
}

static void stochastic_samplers_have_the_moments_of_the_data(void)
{
    static const struct {
        ed_sampler_method method;
        int steps;
        double eta, bias; /* of the deviation: what 200 steps lose, falling with their number */
    } cases[] = {{ED_SAMPLER_DDIM, 200, 1, 0.02}, {ED_SAMPLER_DDIM, 200, 0.5, 0.01}, {ED_SAMPLER_DDPM, 0, 0, 0.004}};
    enum { N = 4, WIDTH = 2000, ALL = N * WIDTH };
    static float x[ALL];
    for (int i = 0; i < (int)ED_COUNT(cases) * 2 * PARAMETERIZATIONS; i++) {
        int c = i / (2 * PARAMETERIZATIONS);
        bench b;
        ed_sampler_options options = {.method = cases[c].method,
                                      .steps = cases[c].steps,
                                      .eta = cases[c].eta,
                                      .elements = WIDTH,
                                      .seed = 11,
                                      .parameterization = (ed_parameterization)(i % PARAMETERIZATIONS)};
        if (!bench_init(&b, i / PARAMETERIZATIONS % 2 ? ED_SCHEDULE_COSINE : ED_SCHEDULE_LINEAR, options)) return;
        CHECK(!ed_sampler_is_deterministic(b.sampler));
        ed_sampler_run_args args = {.n = N, .x = x};
        CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_OK);
        double sum = 0, squares = 0;
        for (int k = 0; k < ALL; k++) sum += x[k], squares += (double)x[k] * x[k];
        double mean = sum / ALL, deviation = sqrt(squares / ALL - mean * mean);
        CHECK_NEAR(mean, MEAN, 4 * DEVIATION / sqrt(ALL), "four standard errors");
        CHECK_NEAR(deviation, DEVIATION, 4 * DEVIATION / sqrt(2.0 * ALL) + cases[c].bias,
                   "four standard errors and the bias");
        bench_free(&b);
    }
}

/* ---------------------------------------------------------------- inversion */

static double round_trip(int calls, ed_parameterization parameterization, double *from_flow)
{
    bench b;
    float latents[COUNT], noise[COUNT], back[COUNT];
    ed_sampler_options options = {.method = ED_SAMPLER_DDIM,
                                  .steps = 50,
                                  .inversion_calls = calls,
                                  .parameterization = parameterization,
                                  .elements = ELEMENTS};
    if (!bench_init(&b, ED_SCHEDULE_LINEAR, options)) return 1;
    for (int i = 0; i < COUNT; i++) latents[i] = (float)(MEAN + DEVIATION * sin(3.0 * i));
    ed_sampler_run_args invert = {.n = IMAGES, .x_T = latents, .x = noise};
    ed_sampler_run_args run = {.n = IMAGES, .x_T = noise, .x = back};
    CHECK_EQUAL(ed_sampler_invert(b.env, b.sampler, &b.denoiser, &invert), ENCDIFF_OK);
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &run), ENCDIFF_OK);
    double worst = 0;
    *from_flow = 0;
    for (int i = 0; i < COUNT; i++) {
        worst = fmax(worst, fabs(back[i] - latents[i]));
        *from_flow = fmax(*from_flow, fabs(exact_flow(&b.schedule, 981, noise[i]) - latents[i]));
    }
    bench_free(&b);
    return worst;
}

static void inversion_followed_by_sampling_returns_the_start(void)
{
    for (int i = 0; i < PARAMETERIZATIONS; i++) {
        ed_parameterization predicted = (ed_parameterization)i;
        double flow, explicit_error = round_trip(1, predicted, &flow);
        CHECK_THAT(explicit_error < 0.15, "one call leaves %g", explicit_error);
        double two = round_trip(2, predicted, &flow);
        CHECK_THAT(two < explicit_error / 3, "two calls leave %g, one %g", two, explicit_error);
        double many = round_trip(25, predicted, &flow);
        CHECK_THAT(many < 2e-5, "25 calls leave %g", many);
        CHECK_THAT(flow < 0.1, "the noise is %g from the flow's", flow);
    }
}

static void inversion_in_place_needs_deterministic_ddim(void)
{
    float x[ELEMENTS] = {0.5f}, y[ELEMENTS];
    bench b;
    if (!bench_init(&b, ED_SCHEDULE_LINEAR, (ed_sampler_options){.method = ED_SAMPLER_DDIM, .elements = ELEMENTS}))
        return;
    ed_sampler_run_args apart = {.n = 1, .x_T = x, .x = y}, in_place = {.n = 1, .x_T = x, .x = x};
    CHECK_EQUAL(ed_sampler_invert(b.env, b.sampler, &b.denoiser, &apart), ENCDIFF_OK);
    CHECK_EQUAL(ed_sampler_invert(b.env, b.sampler, &b.denoiser, &in_place), ENCDIFF_OK);
    CHECK(memcmp(x, y, sizeof x) == 0);
    apart.x_T = NULL;
    CHECK_EQUAL(ed_sampler_invert(b.env, b.sampler, &b.denoiser, &apart), ENCDIFF_ERROR_ARGUMENT);
    bench_free(&b);
    static const ed_sampler_options others[] = {{.method = ED_SAMPLER_DDIM, .eta = 0.1, .elements = ELEMENTS},
                                                {.method = ED_SAMPLER_PLMS, .elements = ELEMENTS},
                                                {.method = ED_SAMPLER_DDPM, .elements = ELEMENTS}};
    for (size_t i = 0; i < ED_COUNT(others); i++) {
        if (!bench_init(&b, ED_SCHEDULE_LINEAR, others[i])) return;
        CHECK_EQUAL(ed_sampler_invert(b.env, b.sampler, &b.denoiser, &in_place), ENCDIFF_ERROR_UNSUPPORTED);
        bench_free(&b);
    }
}

/* ---------------------------------------------------------------- noise, buffers, callbacks, failures */

static void images_do_not_depend_on_how_they_are_batched(void)
{
    static const ed_sampler_method methods[] = {ED_SAMPLER_DDIM, ED_SAMPLER_DDPM, ED_SAMPLER_PLMS,
                                                ED_SAMPLER_DPM_SOLVER_PP};
    for (size_t m = 0; m < ED_COUNT(methods); m++) {
        bench b;
        float together[COUNT], alone[COUNT];
        ed_sampler_options options = {
            .method = methods[m], .eta = methods[m] == ED_SAMPLER_DDIM, .elements = ELEMENTS, .seed = 3};
        if (!bench_init(&b, ED_SCHEDULE_LINEAR, options)) return;
        ed_sampler_run_args args = {.n = IMAGES, .first_image = 7, .x = together};
        CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_OK);
        for (uint64_t i = 0; i < IMAGES; i++) {
            args = (ed_sampler_run_args){.n = 1, .first_image = 7 + i, .x = alone + i * ELEMENTS};
            CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_OK);
        }
        CHECK_THAT(memcmp(together, alone, sizeof together) == 0, "method %d", methods[m]);
        ed_sampler_set_seed(b.sampler, 4);
        CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_OK);
        CHECK_THAT(memcmp(together + COUNT - ELEMENTS, args.x, ELEMENTS * sizeof(float)) != 0, "method %d", methods[m]);
        bench_free(&b);
    }
}

static void drawn_noise_is_the_stream_of_the_seed(void)
{
    enum { STEPS = 5 };
    bench b;
    float drawn[COUNT], given[COUNT], x_T[COUNT], noise[STEPS * COUNT];
    ed_sampler_options options = {
        .method = ED_SAMPLER_DDIM, .steps = STEPS, .eta = 1, .elements = ELEMENTS, .seed = 21};
    if (!bench_init(&b, ED_SCHEDULE_LINEAR, options)) return;
    ed_fill_normal(21, ED_RANDOM_SAMPLER, 0, 2 * ELEMENTS, COUNT, x_T);
    for (uint64_t i = 0; i < STEPS; i++)
        ed_fill_normal(21, ED_RANDOM_SAMPLER, i + 1, 2 * ELEMENTS, COUNT, noise + i * COUNT);
    ed_sampler_run_args draw = {.n = IMAGES, .first_image = 2, .x = drawn};
    ed_sampler_run_args give = {.n = IMAGES, .x_T = x_T, .step_noise = noise, .x = given};
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &draw), ENCDIFF_OK);
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &give), ENCDIFF_OK);
    CHECK(memcmp(drawn, given, sizeof drawn) == 0);
    bench_free(&b);
}

static void running_again_allocates_nothing(void)
{
    static const ed_sampler_method methods[] = {ED_SAMPLER_DDIM, ED_SAMPLER_DDPM, ED_SAMPLER_PLMS,
                                                ED_SAMPLER_DPM_SOLVER_PP};
    for (size_t m = 0; m < ED_COUNT(methods); m++) {
        bench b;
        float x[COUNT];
        if (!bench_init(&b, ED_SCHEDULE_LINEAR, (ed_sampler_options){.method = methods[m], .elements = ELEMENTS}))
            return;
        CHECK_EQUAL(ed_sampler_reserve(b.env, b.sampler, IMAGES), ENCDIFF_OK);
        size_t before = atomic_load(&b.place.memory.calls);
        for (int n = 1; n <= IMAGES; n++) {
            ed_sampler_run_args args = {.n = n, .x = x};
            CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_OK);
        }
        CHECK_EQUAL(atomic_load(&b.place.memory.calls), before);
        bench_free(&b);
    }
}

typedef struct watch {
    int calls, stop_at, total;
    float last;
} watch;

static int watch_progress(void *user, int done, int total, int n, const float *x0)
{
    watch *w = user;
    CHECK_EQUAL(done, ++w->calls);
    w->total = total;
    w->last = x0[(size_t)n * ELEMENTS - 1];
    return done == w->stop_at;
}

static encdiff_status nearest_code(void *user, int n, float *x0)
{
    (void)user;
    for (int i = 0; i < n * ELEMENTS; i++) x0[i] = x0[i] < 0.5f ? 0.25f : 0.75f;
    return ENCDIFF_OK;
}

/* DDPM's last step returns its clean prediction: with a codebook, entries of it. */
static void quantized_predictions_are_what_the_steps_use(void)
{
    bench b;
    float x[COUNT];
    watch w = {0};
    if (!bench_init(&b, ED_SCHEDULE_COSINE, (ed_sampler_options){.method = ED_SAMPLER_DDPM, .elements = ELEMENTS}))
        return;
    b.denoiser.quantize = nearest_code;
    ed_sampler_run_args args = {.n = IMAGES, .x = x, .progress = watch_progress, .progress_user = &w};
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_OK);
    CHECK(w.calls == 1000 && w.total == 1000);
    for (int i = 0; i < COUNT; i++) CHECK(x[i] == 0.25f || x[i] == 0.75f);
    CHECK(w.last == x[COUNT - 1]);
    bench_free(&b);
}

static void a_run_can_be_stopped_and_repeated(void)
{
    bench b;
    float whole[COUNT], x[COUNT];
    watch w = {.stop_at = 4};
    if (!bench_init(&b, ED_SCHEDULE_LINEAR, (ed_sampler_options){.method = ED_SAMPLER_PLMS, .elements = ELEMENTS}))
        return;
    ed_sampler_run_args args = {.n = IMAGES, .x = whole};
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_OK);
    args = (ed_sampler_run_args){.n = IMAGES, .x = x, .progress = watch_progress, .progress_user = &w};
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_CANCELLED);
    CHECK_EQUAL(w.calls, 4);
    CHECK_THAT(strstr(b.env->message, "4 of 50"), "%s", b.env->message);
    b.gaussian.calls = 0;
    b.gaussian.cancel_at_call_3 = b.env;
    args.progress = NULL;
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_CANCELLED);
    CHECK_EQUAL(b.gaussian.calls, 3);
    atomic_store(&b.place.cancel, false);
    b.gaussian.cancel_at_call_3 = NULL;
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_OK);
    CHECK(memcmp(x, whole, sizeof x) == 0);
    bench_free(&b);
}

static encdiff_status refuse_prediction(void *user, int n, const float *x, const float *timesteps, float *out)
{
    (void)x, (void)timesteps, (void)out, (void)n;
    return ed_fail(user, ENCDIFF_ERROR_DEVICE, "no device");
}

static void failures_of_the_network_end_the_run(void)
{
    bench b;
    float x[COUNT];
    if (!bench_init(&b, ED_SCHEDULE_LINEAR, (ed_sampler_options){.method = ED_SAMPLER_DDIM, .elements = ELEMENTS}))
        return;
    ed_sampler_run_args args = {.n = IMAGES, .x = x};
    b.gaussian.fail_at = 2;
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_ERROR_NUMERIC);
    CHECK_THAT(strstr(b.env->message, "timestep 961"), "%s", b.env->message);
    ed_denoiser broken = {.predict = refuse_prediction, .user = b.env};
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &broken, &args), ENCDIFF_ERROR_DEVICE);
    args.n = 0;
    CHECK_EQUAL(ed_sampler_run(b.env, b.sampler, &b.denoiser, &args), ENCDIFF_ERROR_SHAPE);
    CHECK_EQUAL(ed_sampler_reserve(b.env, b.sampler, 1), ENCDIFF_OK);
    bench_free(&b);
}

static void impossible_options_are_refused(void)
{
    static const struct {
        ed_sampler_options options;
        const char *message;
    } cases[] = {
        {{.method = 0, .elements = 1}, "method 0"},
        {{.method = 5, .elements = 1}, "method 5"},
        {{.method = ED_SAMPLER_DDIM, .steps = -1, .elements = 1}, "-1 sampling steps"},
        {{.method = ED_SAMPLER_DDIM, .steps = 1001, .elements = 1}, "1001 sampling steps"},
        {{.method = ED_SAMPLER_DDPM, .steps = 50, .elements = 1}, "DDPM takes all 1000"},
        {{.method = ED_SAMPLER_DDIM, .eta = 1.5, .elements = 1}, "eta 1.5"},
        {{.method = ED_SAMPLER_DDIM, .eta = NAN, .elements = 1}, "eta nan"},
        {{.method = ED_SAMPLER_PLMS, .eta = 0.5, .elements = 1}, "only DDIM"},
        {{.method = ED_SAMPLER_DDIM, .inversion_calls = -1, .elements = 1}, "-1 calls"},
        {{.method = ED_SAMPLER_DDIM}, "without elements"},
    };
    place p;
    ed_env *env = place_init(&p);
    ed_schedule schedule = make_schedule(env, ED_SCHEDULE_LINEAR, 1000);
    for (size_t i = 0; i < ED_COUNT(cases); i++) {
        ed_sampler *sampler;
        CHECK_EQUAL(ed_sampler_create(env, &schedule, &cases[i].options, &sampler), ENCDIFF_ERROR_ARGUMENT);
        CHECK_THAT(strstr(env->message, cases[i].message), "%s", env->message);
        CHECK(!sampler);
    }
    ed_sampler_free(env, NULL);
    ed_schedule_free(env, &schedule);
}

/* Every method with every number of steps that a short schedule allows, down to one. */
static void any_number_of_steps_works(void)
{
    place p;
    ed_env *env = place_init(&p);
    for (int timesteps = 2; timesteps <= 40; timesteps += timesteps < 6 ? 1 : 17)
        for (int i = 0; i < 4 * timesteps; i++) {
            ed_sampler_method method = (ed_sampler_method)(1 + i % 4);
            int steps = method == ED_SAMPLER_DDPM ? 0 : 1 + i / 4;
            ed_schedule schedule = make_schedule(env, ED_SCHEDULE_LINEAR, timesteps);
            gaussian g = {.schedule = &schedule, .elements = ELEMENTS};
            ed_denoiser denoiser = {.predict = best_prediction, .user = &g};
            ed_sampler_options options = {.method = method, .steps = steps, .elements = ELEMENTS};
            ed_sampler *sampler;
            float x[ELEMENTS];
            ed_sampler_run_args args = {.n = 1, .x = x};
            CHECK_EQUAL(ed_sampler_create(env, &schedule, &options, &sampler), ENCDIFF_OK);
            CHECK_THAT(ed_sampler_run(env, sampler, &denoiser, &args) == ENCDIFF_OK, "%s", env->message);
            if (method == ED_SAMPLER_DDIM)
                CHECK_EQUAL(
                    ed_sampler_invert(env, sampler, &denoiser, &(ed_sampler_run_args){.n = 1, .x_T = x, .x = x}),
                    ENCDIFF_OK);
            ed_sampler_free(env, sampler);
            ed_schedule_free(env, &schedule);
        }
    CHECK_EQUAL(atomic_load(&p.memory.in_use), 0);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(schedules_equal_the_published_ones),
        TEST(short_runs_stay_inside_the_schedule),
        TEST(noising_is_the_schedule_applied),
        TEST(a_schedule_that_runs_out_of_signal_is_refused),
        TEST(ddim_equals_the_published_arithmetic),
        TEST(deterministic_samplers_converge_to_the_exact_flow),
        TEST(stochastic_samplers_have_the_moments_of_the_data),
        TEST(inversion_followed_by_sampling_returns_the_start),
        TEST(inversion_in_place_needs_deterministic_ddim),
        TEST(images_do_not_depend_on_how_they_are_batched),
        TEST(drawn_noise_is_the_stream_of_the_seed),
        TEST(running_again_allocates_nothing),
        TEST(quantized_predictions_are_what_the_steps_use),
        TEST(a_run_can_be_stopped_and_repeated),
        TEST(failures_of_the_network_end_the_run),
        TEST(impossible_options_are_refused),
        TEST(any_number_of_steps_works),
    };
    return test_main(argc, argv, cases, ED_COUNT(cases));
}
