/* Running samplers: batches, noise, memory, callbacks, cancelling, networks that fail, options. */
#include "gaussian.h"

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
        TEST(images_do_not_depend_on_how_they_are_batched),
        TEST(drawn_noise_is_the_stream_of_the_seed),
        TEST(running_again_allocates_nothing),
        TEST(quantized_predictions_are_what_the_steps_use),
        TEST(a_run_can_be_stopped_and_repeated),
        TEST(failures_of_the_network_end_the_run),
        TEST(impossible_options_are_refused),
        TEST(any_number_of_steps_works),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
