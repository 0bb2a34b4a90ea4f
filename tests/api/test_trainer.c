/* Training: steps, what they depend on, evaluation, numbers that are none, files, and stopping. */
#include <dirent.h>
#include <sys/stat.h>

#include "api.h"

enum { BATCH = 4, VQ_LATENT = 3 * 8 * 8 };

/* A model with a trainer on the first images of the procedural set. */
typedef struct bench {
    counted_memory memory;
    encdiff_context *context;
    encdiff_model *model;
    encdiff_dataset *data;
    encdiff_trainer *trainer;
} bench;

static encdiff_trainer_options default_options(void)
{
    encdiff_trainer_options options;
    encdiff_trainer_options_init(&options, sizeof options);
    return options;
}

static void begin(bench *b, const char *config, int32_t threads, const encdiff_trainer_options *options)
{
    b->context = open_context(&b->memory, threads);
    b->model = make_model(b->context, config, 3);
    b->data = open_shapes(b->context, "procedural:shapes3d[0:50]");
    b->trainer = NULL;
    OK(b->context, encdiff_trainer_create(b->model, b->data, options, &b->trainer));
}

static void end(bench *b)
{
    encdiff_trainer_free(b->trainer);
    encdiff_dataset_free(b->data);
    encdiff_model_free(b->model);
    close_context(b->context, &b->memory);
}

static double step(bench *b)
{
    encdiff_train_report report = {.struct_size = sizeof report};
    OK(b->context, encdiff_trainer_step(b->trainer, &report));
    return report.loss;
}

/* A batch of the caller's. */
typedef struct given {
    float pixels[BATCH * PIXELS], noise[BATCH * VQ_LATENT];
    int32_t timesteps[BATCH];
    encdiff_image_view images;
} given;

static void make_given(given *g)
{
    fill_floats(g->pixels, BATCH * PIXELS, 5);
    fill_floats(g->noise, BATCH * VQ_LATENT, 6);
    for (int i = 0; i < BATCH; i++) g->timesteps[i] = 10 + 300 * i;
    g->images = view_f32(g->pixels, BATCH);
}

/* ---------------------------------------------------------------- steps */

static void steps_count_and_learn(void)
{
    bench b;
    encdiff_model_info info = {.struct_size = sizeof info};
    encdiff_train_report report = {.struct_size = sizeof report};
    begin(&b, TINY, 2, NULL);
    OK(b.context, encdiff_trainer_get_report(b.trainer, &report));
    CHECK(isnan(report.loss)); /* before the first step */
    CHECK_EQUAL(report.step, 0);
    double first = 0, last = 0;
    for (int i = 0; i < 40; i++) {
        OK(b.context, encdiff_trainer_step(b.trainer, &report));
        CHECK_EQUAL(report.step, i + 1);
        CHECK_EQUAL(report.epoch, (i * BATCH + BATCH - 1) / 50); /* of the step's last image */
        if (i < 8) first += report.loss / 8;
        if (i >= 32) last += report.loss / 8;
    }
    CHECK_THAT(last < 0.97 * first, "the loss went from %g to %g", first, last);
    if (CHECK_EQUAL(report.count, 1)) {
        CHECK_TEXT(report.names[0], "simple");
        CHECK_NEAR(report.values[0], report.loss, 1e-12, "the only term");
    }
    CHECK_NEAR(report.learning_rate, 0.001, 1e-12, "no warm-up");
    CHECK(report.images_per_second > 0);
    OK(b.context, encdiff_model_get_info(b.model, &info));
    CHECK_EQUAL(info.steps, 40);
    CHECK_EQUAL(info.has_ema, 1);
    CHECK(info.latent_scale > 1); /* 1/std of the first batch */
    end(&b);
}

static void the_autoencoder_stage_learns(void)
{
    bench b;
    encdiff_trainer_options options = default_options();
    encdiff_train_report report = {.struct_size = sizeof report};
    double first = 0, last = 0;
    options.stage = ENCDIFF_STAGE_AUTOENCODER;
    begin(&b, TINY_VQ, 2, &options);
    for (int i = 0; i < 20; i++) {
        OK(b.context, encdiff_trainer_step(b.trainer, &report));
        for (int32_t k = 0; k < report.count; k++) {
            if (strcmp(report.names[k], "reconstruction") != 0) continue;
            if (i < 4) first += report.values[k] / 4;
            if (i >= 16) last += report.values[k] / 4;
        }
    }
    CHECK_THAT(last < first, "the reconstruction error went from %g to %g", first, last);
    end(&b);
}

/* Everything is drawn from the seed. */
static void training_depends_on_the_seed_alone(void)
{
    bench a, b, c;
    encdiff_trainer_options options = default_options(), other = options;
    other.seed = 1;
    begin(&a, TINY, 2, &options);
    begin(&b, TINY, 2, &options);
    begin(&c, TINY, 2, &other);
    for (int i = 0; i < 4; i++) {
        double loss = step(&a);
        CHECK(loss == step(&b)); /* bit for bit */
        CHECK(fabs(loss - step(&c)) > 1e-9);
    }
    CHECK(same_parameters(a.context, a.model, b.model));
    CHECK(!same_parameters(a.context, a.model, c.model));
    end(&c);
    end(&b);
    end(&a);
}

/* Six steps on a given batch: losses and parameters with 1, 2 and 3 threads. */
static void train_given(const char *config, int32_t stage, int32_t threads, double losses[6], float **parameters,
                        size_t *count)
{
    static given g;
    bench b;
    encdiff_trainer_options options = default_options();
    encdiff_train_report report = {.struct_size = sizeof report};
    bool encdiff = stage == ENCDIFF_STAGE_ENCDIFF;
    options.stage = stage;
    begin(&b, config, threads, &options);
    make_given(&g);
    for (int i = 0; i < 6; i++) {
        OK(b.context, encdiff_trainer_step_given(b.trainer, &g.images, encdiff ? g.timesteps : NULL,
                                                 encdiff ? g.noise : NULL, &report));
        losses[i] = report.loss;
    }
    *parameters = read_all(b.context, b.model, count);
    end(&b);
}

static void given_steps_do_not_depend_on_the_thread_count(void)
{
    /* not VQ: where two codes are almost equally near, rounding decides which one is taken */
    static const char *const configs[] = {TINY, TINY_KL};
    for (int stage = ENCDIFF_STAGE_ENCDIFF; stage >= ENCDIFF_STAGE_AUTOENCODER; stage--) {
        const char *config = configs[stage == ENCDIFF_STAGE_AUTOENCODER];
        double one[6], many[6], again[6];
        float *p, *q, *r;
        size_t n, m, k;
        train_given(config, stage, 1, one, &p, &n);
        train_given(config, stage, 3, many, &q, &m);
        train_given(config, stage, 3, again, &r, &k);
        /* Adam divides a gradient by its own size, so that one of rounding alone moves a parameter as far as any other:
         * from step to step the losses part by about ten times, and a learning rate of 1e-3 makes the steps large. */
        for (int i = 0; i < 6; i++) CHECK_NEAR(many[i] / one[i], 1, i < 4 ? 1e-5 : 1e-4, "sums in another order");
        CHECK(memcmp(many, again, sizeof many) == 0);
        if (CHECK(n == m && n == k)) {
            CHECK(memcmp(q, r, n * sizeof *q) == 0);
            CHECK_NEAR(largest_difference(p, q, n), 0, 2 * 6 * 1e-3,
                       "a gradient that is rounding alone may take all six steps of Adam the other way");
        }
        free(p);
        free(q);
        free(r);
    }
}

static void evaluation_changes_nothing(void)
{
    static given g;
    bench a, b;
    encdiff_train_report report = {.struct_size = sizeof report}, again = report;
    begin(&a, TINY, 2, NULL);
    begin(&b, TINY, 2, NULL);
    make_given(&g);
    step(&a);
    step(&b);
    OK(a.context, encdiff_trainer_evaluate(a.trainer, &g.images, g.timesteps, g.noise, &report));
    OK(a.context, encdiff_trainer_evaluate(a.trainer, &g.images, g.timesteps, g.noise, &again));
    CHECK(report.loss > 0 && report.loss == again.loss);
    OK(a.context, encdiff_trainer_evaluate(a.trainer, &g.images, NULL, NULL, NULL));
    CHECK(same_parameters(a.context, a.model, b.model));
    CHECK(step(&a) == step(&b)); /* the random numbers go on as if nothing had been */
    CHECK(same_parameters(a.context, a.model, b.model));
    end(&b);
    end(&a);
}

/* The losses that evaluation reports fall when the parameters are trained on the same batch. */
static void evaluation_agrees_with_training(void)
{
    static given g;
    bench b;
    encdiff_train_report before = {.struct_size = sizeof before}, after = before;
    begin(&b, TINY, 2, NULL);
    make_given(&g);
    OK(b.context, encdiff_model_use_ema(b.model, ENCDIFF_OFF));
    for (int i = 0; i < 3; i++)
        OK(b.context, encdiff_trainer_step_given(b.trainer, &g.images, g.timesteps, g.noise, NULL));
    OK(b.context, encdiff_trainer_evaluate(b.trainer, &g.images, g.timesteps, g.noise, &before));
    for (int i = 0; i < 30; i++)
        OK(b.context, encdiff_trainer_step_given(b.trainer, &g.images, g.timesteps, g.noise, NULL));
    OK(b.context, encdiff_trainer_evaluate(b.trainer, &g.images, g.timesteps, g.noise, &after));
    CHECK_THAT(after.loss < 0.9 * before.loss, "%g became %g", before.loss, after.loss);
    end(&b);
}

/* Of a batch under TINY's linear schedule. */
static double target_square(const char *kind, const given *g, const float *latents)
{
    double sum = 0, first = sqrt(0.0015), last = sqrt(0.0155);
    for (int i = 0; i < BATCH; i++) {
        double a = 1;
        for (int t = 0; t <= g->timesteps[i]; t++) {
            double root = first + (last - first) * t / (TIMESTEPS - 1);
            a *= 1 - root * root;
        }
        for (int k = i * LATENT; k < (i + 1) * LATENT; k++) {
            double noise = g->noise[k], clean = latents[k], v = sqrt(a) * noise - sqrt(1 - a) * clean;
            double target = !strcmp(kind, "eps") ? noise : !strcmp(kind, "x0") ? clean : v;
            sum += target * target;
        }
    }
    return sum / (BATCH * LATENT);
}

/* The network's last layer starts at zero, so the first loss is the mean square of what it has to predict. */
static void the_first_loss_is_the_targets_square(void)
{
    static const char *const names[] = {"eps", "x0", "v"}, *const key = "\"loss_type\"", *const config = TINY;
    static given g;
    make_given(&g);
    for (int kind = 0; kind < 3; kind++) {
        bench b;
        char changed[2048];
        float latents[BATCH * LATENT];
        int before = (int)(strstr(config, key) - config);
        snprintf(changed, sizeof changed, "%.*s\"parameterization\": \"%s\", %s", before, config, names[kind],
                 config + before);
        encdiff_train_report first = {.struct_size = sizeof first}, evaluated = first;
        begin(&b, changed, 2, NULL);
        OK(b.context, encdiff_trainer_evaluate(b.trainer, &g.images, g.timesteps, g.noise, &evaluated));
        OK(b.context, encdiff_trainer_step_given(b.trainer, &g.images, g.timesteps, g.noise, &first));
        OK(b.context, encdiff_model_latents_from_images(b.model, &g.images, latents));
        double expected = target_square(names[kind], &g, latents);
        CHECK_NEAR(first.loss, expected, 1e-5 * expected, names[kind]);
        CHECK_NEAR(evaluated.loss, expected, 1e-5 * expected, names[kind]);
        end(&b);
    }
}

static void the_model_is_usable_between_steps(void)
{
    static given g;
    bench b;
    float before[BATCH * TOKENS], after[BATCH * TOKENS], latents[LATENT], tokens[TOKENS * TOKEN_DIM] = {0};
    encdiff_sampler *sampler = NULL;
    encdiff_sampler_options options;
    encdiff_sampler_options_init(&options, sizeof options);
    options.steps = 2;
    begin(&b, TINY, 1, NULL);
    make_given(&g);
    OK(b.context, encdiff_sampler_create(b.model, &options, &sampler));
    OK(b.context, encdiff_model_encode(b.model, &g.images, before, NULL));
    step(&b);
    OK(b.context, encdiff_model_encode(b.model, &g.images, after, NULL));
    CHECK(largest_difference(before, after, BATCH * TOKENS) > 1e-6); /* what was learnt is what encodes */
    OK(b.context, encdiff_sampler_sample(sampler, 1, tokens, NULL, NULL, latents, NULL, NULL, NULL));
    step(&b);
    encdiff_sampler_free(sampler);
    end(&b);
}

static void averages_follow_the_parameters(void)
{
    static const char name[] = "model.diffusion_model.out.2.weight",
                      average[] = "ema.model.diffusion_model.out.2.weight";
    enum { COUNT = 3 * 32 * 9 };
    float values[COUNT], averages[COUNT];
    bench b;
    encdiff_trainer_options options = default_options();
    encdiff_model_info info = {.struct_size = sizeof info};
    begin(&b, TINY, 1, NULL);
    for (int i = 0; i < 3; i++) step(&b);
    OK(b.context, encdiff_model_read_parameter(b.model, name, COUNT, values));
    OK(b.context, encdiff_model_read_parameter(b.model, average, COUNT, averages));
    CHECK(largest_difference(values, averages, COUNT) > 1e-6);
    OK(b.context, encdiff_model_use_ema(b.model, ENCDIFF_ON));
    end(&b);
    options.ema = ENCDIFF_OFF;
    begin(&b, TINY, 1, &options);
    step(&b);
    OK(b.context, encdiff_model_get_info(b.model, &info));
    CHECK_EQUAL(info.has_ema, 0);
    FAILS(b.context, encdiff_model_read_parameter(b.model, average, COUNT, averages), ENCDIFF_ERROR_NOT_FOUND, "ema.");
    end(&b);
}

static void cached_latents_change_no_loss(void)
{
    bench a, b;
    encdiff_trainer_options options = default_options();
    options.cache_latents = ENCDIFF_OFF;
    begin(&a, TINY_VQ, 1, &options);
    options.cache_latents = ENCDIFF_ON;
    begin(&b, TINY_VQ, 1, &options);
    for (int i = 0; i < 16; i++) CHECK_NEAR(step(&a), step(&b), 1e-7, "each image is seen once, then from the cache");
    end(&b);
    end(&a);
}

/* ---------------------------------------------------------------- arguments */

static void options_are_checked(void)
{
    static given g;
    bench b;
    encdiff_trainer *second = NULL;
    encdiff_dataset *large = NULL, *small = NULL;
    encdiff_trainer_options options = default_options();
    encdiff_train_report report = {.struct_size = 0};
    begin(&b, TINY, 1, NULL);
    make_given(&g);
    FAILS(b.context, encdiff_trainer_create(b.model, b.data, NULL, &second), ENCDIFF_ERROR_STATE, "another trainer");
    FAILS(b.context, encdiff_trainer_get_report(b.trainer, &report), ENCDIFF_ERROR_ARGUMENT, "struct_size");
    FAILS(b.context, encdiff_trainer_get_report(b.trainer, NULL), ENCDIFF_ERROR_ARGUMENT, "report");
    FAILS(b.context, encdiff_trainer_set_learning_rate(b.trainer, -1), ENCDIFF_ERROR_ARGUMENT, "learning_rate");
    FAILS(b.context, encdiff_trainer_set_learning_rate(b.trainer, NAN), ENCDIFF_ERROR_ARGUMENT, "learning_rate");
    FAILS(b.context, encdiff_trainer_run(b.trainer, -1, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "steps");
    FAILS(b.context, encdiff_trainer_save(b.trainer, NULL), ENCDIFF_ERROR_ARGUMENT, "folder");
    FAILS(b.context, encdiff_trainer_resume(b.trainer, NULL), ENCDIFF_ERROR_ARGUMENT, "path");
    g.timesteps[1] = TIMESTEPS;
    FAILS(b.context, encdiff_trainer_step_given(b.trainer, &g.images, g.timesteps, g.noise, NULL),
          ENCDIFF_ERROR_ARGUMENT, "1000");
    FAILS(b.context, encdiff_trainer_evaluate(b.trainer, &g.images, g.timesteps, g.noise, NULL), ENCDIFF_ERROR_ARGUMENT,
          "1000");
    g.timesteps[1] = 0;
    g.noise[0] = NAN;
    FAILS(b.context, encdiff_trainer_step_given(b.trainer, &g.images, g.timesteps, g.noise, NULL),
          ENCDIFF_ERROR_NUMERIC, "noise");
    g.images.width = SIDE * 2;
    FAILS(b.context, encdiff_trainer_step_given(b.trainer, &g.images, NULL, NULL, NULL), ENCDIFF_ERROR_SHAPE, "16x32");
    FAILS(b.context, encdiff_trainer_step_given(b.trainer, NULL, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "batch");
    encdiff_trainer_free(b.trainer);
    b.trainer = NULL;

    OK(b.context, encdiff_dataset_open(b.context, "procedural:shapes3d", NULL, &large)); /* 64x64 */
    FAILS(b.context, encdiff_trainer_create(b.model, large, NULL, &second), ENCDIFF_ERROR_SHAPE, "64x64");
    OK(b.context, encdiff_dataset_slice(b.data, 0, BATCH - 1, &small));
    FAILS(b.context, encdiff_trainer_create(b.model, small, NULL, &second), ENCDIFF_ERROR_SHAPE, "3");
    encdiff_dataset_free(large);
    encdiff_dataset_free(small);
    options.stage = 3;
    FAILS(b.context, encdiff_trainer_create(b.model, b.data, &options, &second), ENCDIFF_ERROR_ARGUMENT, "stage");
    options.stage = ENCDIFF_STAGE_AUTOENCODER;
    encdiff_status status = encdiff_trainer_create(b.model, b.data, &options, &second);
    CHECK_EQUAL(status, ENCDIFF_ERROR_UNSUPPORTED); /* nothing to train in "average" */
    options = default_options();
    options.batch_size = -1;
    FAILS(b.context, encdiff_trainer_create(b.model, b.data, &options, &second), ENCDIFF_ERROR_ARGUMENT, "batch_size");
    options = default_options();
    options.output = "/proc/nowhere";
    FAILS(b.context, encdiff_trainer_create(b.model, b.data, &options, &second), ENCDIFF_ERROR_IO, "/proc/nowhere");
    CHECK(!second);
    FAILS(b.context, encdiff_trainer_create(b.model, b.data, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "out");
    OK(b.context, encdiff_trainer_create(b.model, NULL, NULL, &b.trainer)); /* without data: given batches only */
    FAILS(b.context, encdiff_trainer_step(b.trainer, NULL), ENCDIFF_ERROR_STATE, "dataset");
    make_given(&g);
    OK(b.context, encdiff_trainer_step_given(b.trainer, &g.images, NULL, NULL, NULL));
    end(&b);
}

static void a_null_trainer_is_refused(void)
{
    encdiff_train_report report = {.struct_size = sizeof report};
    encdiff_trainer *trainer;
    encdiff_trainer_free(NULL);
    CHECK_EQUAL(encdiff_trainer_create(NULL, NULL, NULL, &trainer), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_trainer_step(NULL, &report), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_trainer_step_given(NULL, NULL, NULL, NULL, &report), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_trainer_evaluate(NULL, NULL, NULL, NULL, &report), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_trainer_run(NULL, 1, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_trainer_get_report(NULL, &report), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_trainer_set_learning_rate(NULL, 1), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_trainer_save(NULL, "x"), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_trainer_resume(NULL, "x"), ENCDIFF_ERROR_ARGUMENT);
}

static void reports_of_other_sizes_are_filled(void)
{
    bench b;
    struct {
        encdiff_train_report known;
        uint64_t later;
    } report;
    begin(&b, TINY, 1, NULL);
    memset(&report, 0xff, sizeof report);
    report.known.struct_size = offsetof(encdiff_train_report, epoch);
    OK(b.context, encdiff_trainer_step(b.trainer, &report.known));
    CHECK_EQUAL(report.known.step, 1);
    CHECK_EQUAL(report.known.epoch, -1);
    report.known.struct_size = sizeof report;
    OK(b.context, encdiff_trainer_get_report(b.trainer, &report.known));
    CHECK_EQUAL(report.known.epoch, 0);
    CHECK_EQUAL(report.later, 0);
    end(&b);
}

/* ---------------------------------------------------------------- learning that diverges */

static float *parameters_of(bench *b, size_t *count) { return read_all(b->context, b->model, count); }

/*
 * With an absurd rate the loss stops being a number. The step that finds out says so, and parameters, statistics and
 * averages are those before it; once they are repaired, training goes on.
 */
static void diverging(const char *config, int32_t stage)
{
    bench b;
    encdiff_trainer_options options = default_options();
    encdiff_status status = ENCDIFF_OK;
    float *before = NULL, *after;
    size_t n = 0, m;
    options.stage = stage;
    begin(&b, config, 2, &options);
    step(&b);
    OK(b.context, encdiff_trainer_set_learning_rate(b.trainer, 1e30));
    for (int i = 0; i < 20 && status == ENCDIFF_OK; i++) {
        free(before);
        before = parameters_of(&b, &n);
        status = encdiff_trainer_step(b.trainer, NULL);
    }
    CHECK_EQUAL(status, ENCDIFF_ERROR_NUMERIC);
    CHECK_THAT(strstr(encdiff_context_error(b.context), "step "), "%s", encdiff_context_error(b.context));
    after = parameters_of(&b, &m);
    size_t changed = 0;
    for (size_t i = 0; i < n && n == m; i++) changed += memcmp(&before[i], &after[i], sizeof *before) != 0;
    CHECK_THAT(n == m && changed == 0, "stage %d: %zu of %zu numbers changed", stage, changed, n);
    free(before);
    free(after);
    CHECK_EQUAL(encdiff_trainer_step(b.trainer, NULL), ENCDIFF_ERROR_NUMERIC);
    end(&b);
}

static void diverging_training_stops_with_the_parameters_before(void)
{
    diverging(TINY, ENCDIFF_STAGE_ENCDIFF);
    diverging(TINY_VQ, ENCDIFF_STAGE_AUTOENCODER);
}

/* ---------------------------------------------------------------- stopping */

typedef struct stop_at {
    int64_t step, calls;
    encdiff_context *cancel; /* instead of returning non-zero */
} stop_at;

static int32_t stop_at_step(const encdiff_train_report *report, void *user)
{
    stop_at *stop = user;
    stop->calls++;
    CHECK(report->struct_size >= sizeof *report);
    CHECK_EQUAL(report->step, stop->calls);
    if (report->step < stop->step) return 0;
    if (stop->cancel) encdiff_cancel(stop->cancel);
    return !stop->cancel;
}

static void callbacks_stop_training_between_steps(void)
{
    for (int way = 0; way < 2; way++) {
        bench a, b;
        stop_at stop = {.step = 2};
        encdiff_train_report report = {.struct_size = sizeof report};
        begin(&a, TINY, 2, NULL);
        begin(&b, TINY, 2, NULL);
        if (way) stop.cancel = a.context;
        FAILS(a.context, encdiff_trainer_run(a.trainer, 10, stop_at_step, &stop), ENCDIFF_CANCELLED, "stopped");
        CHECK_EQUAL(stop.calls, 2);
        OK(a.context, encdiff_trainer_get_report(a.trainer, &report));
        CHECK_EQUAL(report.step, 2);
        OK(a.context, encdiff_trainer_run(a.trainer, 1, NULL, NULL)); /* goes on */
        OK(b.context, encdiff_trainer_run(b.trainer, 3, NULL, NULL));
        CHECK(same_parameters(a.context, a.model, b.model));
        end(&b);
        end(&a);
    }
}

/* A step that fails half way is undone: the next one does what it would have done. */
static void a_step_that_fails_half_way_is_undone(void)
{
    bench a, b;
    begin(&a, TINY, 2, NULL);
    begin(&b, TINY, 2, NULL);
    CHECK(step(&a) == step(&b));
    encdiff_cancel(a.context);
    FAILS(a.context, encdiff_trainer_step(a.trainer, NULL), ENCDIFF_CANCELLED, "stopped");
    CHECK(step(&a) == step(&b));
    end(&b);
    end(&a);

    for (int call = 1; call < 400; call += 13) { /* the first step takes memory; make that fail here and there */
        begin(&a, TINY, 2, NULL);
        begin(&b, TINY, 2, NULL);
        atomic_store(&a.memory.fail_from, atomic_load(&a.memory.calls) + call);
        encdiff_status status = encdiff_trainer_step(a.trainer, NULL);
        atomic_store(&a.memory.fail_from, 0);
        double loss = step(&b);
        if (status == ENCDIFF_OK) loss = step(&b); /* memory was enough: both are one step on */
        CHECK(status == ENCDIFF_OK || status == ENCDIFF_ERROR_OUT_OF_MEMORY);
        /* A batch read ahead may have failed, which the step that wants it says, once. */
        encdiff_train_report report = {.struct_size = sizeof report};
        if (encdiff_trainer_step(a.trainer, &report) == ENCDIFF_ERROR_OUT_OF_MEMORY)
            OK(a.context, encdiff_trainer_step(a.trainer, &report));
        CHECK_THAT(report.loss == loss, "after failing allocation %d the step differs", call);
        end(&b);
        end(&a);
        if (status == ENCDIFF_OK) break;
    }
}

/* ---------------------------------------------------------------- files */

static void remove_folder(const char *path)
{
    char name[PATH_MAX + 256];
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') unlink(name);
    }
    if (folder) closedir(folder);
    rmdir(path);
}

static int files_in(const char *path, const char *part)
{
    int count = 0;
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        count += entry->d_name[0] != '.' && strstr(entry->d_name, part) != NULL;
    if (folder) closedir(folder);
    return count;
}

/* Stop after three steps, go on in another process's place: losses and parameters bit for bit. */
static void resumed(const char *config, int32_t stage, const char *name)
{
    const char *folder = temporary(name);
    bench a, b;
    encdiff_trainer_options options = default_options();
    encdiff_train_report report = {.struct_size = sizeof report};
    double losses[6];
    options.stage = stage;
    begin(&a, config, 2, &options);
    for (int i = 0; i < 6; i++) {
        if (i == 3) OK(a.context, encdiff_trainer_save(a.trainer, folder));
        losses[i] = step(&a);
    }
    begin(&b, config, 2, &options);
    step(&b);
    OK(b.context, encdiff_trainer_resume(b.trainer, folder));
    OK(b.context, encdiff_trainer_get_report(b.trainer, &report));
    CHECK_EQUAL(report.step, 3);
    for (int i = 3; i < 6; i++) CHECK_THAT(step(&b) == losses[i], "step %d differs after resuming", i + 1);
    CHECK(same_parameters(a.context, a.model, b.model));
    end(&b);
    end(&a);
    remove_folder(folder);
}

static void training_resumes_bit_for_bit(void)
{
    resumed(TINY, ENCDIFF_STAGE_ENCDIFF, "resume");
    resumed(TINY_VQ, ENCDIFF_STAGE_AUTOENCODER, "resume-autoencoder");
}

static void checkpoints_are_models_and_two_are_kept(void)
{
    const char *folder = temporary("checkpoints");
    char path[PATH_MAX + 64];
    bench b;
    encdiff_model *loaded = NULL;
    begin(&b, TINY, 1, NULL);
    for (int i = 0; i < 4; i++) {
        step(&b);
        OK(b.context, encdiff_trainer_save(b.trainer, folder));
    }
    CHECK_EQUAL(files_in(folder, ".safetensors"), 2);
    CHECK_EQUAL(files_in(folder, ""), 2); /* nothing temporary stays */
    snprintf(path, sizeof path, "%s/encdiff-00000004.safetensors", folder);
    if (OK(b.context, encdiff_model_load(b.context, path, &loaded))) CHECK(same_parameters(b.context, b.model, loaded));
    encdiff_model_free(loaded);
    CHECK_EQUAL(truncate(path, 1000), 0); /* the newest is damaged: the one before it is whole */
    encdiff_train_report report = {.struct_size = sizeof report};
    OK(b.context, encdiff_trainer_resume(b.trainer, folder));
    OK(b.context, encdiff_trainer_get_report(b.trainer, &report));
    CHECK_EQUAL(report.step, 3);
    FAILS(b.context, encdiff_trainer_resume(b.trainer, path), ENCDIFF_ERROR_FORMAT, path);
    OK(b.context, encdiff_trainer_get_report(b.trainer, &report));
    CHECK_EQUAL(report.step, 3); /* nothing has changed */
    end(&b);
    remove_folder(folder);
}

static void checkpoints_of_something_else_are_refused(void)
{
    const char *folder = temporary("foreign");
    char path[PATH_MAX + 64];
    bench a, b;
    encdiff_trainer_options options = default_options();
    begin(&a, TINY, 1, NULL);
    step(&a);
    FAILS(a.context, encdiff_trainer_resume(a.trainer, folder), ENCDIFF_ERROR_NOT_FOUND, folder);
    OK(a.context, encdiff_trainer_save(a.trainer, folder));
    snprintf(path, sizeof path, "%s/encdiff-00000001.safetensors", folder);
    begin(&b, TINY_VQ, 1, NULL);
    FAILS(b.context, encdiff_trainer_resume(b.trainer, path), ENCDIFF_ERROR_CONFIG, "configuration");
    end(&b);
    options.batch_size = 8;
    begin(&b, TINY, 1, &options);
    FAILS(b.context, encdiff_trainer_resume(b.trainer, path), ENCDIFF_ERROR_CONFIG, "batches of 4");
    end(&b);
    options = default_options();
    options.stage = ENCDIFF_STAGE_AUTOENCODER;
    begin(&b, TINY_VQ, 1, &options);
    FAILS(b.context, encdiff_trainer_resume(b.trainer, path), ENCDIFF_ERROR_CONFIG, "stage");
    end(&b);
    const char *model = temporary("plain.safetensors"); /* a model is no checkpoint */
    OK(a.context, encdiff_model_save(a.model, model));
    FAILS(a.context, encdiff_trainer_resume(a.trainer, model), ENCDIFF_ERROR_FORMAT, "checkpoint");
    FAILS(a.context, encdiff_trainer_save(a.trainer, "/proc/nowhere"), ENCDIFF_ERROR_IO, "/proc/nowhere");
    unlink(model);
    end(&a);
    remove_folder(folder);
}

static void runs_write_log_checkpoints_and_pictures(void)
{
    const char *folder = temporary("output");
    bench b;
    encdiff_trainer_options options = default_options();
    options.output = folder;
    options.checkpoint_interval = 2;
    options.picture_interval = -1;
    begin(&b, TINY, 2, &options);
    OK(b.context, encdiff_trainer_run(b.trainer, 3, NULL, NULL));
    CHECK_EQUAL(files_in(folder, ".safetensors"), 2); /* steps 2 and 3, the last */
    CHECK_EQUAL(files_in(folder, ".csv"), 1);
    CHECK_EQUAL(files_in(folder, ".jsonl"), 1);
    CHECK_EQUAL(files_in(folder, ".png"), 0);
    end(&b);
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(steps_count_and_learn),
        TEST(the_autoencoder_stage_learns),
        TEST(training_depends_on_the_seed_alone),
        TEST(given_steps_do_not_depend_on_the_thread_count),
        TEST(evaluation_changes_nothing),
        TEST(evaluation_agrees_with_training),
        TEST(the_first_loss_is_the_targets_square),
        TEST(the_model_is_usable_between_steps),
        TEST(averages_follow_the_parameters),
        TEST(cached_latents_change_no_loss),
        TEST(options_are_checked),
        TEST(a_null_trainer_is_refused),
        TEST(reports_of_other_sizes_are_filled),
        TEST(diverging_training_stops_with_the_parameters_before),
        TEST(callbacks_stop_training_between_steps),
        TEST(a_step_that_fails_half_way_is_undone),
        TEST(training_resumes_bit_for_bit),
        TEST(checkpoints_are_models_and_two_are_kept),
        TEST(checkpoints_of_something_else_are_refused),
        TEST(runs_write_log_checkpoints_and_pictures),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
