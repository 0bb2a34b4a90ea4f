/* Metrics from arrays, from a model, from images; the scores that come out. */
#include "api.h"

static encdiff_context *context;
static counted_memory memory;

static void begin(void) { context = open_context(&memory, 2); }
static void end(void) { close_context(context, &memory); }

/* ---------------------------------------------------------------- representations that are known to be good or bad */

enum { SIZES = 3, SAMPLES = 5 * 4 * 6 * 10, DIM = 2 };

/* Every combination of three factors ten times, and codes of them. */
typedef struct table {
    int32_t factors[SAMPLES][SIZES];
    float codes[SAMPLES][SIZES], vectors[SAMPLES][SIZES][DIM];
    encdiff_codes scalars;
} table;

static table *make_table(bool perfect)
{
    static table t;
    for (int i = 0; i < SAMPLES; i++) {
        int32_t *f = t.factors[i];
        f[0] = i % 5, f[1] = i / 5 % 4, f[2] = i / 20 % 6;
        for (int k = 0; k < SIZES; k++) {
            float jitter = 0.01f * sinf(12.9898f * (float)(i * SIZES + k));
            t.codes[i][k] = perfect ? (float)f[(k + 1) % SIZES] + jitter : sinf(78.233f * (float)(i * SIZES + k));
            t.vectors[i][k][0] = 3 * t.codes[i][k];
            t.vectors[i][k][1] = -t.codes[i][k] + 0.001f * jitter;
        }
    }
    t.scalars = (encdiff_codes){.codes = &t.codes[0][0],
                                .factors = &t.factors[0][0],
                                .n = SAMPLES,
                                .size = SIZES,
                                .dim = 1,
                                .factor_count = SIZES};
    return &t;
}

static encdiff_metrics_options small_options(const char *metrics)
{
    encdiff_metrics_options options;
    encdiff_metrics_options_init(&options, sizeof options);
    options.metrics = metrics;
    options.train_samples = 600;
    options.test_samples = 300;
    return options;
}

static double score(const encdiff_codes *codes, const char *metric, const char *name)
{
    encdiff_metrics_options options = small_options(metric);
    encdiff_scores *scores = NULL;
    double value = NAN;
    if (!OK(context, encdiff_metrics_from_codes(context, codes, NULL, &options, &scores, NULL, NULL))) return NAN;
    CHECK_THAT(encdiff_scores_find(scores, name, &value) == ENCDIFF_OK, "%s is not in %s", name,
               encdiff_scores_json(scores));
    encdiff_scores_free(scores);
    return value;
}

static void a_perfect_representation_scores_one(void)
{
    begin();
    table *t = make_table(true);
    CHECK_NEAR(score(&t->scalars, "factor_vae", "factor_vae.eval"), 1, 0, "each factor has a code of its own");
    CHECK_NEAR(score(&t->scalars, "beta_vae", "beta_vae.eval"), 1, 0.02, "a linear classifier sees it");
    CHECK(score(&t->scalars, "dci", "dci.disentanglement") > 0.95);
    CHECK(score(&t->scalars, "mig", "mig") > 0.9);
    CHECK(score(&t->scalars, "modularity", "modularity") > 0.95);
    CHECK(score(&t->scalars, "sap", "sap") > 0.3);
    encdiff_codes vectors = t->scalars;
    vectors.codes = &t->vectors[0][0][0];
    vectors.dim = DIM;
    CHECK_NEAR(score(&vectors, "factor_vae", "factor_vae.eval"), 1, 0, "the first component of each vector");
    end();
}

static void a_representation_of_nothing_scores_low(void)
{
    begin();
    table *t = make_table(false);
    CHECK(score(&t->scalars, "factor_vae", "factor_vae.eval") < 0.7);
    CHECK(score(&t->scalars, "mig", "mig") < 0.1);
    end();
}

static void all_metrics_run_and_fill_the_scores(void)
{
    encdiff_metrics_options options = small_options(NULL);
    encdiff_scores *scores = NULL;
    begin();
    table *t = make_table(true);
    if (OK(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, NULL, NULL))) {
        int32_t count = encdiff_scores_count(scores);
        CHECK(count >= 8);
        for (int32_t i = 0; i < count; i++) {
            double found = NAN;
            const char *name = encdiff_scores_name(scores, i);
            CHECK_EQUAL(encdiff_scores_find(scores, name, &found), ENCDIFF_OK);
            CHECK_NEAR(found, encdiff_scores_value(scores, i), 0, "the same number");
            CHECK_THAT(isfinite(found), "%s is %g", name, found);
        }
        double kept = 42;
        CHECK(!encdiff_scores_name(scores, -1) && !encdiff_scores_name(scores, count));
        CHECK(isnan(encdiff_scores_value(scores, count)));
        CHECK_EQUAL(encdiff_scores_find(scores, "nothing", &kept), ENCDIFF_ERROR_NOT_FOUND);
        CHECK_NEAR(kept, 42, 0, "as before");
        CHECK_EQUAL(encdiff_scores_find(scores, NULL, &kept), ENCDIFF_ERROR_ARGUMENT);
        const char *json = encdiff_scores_json(scores);
        CHECK(json[0] == '{' && strstr(json, "\"factor_vae\"") && strstr(json, "\"settings\""));
    }
    encdiff_context_free(context); /* scores outlive the caller's hold on the context */
    encdiff_scores_free(scores);
    check_returned(&memory);
}

static void scores_depend_on_the_seed_alone(void)
{
    begin();
    table *t = make_table(false);
    for (int seed = 0; seed < 2; seed++) {
        encdiff_metrics_options options = small_options("factor_vae,mig");
        encdiff_scores *a = NULL, *b = NULL;
        options.seed = (uint64_t)seed;
        OK(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &a, NULL, NULL));
        OK(context, encdiff_metrics_from_codes(context, &t->scalars, &t->scalars, &options, &b, NULL, NULL));
        encdiff_scores_free(b);
        OK(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &b, NULL, NULL));
        CHECK_TEXT(encdiff_scores_json(a), encdiff_scores_json(b));
        encdiff_scores_free(a);
        encdiff_scores_free(b);
    }
    end();
}

static double found(const encdiff_scores *scores, const char *name)
{
    double value = NAN;
    CHECK_THAT(encdiff_scores_find(scores, name, &value) == ENCDIFF_OK, "%s is not in %s", name,
               encdiff_scores_json(scores));
    return value;
}

static void repeats_give_mean_and_deviation(void)
{
    encdiff_metrics_options options = small_options("factor_vae,dci,mig");
    encdiff_scores *one[3] = {NULL}, *all = NULL;
    double sum = 0, squares = 0;
    begin();
    table *t = make_table(false);
    options.seed = 5;
    for (int r = 0; r < 3; r++, options.seed++) {
        OK(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &one[r], NULL, NULL));
        CHECK_EQUAL(encdiff_scores_find(one[r], "deviation.mig", &sum), ENCDIFF_ERROR_NOT_FOUND);
    }
    for (int r = 0; r < 3; r++) sum += found(one[r], "factor_vae.eval") / 3;
    for (int r = 0; r < 3; r++)
        squares += (found(one[r], "factor_vae.eval") - sum) * (found(one[r], "factor_vae.eval") - sum);
    options.seed = 5;
    options.repeats = 3;
    if (OK(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &all, NULL, NULL))) {
        CHECK_NEAR(found(all, "factor_vae.eval"), sum, 1e-12, "the mean of the seeds");
        CHECK_NEAR(found(all, "deviation.factor_vae.eval"), sqrt(squares / 2), 1e-12, "their deviation");
        CHECK(found(all, "deviation.dci.disentanglement") > 0 && found(all, "deviation.mig") > 0);
        CHECK(strstr(encdiff_scores_json(all), "\"repeats\": 3") && strstr(encdiff_scores_json(all), "\"importance\""));
        CHECK(strstr(encdiff_scores_timing_json(all), "\"dci\""));
    }
    for (int r = 0; r < 3; r++) encdiff_scores_free(one[r]);
    encdiff_scores_free(all);
    CHECK(!encdiff_scores_timing_json(NULL));
    options.repeats = -1;
    FAILS(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &all, NULL, NULL),
          ENCDIFF_ERROR_ARGUMENT, "repeats");
    end();
}

static void settings_are_checked(void)
{
    encdiff_metrics_options options = small_options("factor_vae");
    encdiff_scores *scores;
    begin();
    table *t = make_table(true);
    options.settings = "{\"factor_vae\": {\"eval_points\": 77}}";
    if (OK(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, NULL, NULL)))
        CHECK(strstr(encdiff_scores_json(scores), "77"));
    encdiff_scores_free(scores);
    options.settings = "{\"factor_vae\": {\"points\": 77}}";
    FAILS(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, NULL, NULL),
          ENCDIFF_ERROR_CONFIG, "points");
    CHECK(!scores);
    options.settings = "{\"factor_vae\": ";
    encdiff_status status = encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, NULL, NULL);
    CHECK(status == ENCDIFF_ERROR_CONFIG || status == ENCDIFF_ERROR_FORMAT);
    end();
}

static void codes_that_do_not_fit_are_refused(void)
{
    encdiff_metrics_options options = small_options("factor_vae");
    encdiff_scores *scores = (encdiff_scores *)(uintptr_t)1;
    begin();
    table *t = make_table(true);
    encdiff_codes bad = t->scalars;
    for (int i = 0; i < 7; i++) {
        bad = t->scalars;
        if (i == 0) bad.n = 0;
        if (i == 1) bad.size = 0;
        if (i == 2) bad.dim = 0;
        if (i == 3) bad.factor_count = 0;
        if (i == 4) bad.codes = NULL;
        if (i == 5) bad.factors = NULL;
        if (i == 6) bad.n = -5;
        FAILS(context, encdiff_metrics_from_codes(context, &bad, NULL, &options, &scores, NULL, NULL),
              ENCDIFF_ERROR_SHAPE, "train");
        CHECK(!scores);
    }
    bad = t->scalars;
    bad.size = 2;
    FAILS(context, encdiff_metrics_from_codes(context, &t->scalars, &bad, &options, &scores, NULL, NULL),
          ENCDIFF_ERROR_SHAPE, "");
    FAILS(context, encdiff_metrics_from_codes(context, NULL, NULL, &options, &scores, NULL, NULL),
          ENCDIFF_ERROR_ARGUMENT, "train");
    FAILS(context, encdiff_metrics_from_codes(context, &bad, NULL, &options, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT,
          "scores");
    options.metrics = "factor_vae,fantasy";
    FAILS(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, NULL, NULL),
          ENCDIFF_ERROR_NOT_FOUND, "fantasy");
    options.metrics = "mse";
    FAILS(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, NULL, NULL),
          ENCDIFF_ERROR_UNSUPPORTED, "mse");
    options = small_options("mig");
    options.train_samples = -1;
    FAILS(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, NULL, NULL),
          ENCDIFF_ERROR_ARGUMENT, "train_samples");
    options = small_options("mig");
    t->codes[17][1] = INFINITY;
    FAILS(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, NULL, NULL),
          ENCDIFF_ERROR_NUMERIC, "17");
    end();
}

static int32_t stop(const encdiff_progress_info *info, void *user)
{
    CHECK(info->activity && info->done >= 1 && info->done <= info->total);
    ++*(int *)user;
    return 1;
}

static void callbacks_stop_an_evaluation(void)
{
    encdiff_metrics_options options = small_options("factor_vae");
    encdiff_scores *scores;
    int calls = 0;
    begin();
    table *t = make_table(true);
    FAILS(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, stop, &calls),
          ENCDIFF_CANCELLED, "");
    CHECK(!scores);
    CHECK_EQUAL(calls, 1);
    encdiff_cancel(context);
    FAILS(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, NULL, NULL),
          ENCDIFF_CANCELLED, "stopped");
    OK(context, encdiff_metrics_from_codes(context, &t->scalars, NULL, &options, &scores, NULL, NULL));
    encdiff_scores_free(scores);
    end();
}

/* ---------------------------------------------------------------- a model */

static void models_are_scored_on_datasets(void)
{
    encdiff_metrics_options options = small_options("factor_vae,mig");
    encdiff_scores *scores = NULL;
    encdiff_dataset *large = NULL, *unlabelled = NULL;
    static float pixels[8 * PIXELS];
    encdiff_image_view view = view_f32(pixels, 8);
    encdiff_dataset_arrays arrays = {.struct_size = sizeof arrays, .images = &view};
    int calls = 0;
    double value;
    begin();
    encdiff_model *model = make_awake_model(context, TINY);
    encdiff_dataset *data = open_shapes(context, "procedural:shapes3d"), *mixed = NULL, *some = NULL;
    OK(context, encdiff_dataset_shuffle(data, 1, &mixed));
    OK(context, encdiff_dataset_slice(mixed, 0, 1200, &some));
    options.prune_threshold = -1; /* an untrained encoder hardly varies */
    if (OK(context, encdiff_metrics_from_model(model, some, &options, &scores, NULL, NULL))) {
        CHECK_EQUAL(encdiff_scores_find(scores, "factor_vae.eval", &value), ENCDIFF_OK);
        CHECK(value >= 0 && value <= 1);
    }
    encdiff_scores_free(scores);
    options.vector_tokens = ENCDIFF_ON; /* a token is a function of its scalar, so it has codes of the same order */
    if (OK(context, encdiff_metrics_from_model(model, some, &options, &scores, NULL, NULL)))
        CHECK(strstr(encdiff_scores_json(scores), "principal component"));
    encdiff_scores_free(scores);
    options.vector_tokens = ENCDIFF_DEFAULT;
    options.metrics = "mse,psnr,ssim"; /* of reconstructions alone: nothing is encoded */
    options.reconstructions = 3;
    options.sampler_steps = 2;
    if (OK(context, encdiff_metrics_from_model(model, some, &options, &scores, NULL, NULL))) {
        CHECK_EQUAL(encdiff_scores_find(scores, "mse", &value), ENCDIFF_OK);
        CHECK(value > 0);
        CHECK(strstr(encdiff_scores_json(scores), "\"images\": 3"));
        CHECK(!strstr(encdiff_scores_timing_json(scores), "encoding"));
    }
    encdiff_scores_free(scores);
    options = small_options("factor_vae,mig");
    FAILS(context, encdiff_metrics_from_model(model, some, &options, &scores, stop, &calls), ENCDIFF_CANCELLED, "");
    CHECK(!scores);
    OK(context, encdiff_dataset_open(context, "procedural:shapes3d[0:4]", NULL, &large));
    FAILS(context, encdiff_metrics_from_model(model, large, &options, &scores, NULL, NULL), ENCDIFF_ERROR_SHAPE,
          "64x64");
    OK(context, encdiff_dataset_from_arrays(context, &arrays, &unlabelled));
    FAILS(context, encdiff_metrics_from_model(model, unlabelled, &options, &scores, NULL, NULL),
          ENCDIFF_ERROR_UNSUPPORTED, "labels");
    FAILS(context, encdiff_metrics_from_model(model, NULL, &options, &scores, NULL, NULL), ENCDIFF_ERROR_ARGUMENT,
          "dataset");
    CHECK_EQUAL(encdiff_metrics_from_model(NULL, some, &options, &scores, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    encdiff_dataset_free(unlabelled);
    encdiff_dataset_free(large);
    encdiff_dataset_free(some);
    encdiff_dataset_free(mixed);
    encdiff_dataset_free(data);
    encdiff_model_free(model);
    end();
}

/* ---------------------------------------------------------------- images */

static void images_are_compared_pair_by_pair(void)
{
    static float a[2 * PIXELS], b[2 * PIXELS];
    encdiff_image_view x = view_f32(a, 2), y = view_f32(b, 2), other = view_f32(b, 1);
    encdiff_metrics_options options = small_options(NULL);
    encdiff_scores *scores = NULL;
    double value = NAN;
    begin();
    fill_floats(a, 2 * PIXELS, 1);
    for (int i = 0; i < 2 * PIXELS; i++) b[i] = a[i] + (i < PIXELS ? 0.5f : 0);
    if (OK(context, encdiff_metrics_from_images(context, &x, &y, &options, &scores, NULL, NULL))) {
        encdiff_scores_find(scores, "mse", &value);
        CHECK_NEAR(value, 0.125, 1e-6, "half of the pixels are off by a half");
        CHECK_EQUAL(encdiff_scores_find(scores, "psnr", &value), ENCDIFF_OK);
        CHECK(isinf(value) && value > 0); /* of the second pair, and so the mean */
        CHECK(strstr(encdiff_scores_json(scores), "null"));
    }
    encdiff_scores_free(scores);
    options.metrics = "psnr";
    FAILS(context, encdiff_metrics_from_images(context, &x, &other, &options, &scores, NULL, NULL), ENCDIFF_ERROR_SHAPE,
          "1");
    options.metrics = "dci";
    FAILS(context, encdiff_metrics_from_images(context, &x, &y, &options, &scores, NULL, NULL),
          ENCDIFF_ERROR_UNSUPPORTED, "dci");
    options.metrics = "mse";
    b[5] = NAN;
    FAILS(context, encdiff_metrics_from_images(context, &x, &y, &options, &scores, NULL, NULL), ENCDIFF_ERROR_NUMERIC,
          "images");
    FAILS(context, encdiff_metrics_from_images(context, &x, NULL, &options, &scores, NULL, NULL),
          ENCDIFF_ERROR_ARGUMENT, "images");
    CHECK(!scores);
    end();
}

/* ---------------------------------------------------------------- for pictures */

/* Points along (3, 4)/5, less along (-4, 3)/5, hardly along the third axis, all of it apart from the origin. */
static void principal_components_are_the_widest_directions(void)
{
    enum { N = 9 };
    float vectors[N][3], components[N][2];
    begin();
    for (int i = 0; i < N; i++) {
        float far = (float)(i - N / 2),
              near = i % 3 == 1 ? 0.5f : -0.25f; /* both sum to 0, and so does their product */
        vectors[i][0] = 10 + 0.6f * far - 0.8f * near;
        vectors[i][1] = -3 + 0.8f * far + 0.6f * near;
        vectors[i][2] = 7;
    }
    OK(context, encdiff_metrics_principal_components(context, vectors[0], N, 3, 2, components[0]));
    for (int i = 0; i < N; i++) {
        CHECK_NEAR(components[i][0], i - N / 2, 1e-5, "the loading 0.8 is positive");
        CHECK_NEAR(components[i][1], i % 3 == 1 ? -0.5 : 0.25, 1e-5, "the loading 0.8 is positive, so it points back");
    }
    FAILS(context, encdiff_metrics_principal_components(context, vectors[0], N, 3, 4, components[0]),
          ENCDIFF_ERROR_SHAPE, "4");
    FAILS(context, encdiff_metrics_principal_components(context, vectors[0], N, 3, 0, components[0]),
          ENCDIFF_ERROR_SHAPE, "0");
    FAILS(context, encdiff_metrics_principal_components(context, vectors[0], 0, 3, 1, components[0]),
          ENCDIFF_ERROR_SHAPE, "0 vectors");
    FAILS(context, encdiff_metrics_principal_components(context, vectors[0], 1, 1025, 1, components[0]),
          ENCDIFF_ERROR_SHAPE, "1025");
    FAILS(context, encdiff_metrics_principal_components(context, NULL, N, 3, 1, components[0]), ENCDIFF_ERROR_ARGUMENT,
          "vectors");
    vectors[4][1] = NAN;
    FAILS(context, encdiff_metrics_principal_components(context, vectors[0], N, 3, 1, components[0]),
          ENCDIFF_ERROR_NUMERIC, "numbers 1");
    CHECK_EQUAL(encdiff_metrics_principal_components(NULL, vectors[0], N, 3, 1, components[0]), ENCDIFF_ERROR_ARGUMENT);
    end();
}

/* ---------------------------------------------------------------- without handles */

static void names_are_listed_and_null_scores_are_empty(void)
{
    double value = 7;
    encdiff_codes codes = {0};
    encdiff_scores *scores;
    int32_t count = encdiff_metric_count();
    CHECK(count >= 10);
    for (int32_t i = 0; i < count; i++) CHECK(encdiff_metric_name(i) && encdiff_metric_name(i)[0]);
    CHECK(!encdiff_metric_name(-1) && !encdiff_metric_name(count));
    encdiff_scores_free(NULL);
    CHECK_EQUAL(encdiff_scores_count(NULL), 0);
    CHECK(!encdiff_scores_name(NULL, 0) && !encdiff_scores_json(NULL));
    CHECK(isnan(encdiff_scores_value(NULL, 0)));
    CHECK_EQUAL(encdiff_scores_find(NULL, "x", &value), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_metrics_from_codes(NULL, &codes, NULL, NULL, &scores, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_metrics_from_images(NULL, NULL, NULL, NULL, &scores, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(a_perfect_representation_scores_one),
        TEST(a_representation_of_nothing_scores_low),
        TEST(all_metrics_run_and_fill_the_scores),
        TEST(scores_depend_on_the_seed_alone),
        TEST(repeats_give_mean_and_deviation),
        TEST(settings_are_checked),
        TEST(codes_that_do_not_fit_are_refused),
        TEST(callbacks_stop_an_evaluation),
        TEST(models_are_scored_on_datasets),
        TEST(images_are_compared_pair_by_pair),
        TEST(principal_components_are_the_widest_directions),
        TEST(names_are_listed_and_null_scores_are_empty),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
