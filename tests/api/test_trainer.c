/* Training: steps, what they depend on, evaluation, arguments. */
#include "training.h"

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
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
