/*
 * Models, training and sampling on a GPU through the shared library as programs use it, compared with the CPU. On the
 * emulation (suite cuda-emulation) also what a program sees when there is no usable device, and device memory that
 * fails. Without a device the exit status is 77.
 */
#include "session.h"

enum { STEPS = 10 };

static void nothing_is_left_on_the_device(void)
{
    if (emulated()) CHECK_EQUAL(emulation.allocations(), 0);
}

/* |a - b| / |b| in the Euclidean norm. */
static double apart(const float *a, const float *b, size_t count)
{
    double off = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        off += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(off / fmax(size, 1e-30));
}

static void check_parameters(session *ours, session *theirs, double bound)
{
    size_t n, m;
    float *x = read_all(ours->context, ours->model, &n), *y = read_all(theirs->context, theirs->model, &m);
    if (CHECK_EQUAL(n, m)) CHECK_NEAR(apart(x, y, n), 0, bound, "trained parameters, statistics and averages");
    free(x);
    free(y);
}

/* ---------------------------------------------------------------- which device */

static void the_device_is_listed_and_used(void)
{
    static const char *const names[] = {"cuda", "cuda:0", "auto"};
    for (int i = 0; i < 3; i++) {
        session s;
        if (!open_on(&s, names[i], TINY)) return;
        encdiff_device_info info = {.struct_size = sizeof info};
        CHECK(encdiff_context_device_count(s.context) >= 2);
        OK(s.context, encdiff_context_get_device(s.context, -1, &info));
        CHECK(strcmp(info.name, "cuda:0") == 0 && info.kind == ENCDIFF_DEVICE_CUDA && info.available && !info.reason);
        CHECK(info.memory_total > 0 && info.memory_free > 0 && info.memory_free <= info.memory_total);
        OK(s.context, encdiff_context_get_device(s.context, 0, &info));
        CHECK(info.kind == ENCDIFF_DEVICE_CPU);
        close_session(&s);
    }
}

static void device_memory_is_counted(void)
{
    session s;
    float pixels[PIXELS], tokens[TOKENS * TOKEN_DIM];
    encdiff_memory_info info = {.struct_size = sizeof info};
    encdiff_image_view view = view_f32(pixels, 1);
    fill_floats(pixels, PIXELS, 1);
    if (!open_on(&s, "cuda", TINY)) return;
    OK(s.context, encdiff_model_encode(s.model, &view, NULL, tokens));
    OK(s.context, encdiff_context_get_memory(s.context, &info));
    CHECK(info.device_in_use > 0 && info.device_peak >= info.device_in_use);
    uint64_t with_model = info.device_in_use;
    encdiff_model_free(s.model);
    s.model = NULL;
    OK(s.context, encdiff_context_get_memory(s.context, &info));
    CHECK(info.device_in_use < with_model && info.device_peak >= with_model);
    encdiff_context_reset_peak(s.context);
    OK(s.context, encdiff_context_get_memory(s.context, &info));
    CHECK_EQUAL(info.device_peak, info.device_in_use);
    close_session(&s);
}

/* ---------------------------------------------------------------- as on the CPU */

static void check_results(const results *ours, const results *theirs, double bound)
{
    CHECK_NEAR(apart(ours->scalars, theirs->scalars, N * TOKENS), 0, bound, "scalars");
    CHECK_NEAR(apart(ours->tokens, theirs->tokens, N * TOKENS * TOKEN_DIM), 0, bound, "tokens");
    CHECK_NEAR(apart(ours->latents, theirs->latents, N * MOST_LATENT), 0, bound, "latents");
    CHECK_NEAR(apart(ours->predicted, theirs->predicted, N * MOST_LATENT), 0, bound, "the U-Net's output");
    CHECK_NEAR(apart(ours->sampled, theirs->sampled, N * MOST_LATENT), 0, 10 * bound, "five steps of DDIM");
    CHECK_NEAR(apart(ours->images, theirs->images, N * PIXELS), 0, 10 * bound, "their images");
}

static void networks_and_sampler_are_as_on_the_cpu(void)
{
    static const char *const configs[] = {TINY, TINY_VQ, TINY_KL};
    for (int i = 0; i < 3; i++) {
        static session cpu, gpu;
        static results ours, theirs;
        if (!open_on(&cpu, "cpu", configs[i]) || !open_on(&gpu, "cuda", configs[i])) return;
        compute(&cpu, &theirs);
        compute(&gpu, &ours);
        check_results(&ours, &theirs, 1e-5 /* f32, some thirty layers */);
        close_session(&cpu);
        close_session(&gpu);
    }
}

static void bf16_is_near(void)
{
    static session cpu, gpu;
    static results ours, theirs;
    if (!open_on(&cpu, "cpu", TINY)) return;
    memset(&gpu, 0, sizeof gpu);
    encdiff_context_options options = options_for(&gpu, "cuda");
    options.precision = ENCDIFF_PRECISION_BF16;
    if (!open_with(&gpu, &options, TINY)) return;
    compute(&cpu, &theirs);
    compute(&gpu, &ours);
    CHECK_NEAR(apart(ours.predicted, theirs.predicted, N * MOST_LATENT), 0, 3e-2, "eight bits an operator");
    CHECK(apart(ours.predicted, theirs.predicted, N * MOST_LATENT) > 1e-5);
    close_session(&cpu);
    close_session(&gpu);
}

/* Losses step by step, and what has become of the parameters. */
static void train_both(const char *config, encdiff_stage stage, int steps)
{
    static session cpu, gpu;
    if (!open_on(&cpu, "cpu", config) || !open_on(&gpu, "cuda", config)) return;
    if (!start_training(&cpu, stage) || !start_training(&gpu, stage)) return;
    for (int i = 0; i < steps; i++) {
        encdiff_train_report a = {.struct_size = sizeof a}, b = {.struct_size = sizeof b};
        OK(gpu.context, encdiff_trainer_step(gpu.trainer, &a));
        OK(cpu.context, encdiff_trainer_step(cpu.trainer, &b));
        CHECK_THAT(fabs(a.loss - b.loss) <= 1e-4 * fabs(b.loss), "step %d: the loss is %.7g, on the CPU %.7g", i + 1,
                   a.loss, b.loss);
    }
    check_parameters(&gpu, &cpu, 1e-3); /* Adam makes steps of rounding noise where a gradient is zero */
    encdiff_trainer_free(gpu.trainer);
    gpu.trainer = NULL;
    check_parameters(&gpu, &cpu, 1e-3); /* they are the host's again */
    close_session(&cpu);
    close_session(&gpu);
}

static void training_is_as_on_the_cpu(void) { train_both(TINY, ENCDIFF_STAGE_ENCDIFF, STEPS); }

/* Thirty-two channels: the emulation takes its time. */
#define NARROW_VQ                                                                                                      \
    TINY_WITH("\"kind\": \"vq\", \"ch\": 32, \"ch_mult\": [1, 1], \"num_res_blocks\": 1, \"n_embed\": 32", "")
static void the_autoencoder_trains_as_on_the_cpu(void) { train_both(NARROW_VQ, ENCDIFF_STAGE_AUTOENCODER, 2); }

/* ---------------------------------------------------------------- state that is on the device */

static void training_resumes_with_the_same_bits(void)
{
    static session whole, half;
    const char *folder = temporary("gpu-resume");
    if (!open_on(&whole, "cuda", TINY) || !start_training(&whole, ENCDIFF_STAGE_ENCDIFF)) return;
    OK(whole.context, encdiff_trainer_run(whole.trainer, 2, NULL, NULL));
    OK(whole.context, encdiff_trainer_save(whole.trainer, folder));
    OK(whole.context, encdiff_trainer_run(whole.trainer, 2, NULL, NULL));
    if (!open_on(&half, "cuda", TINY) || !start_training(&half, ENCDIFF_STAGE_ENCDIFF)) return;
    OK(half.context, encdiff_trainer_step(half.trainer, NULL)); /* to be forgotten */
    OK(half.context, encdiff_trainer_resume(half.trainer, folder));
    CHECK(!same_models(&whole, &half));
    OK(half.context, encdiff_trainer_run(half.trainer, 2, NULL, NULL));
    CHECK(same_models(&whole, &half));
    encdiff_trainer_free(half.trainer);
    half.trainer = NULL;
    encdiff_context_free(NULL);
    encdiff_dataset_free(half.data);
    encdiff_model_free(half.model);
    close_context(half.context, &half.memory);
    close_session(&whole);
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    CHECK_EQUAL(system(command), 0);
}

/* A model read, written, saved and used while a trainer holds it. */
static void a_model_in_training_is_as_the_device_has_it(void)
{
    static session s, copy;
    static const char name[] = "model.diffusion_model.out.2.bias";
    float before[3] = {0}, after[3] = {0}, written[3] = {0.5f, -0.25f, 0.125f};
    void *saved = NULL;
    size_t size = 0;
    if (!open_on(&s, "cuda", TINY) || !start_training(&s, ENCDIFF_STAGE_ENCDIFF)) return;
    OK(s.context, encdiff_model_read_parameter(s.model, name, 3, before));
    OK(s.context, encdiff_trainer_step(s.trainer, NULL));
    OK(s.context, encdiff_model_read_parameter(s.model, name, 3, after));
    CHECK(memcmp(before, after, sizeof before) != 0);
    OK(s.context, encdiff_model_write_parameter(s.model, name, 3, written));
    OK(s.context, encdiff_model_read_parameter(s.model, name, 3, after));
    CHECK(memcmp(written, after, sizeof written) == 0);
    OK(s.context, encdiff_trainer_step(s.trainer, NULL));
    OK(s.context, encdiff_model_read_parameter(s.model, name, 3, after));
    CHECK(memcmp(written, after, sizeof written) != 0 && fabsf(after[0] - written[0]) < 0.01f);
    OK(s.context, encdiff_model_save_memory(s.model, &saved, &size));
    memset(&copy, 0, sizeof copy);
    encdiff_context_options options = options_for(&copy, "cpu");
    CHECK_EQUAL(encdiff_context_create(&options, &copy.context), ENCDIFF_OK);
    OK(copy.context, encdiff_model_load_memory(copy.context, saved, size, &copy.model));
    CHECK(same_models(&s, &copy));
    encdiff_context_release(s.context, saved);
    encdiff_model_free(copy.model);
    close_context(copy.context, &copy.memory);
    close_session(&s);
}

/* A step whose loss is not finite leaves everything as it was. */
static void a_failed_step_changes_nothing(void)
{
    static session s;
    static float pixels[4 * PIXELS];
    encdiff_image_view images = view_f32(pixels, 4);
    size_t n, m;
    float noise[4 * LATENT];
    fill_floats(pixels, 4 * PIXELS, 1);
    for (int i = 0; i < 4 * LATENT; i++) noise[i] = 3e38f;
    if (!open_on(&s, "cuda", TINY) || !start_training(&s, ENCDIFF_STAGE_ENCDIFF)) return;
    OK(s.context, encdiff_trainer_step(s.trainer, NULL));
    float *before = read_all(s.context, s.model, &n);
    FAILS(s.context, encdiff_trainer_step_given(s.trainer, &images, NULL, noise, NULL), ENCDIFF_ERROR_NUMERIC,
          "not finite");
    float *after = read_all(s.context, s.model, &m);
    CHECK(n == m && memcmp(before, after, n * sizeof *before) == 0);
    OK(s.context, encdiff_trainer_step(s.trainer, NULL));
    free(before);
    free(after);
    close_session(&s);
}

static void a_model_is_shared_between_devices(void)
{
    static session gpu, cpu;
    static results ours, theirs;
    encdiff_model *shared = NULL;
    if (!open_on(&gpu, "cuda", TINY)) return;
    compute(&gpu, &ours);
    memset(&cpu, 0, sizeof cpu);
    encdiff_context_options options = options_for(&cpu, "cpu");
    CHECK_EQUAL(encdiff_context_create(&options, &cpu.context), ENCDIFF_OK);
    OK(gpu.context, encdiff_model_share(gpu.model, cpu.context, &shared));
    cpu.model = shared;
    compute(&cpu, &theirs);
    check_results(&ours, &theirs, 1e-5);
    encdiff_model_free(shared);
    close_context(cpu.context, &cpu.memory);
    close_session(&gpu);
}

/* ---------------------------------------------------------------- no device, and the caller's */

static void reasons_are_told_and_auto_takes_the_cpu(void)
{
    static const struct {
        const char *setting, *reason, *reset;
    } states[] = {{"devices=-1", "driver", "devices=2"},
                  {"devices=0", "no NVIDIA GPU", "devices=2"},
                  {"capability=75", "compute capability", "capability=90"}};
    if (!emulated()) return;
    for (int i = 0; i < 3; i++) {
        session s;
        encdiff_device_info info = {.struct_size = sizeof info};
        memset(&s, 0, sizeof s);
        emulation.control(states[i].setting);
        encdiff_context_options options = options_for(&s, "cuda");
        CHECK_EQUAL(encdiff_context_create(&options, &s.context), ENCDIFF_ERROR_DEVICE);
        options.device = "auto";
        if (CHECK_EQUAL(encdiff_context_create(&options, &s.context), ENCDIFF_OK)) {
            OK(s.context, encdiff_context_get_device(s.context, -1, &info));
            CHECK(info.kind == ENCDIFF_DEVICE_CPU);
            OK(s.context, encdiff_context_get_device(s.context, 1, &info));
            CHECK_THAT(!info.available && info.reason && strstr(info.reason, states[i].reason), "%s: the reason is %s",
                       states[i].setting, info.reason ? info.reason : "not told");
            close_session(&s);
        }
        emulation.control(states[i].reset);
    }
}

/* The first device has no memory for the backend; "cuda" and "auto" take the second. */
static void the_first_device_that_works_is_taken(void)
{
    static const char *const names[] = {"cuda", "auto"};
    if (!emulated()) return;
    for (int i = 0; i < 2; i++) {
        static session s;
        static results r;
        encdiff_device_info info = {.struct_size = sizeof info};
        emulation.control("fail=0");
        if (!open_on(&s, names[i], TINY)) return;
        OK(s.context, encdiff_context_get_device(s.context, -1, &info));
        CHECK(strcmp(info.name, "cuda:1") == 0 && encdiff_context_error(s.context)[0] == '\0');
        compute(&s, &r);
        close_session(&s);
    }
}

static void the_callers_device_stays(void)
{
    static session s;
    static results r;
    if (!emulated()) return;
    emulation.set_current_device(1);
    if (open_on(&s, "cuda:0", TINY)) {
        CHECK_EQUAL(emulation.current_device(), 1);
        compute(&s, &r);
        CHECK_EQUAL(emulation.current_device(), 1);
        if (start_training(&s, ENCDIFF_STAGE_ENCDIFF)) OK(s.context, encdiff_trainer_run(s.trainer, 2, NULL, NULL));
        CHECK_EQUAL(emulation.current_device(), 1);
        CHECK(encdiff_context_device_count(s.context) == 3);
        close_session(&s);
    }
    CHECK_EQUAL(emulation.current_device(), 1);
    emulation.set_current_device(0);
}

/* The caller's stream has the work, is waited for, and is the caller's afterwards. */
static void the_callers_stream_is_worked_on(void)
{
    static session own, given;
    static results ours, theirs;
    if (!emulated() || !open_on(&own, "cuda:0", TINY)) return;
    void *stream = emulation.stream();
    memset(&given, 0, sizeof given);
    encdiff_context_options options = options_for(&given, "cuda:0");
    options.stream = stream;
    if (open_with(&given, &options, TINY)) {
        compute(&own, &theirs);
        compute(&given, &ours);
        CHECK(memcmp(&ours, &theirs, sizeof ours) == 0);
        if (start_training(&given, ENCDIFF_STAGE_ENCDIFF)) {
            OK(given.context, encdiff_trainer_step(given.trainer, NULL));
            CHECK(emulation.waiting(stream) > 0); /* the update, which nobody has asked for yet */
        }
        encdiff_trainer_free(given.trainer);
        encdiff_dataset_free(given.data);
        encdiff_model_free(given.model);
        close_context(given.context, &given.memory);
        CHECK_EQUAL(emulation.waiting(stream), 0);
    }
    emulation.destroy_stream(stream);
    close_session(&own);
}

/* ---------------------------------------------------------------- device memory that fails */

/* Which allocation fails: 0 the next. */
static void fail_at(long n)
{
    char text[32];
    snprintf(text, sizeof text, "fail=%ld", n);
    emulation.control(text);
}

/* One context from its creation to a picture, over which every allocation fails once. */
static encdiff_status everything(session *s)
{
    static float pixels[2 * PIXELS], noise[2 * LATENT];
    encdiff_image_view images = view_f32(pixels, 2), one = view_f32(pixels, 1), out = one;
    encdiff_context_options options = options_for(s, "cuda:0"); /* "cuda" would take the next one */
    encdiff_sampler_options sampling;
    encdiff_sampler *sampler = NULL;
    encdiff_sampler_options_init(&sampling, sizeof sampling);
    sampling.steps = 2;
    fill_floats(pixels, 2 * PIXELS, 1);
    fill_floats(noise, 2 * LATENT, 2);
    encdiff_status status = s->context ? ENCDIFF_OK : encdiff_context_create(&options, &s->context);
    if (status == ENCDIFF_OK && !s->model) status = encdiff_model_create(s->context, TINY, 1, &s->model);
    if (status == ENCDIFF_OK && !s->trainer) status = encdiff_trainer_create(s->model, NULL, NULL, &s->trainer);
    for (int i = 0; i < 2 && status == ENCDIFF_OK; i++) /* plain, recorded */
        status = encdiff_trainer_step_given(s->trainer, &images, NULL, noise, NULL);
    if (status == ENCDIFF_OK) status = encdiff_sampler_create(s->model, &sampling, &sampler);
    if (status == ENCDIFF_OK) status = encdiff_sampler_reconstruct(sampler, &one, noise, &out, NULL, NULL);
    encdiff_sampler_free(sampler);
    return status;
}

static void every_allocation_may_fail(void)
{
    if (!emulated()) return;
    int failures = 0, fine = 0, n;
    for (n = 0; n < 1000; n++) {
        static session s;
        memset(&s, 0, sizeof s);
        fail_at(n);
        encdiff_status status = everything(&s);
        fail_at(-1);
        if (getenv("ENCDIFF_TEST_VERBOSE")) printf("allocation %d: %s\n", n, encdiff_status_name(status));
        if (status != ENCDIFF_OK) {
            failures++;
            CHECK_THAT(status == ENCDIFF_ERROR_OUT_OF_MEMORY, "allocation %d: %s: %s", n, encdiff_status_name(status),
                       encdiff_context_error(s.context));
            CHECK_THAT(everything(&s) == ENCDIFF_OK, "after allocation %d failed: %s", n,
                       encdiff_context_error(s.context));
        }
        fine = status == ENCDIFF_OK ? fine + 1 : 0; /* recordings that fail go on as plain runs */
        close_session(&s);
        CHECK_EQUAL(emulation.allocations(), 0);
        if (fine == 8) break;
    }
    CHECK_THAT(failures > 10 && n < 1000, "%d of %d allocations failed", failures, n);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(the_device_is_listed_and_used),
        TEST(device_memory_is_counted),
        TEST(networks_and_sampler_are_as_on_the_cpu),
        TEST(bf16_is_near),
        TEST(training_is_as_on_the_cpu),
        TEST(the_autoencoder_trains_as_on_the_cpu),
        TEST(training_resumes_with_the_same_bits),
        TEST(a_model_in_training_is_as_the_device_has_it),
        TEST(a_failed_step_changes_nothing),
        TEST(a_model_is_shared_between_devices),
        TEST(reasons_are_told_and_auto_takes_the_cpu),
        TEST(the_first_device_that_works_is_taken),
        TEST(the_callers_device_stays),
        TEST(the_callers_stream_is_worked_on),
        TEST(every_allocation_may_fail),
        TEST(nothing_is_left_on_the_device),
    };
    if (!there_is_a_device()) return 77;
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
