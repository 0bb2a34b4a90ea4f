/*
 * Noise schedules and what samplers compute. Golden numbers come from the fixtures and, for a small formula in the
 * network's place, from a PyTorch implementation of the same equations; the rest is held by analysis (gaussian.h).
 */
#include "gaussian.h"
#include "io/safetensors.h"

#ifndef FIXTURES
#define FIXTURES "tests/data/fixtures"
#endif

static const char *const kinds[] = {"linear", "sqrt_linear", "sqrt", "cosine"};

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

/* Where the exact flow takes x from the first step's level to timestep 0. */
static double exact_flow(const ed_schedule *s, int first, double x)
{
    double a = s->alphas_cumprod[first], b = s->alphas_cumprod[0], v = DEVIATION * DEVIATION;
    return sqrt(b) * MEAN + sqrt(b * v + 1 - b) * (x - sqrt(a) * MEAN) / sqrt(a * v + 1 - a);
}

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
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
