/*
 * Metrics: golden values of metrics.safetensors (the folder of ENCDIFF_FIXTURES, or the copy among the tests' data;
 * its metadata holds the scores). What these do not show is in test_metric_parts.c.
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "base/json.h"
#include "io/safetensors.h"
#include "metrics/metrics.h"
#include "test.h"

static ed_memory memory;
static ed_env env;
static ed_metric_run threaded; /* two threads */

static bool good(encdiff_status status) { return CHECK_THAT(status == ENCDIFF_OK, "%s", env.message); }

/* ---------------------------------------------------------------- the fixture */

static ed_safetensors *fixture;
static ed_json *scores;

static bool open_fixture(void)
{
    const char *folder = getenv("ENCDIFF_FIXTURES"), *text;
    char path[1024];
    snprintf(path, sizeof path, "%s/metrics.safetensors", folder ? folder : FIXTURES);
    if (!good(ed_safetensors_open(&env, path, &fixture))) return false;
    text = ed_safetensors_metadata(fixture, "config");
    return CHECK(text) && good(ed_json_parse(&env, "scores", text, strlen(text), &scores));
}

static double golden(const char *name)
{
    const ed_json *value = ed_json_find(scores, name);
    return CHECK_THAT(value && value->kind == ED_JSON_NUMBER, "no score \"%s\"", name) ? value->number : NAN;
}

static const ed_st_tensor *tensor(const char *name, ed_st_type type)
{
    const ed_st_tensor *t = ed_safetensors_find(fixture, name);
    if (t && t->type == type) return t;
    printf("the fixture has no %s \"%s\"\n", ed_st_type_name(type), name);
    exit(1);
}

static void *read_as_is(const char *name, ed_st_type type)
{
    const ed_st_tensor *t = tensor(name, type);
    void *data = ed_alloc(&env, (size_t)t->count, ed_st_type_size(type));
    good(ed_safetensors_read_raw(&env, fixture, t, data));
    return data;
}

static int32_t *read_integers(const char *name)
{
    int64_t count = tensor(name, ED_ST_I64)->count, *wide = read_as_is(name, ED_ST_I64);
    int32_t *narrow = ed_alloc(&env, (size_t)count, sizeof *narrow);
    for (int64_t i = 0; i < count; i++) narrow[i] = (int32_t)wide[i];
    ed_free(&env, wide);
    return narrow;
}

static float *read_floats(const char *name)
{
    float *data = ed_alloc(&env, (size_t)tensor(name, ED_ST_F64)->count, sizeof *data);
    good(ed_safetensors_read_f32(&env, fixture, tensor(name, ED_ST_F64), data));
    return data;
}

static ed_representation read_representation(const char *codes, const char *factors)
{
    const ed_st_tensor *c = tensor(codes, ED_ST_F32), *f = tensor(factors, ED_ST_I64);
    return (ed_representation){read_as_is(codes, ED_ST_F32), read_integers(factors), c->dim[0], (int32_t)c->dim[1],
                               (int32_t)f->dim[1]};
}

static void free_representation(ed_representation *r)
{
    ed_free(&env, (void *)r->codes);
    ed_free(&env, (void *)r->factors);
}

static ed_metric_points read_points(const ed_representation *table, const char *factor, const char *first,
                                    const char *second)
{
    const ed_st_tensor *rows = tensor(first, ED_ST_I64);
    return (ed_metric_points){table,
                              rows->dim[0],
                              (int32_t)rows->dim[1],
                              read_integers(factor),
                              read_integers(first),
                              second ? read_integers(second) : NULL};
}

static void factor_vae_equals_golden(void)
{
    ed_representation table = read_representation("table", "table_factors");
    ed_metric_points train = read_points(&table, "factor_vae_train_factor", "factor_vae_train_rows", NULL);
    ed_metric_points eval = read_points(&table, "factor_vae_eval_factor", "factor_vae_eval_rows", NULL);
    int32_t *rows = read_integers("variance_rows");
    ed_factor_vae_score score;
    if (good(ed_metric_factor_vae_of(&env, &threaded, rows, tensor("variance_rows", ED_ST_I64)->count, &train, &eval,
                                     0.05, &score))) {
        CHECK_NEAR(score.train, golden("factor_vae.train"), 1e-9, "a count");
        CHECK_NEAR(score.eval, golden("factor_vae.eval"), 1e-9, "a count");
    }
    ed_free(&env, rows);
    ed_metric_points_free(&env, &train);
    ed_metric_points_free(&env, &eval);
    free_representation(&table);
}

static void beta_vae_equals_golden(void)
{
    ed_representation table = read_representation("table", "table_factors");
    ed_metric_points train = read_points(&table, "beta_vae_train_factor", "beta_vae_train_first",
                                         "beta_vae_train_second");
    ed_metric_points eval = read_points(&table, "beta_vae_eval_factor", "beta_vae_eval_first", "beta_vae_eval_second");
    ed_beta_vae_score score;
    if (good(ed_metric_beta_vae_of(&env, &train, &eval, 1, &score))) {
        CHECK_NEAR(score.train, golden("beta_vae.train"), 1e-9, "a count");
        CHECK_NEAR(score.eval, golden("beta_vae.eval"), 1e-9, "a count");
    }
    ed_metric_points_free(&env, &train);
    ed_metric_points_free(&env, &eval);
    free_representation(&table);
}

static void information_scores_equal_golden(void)
{
    ed_representation train = read_representation("codes", "factors");
    size_t count = (size_t)(train.size * train.factor_count);
    double *information = ed_alloc(&env, count, sizeof(double)), *expected, entropy[16], mig, modularity;
    expected = read_as_is("mutual_information", ED_ST_F64);
    if (good(ed_metric_mutual_information(&env, &threaded, &train, 20, information, entropy))) {
        for (size_t i = 0; i < count; i++) CHECK_NEAR(information[i], expected[i], 1e-9, "the same counts");
        good(ed_metric_mig(&env, information, entropy, train.size, train.factor_count, &mig));
        good(ed_metric_modularity(&env, information, train.size, train.factor_count, &modularity));
        CHECK_NEAR(mig, golden("mig"), 1e-9, "the same counts");
        CHECK_NEAR(modularity, golden("modularity"), 1e-9, "the same counts");
    }
    ed_free(&env, information);
    ed_free(&env, expected);
    free_representation(&train);
}

static void dci_equals_golden(void)
{
    ed_representation train = read_representation("codes", "factors");
    ed_representation test = read_representation("codes_test", "factors_test");
    size_t count = (size_t)(train.size * train.factor_count);
    double *importance = ed_alloc(&env, count, sizeof *importance);
    double *expected = read_as_is("dci_importance", ED_ST_F64);
    ed_dci_score score;
    if (good(ed_metric_dci(&env, &threaded, &train, &test, NULL, importance, &score))) {
        for (size_t i = 0; i < count; i++)
            CHECK_NEAR(importance[i], expected[i], 0.01, "equal splits are chosen among at random");
        CHECK_NEAR(score.disentanglement, golden("dci.disentanglement"), 0.005, "as above");
        CHECK_NEAR(score.completeness, golden("dci.completeness"), 0.005, "as above");
        CHECK_NEAR(score.informativeness_train, golden("dci.informativeness_train"), 0.005, "as above");
        CHECK_NEAR(score.informativeness_test, golden("dci.informativeness_test"), 0.005, "as above");
    }
    ed_free(&env, importance);
    ed_free(&env, expected);
    free_representation(&train);
    free_representation(&test);
}

/* Column 5 is constant, and the golden explicitness leaves it out. */
static void drop_constant(ed_representation *r)
{
    float *codes = (float *)r->codes;
    for (int64_t i = 0, to = 0; i < r->n * r->size; i++)
        if (i % r->size != 5) codes[to++] = codes[i];
    r->size--;
}

static void explicitness_equals_golden(void)
{
    ed_representation train = read_representation("codes", "factors");
    ed_representation test = read_representation("codes_test", "factors_test");
    ed_explicitness_score with, without;
    if (good(ed_metric_explicitness(&env, &threaded, &train, &test, 1, &with))) {
        drop_constant(&train);
        drop_constant(&test);
        good(ed_metric_explicitness(&env, &threaded, &train, &test, 1, &without));
        CHECK_NEAR(without.train, golden("explicitness_train"), 1e-4, "the reference stops early");
        CHECK_NEAR(without.test, golden("explicitness_test"), 1e-4, "the reference stops early");
        CHECK_NEAR(with.test, without.test, 1e-9, "a constant code tells nothing");
    }
    free_representation(&train);
    free_representation(&test);
}

static void sap_equals_golden(void)
{
    ed_representation train = read_representation("codes", "factors");
    ed_representation test = read_representation("codes_test", "factors_test");
    double continuous, discrete;
    if (good(ed_metric_sap(&env, &threaded, &train, &test, &(ed_sap_options){.continuous = true, .c = 0.01},
                           &continuous)))
        CHECK_NEAR(continuous, golden("sap.continuous"), 1e-6, "rounding of f32 codes");
    if (good(ed_metric_sap(&env, &threaded, &train, &test, NULL, &discrete)))
        CHECK_NEAR(discrete, golden("sap.discrete"), 1e-6, "counts");
    free_representation(&train);
    free_representation(&test);
}

static void irs_equals_golden(void)
{
    ed_representation train = read_representation("codes", "factors");
    double irs;
    if (good(ed_metric_irs(&env, &threaded, &train, 0.99, &irs))) CHECK_NEAR(irs, golden("irs"), 1e-6, "f32 means");
    free_representation(&train);
}

static void tad_equals_golden(void)
{
    ed_representation faces = read_representation("codes", "attributes");
    ed_tad_score score;
    if (good(ed_metric_tad(&env, &threaded, &faces, NULL, &score))) {
        CHECK_NEAR(score.tad, golden("tad"), 1e-9, "counts");
        CHECK_EQUAL(score.attributes, golden("tad.attributes"));
    }
    free_representation(&faces);
}

static void ssim_equals_golden(void)
{
    const ed_st_tensor *t = tensor("image", ED_ST_F64);
    const ed_json *expected = ed_json_find(scores, "ssim");
    float *x = read_floats("image"), *y = read_floats("image_noisy");
    int32_t c = (int32_t)t->dim[1], h = (int32_t)t->dim[2], w = (int32_t)t->dim[3];
    double per_image[8], published[8], same;
    if (CHECK(t->dim[0] <= 8) && good(ed_metric_ssim(&env, &threaded, x, y, t->dim[0], c, h, w, NULL, per_image, NULL)))
        for (int64_t i = 0; i < t->dim[0]; i++)
            CHECK_NEAR(per_image[i], expected->items[i]->number, 1e-6, "f32 pixels");
    ed_ssim_options quirk;
    ed_ssim_defaults(&quirk);
    quirk.published_axes = true;
    good(ed_metric_ssim(&env, NULL, x, y, t->dim[0], c, h, w, &quirk, published, NULL));
    CHECK_THAT(fabs(published[0] - per_image[0]) > 1e-4, "the window's axes make no difference");
    good(ed_metric_ssim(&env, NULL, x, x, t->dim[0], c, h, w, &quirk, NULL, &same));
    CHECK_NEAR(same, 1, 1e-12, "equal images");
    ed_free(&env, x);
    ed_free(&env, y);
}

/* The published call: images of shape [h, w, c] where [channels, height, width] is expected. */
static void published_ssim_takes_rows_for_channels(void)
{
    enum { C = 3, H = 9, W = 7 };
    float x[C * H * W], y[C * H * W], x_last[C * H * W], y_last[C * H * W];
    double quirk, reinterpreted;
    ed_ssim_options options;
    ed_ssim_defaults(&options);
    ed_fill_uniform(1, ED_RANDOM_DATA, 0, 0, C * H * W, x);
    ed_fill_uniform(1, ED_RANDOM_DATA, 1, 0, C * H * W, y);
    ed_nchw_to_nhwc(x, x_last, 1, C, H, W);
    ed_nchw_to_nhwc(y, y_last, 1, C, H, W);
    good(ed_metric_ssim(&env, NULL, x_last, y_last, 1, H, W, C, &options, NULL, &reinterpreted));
    options.published_axes = true;
    good(ed_metric_ssim(&env, NULL, x, y, 1, C, H, W, &options, NULL, &quirk));
    CHECK_NEAR(quirk, reinterpreted, 1e-12, "the same sums");
}

static void frechet_equals_golden(void)
{
    const ed_st_tensor *ta = tensor("features_a", ED_ST_F64), *tb = tensor("features_b", ED_ST_F64);
    double *a = read_as_is("features_a", ED_ST_F64), *b = read_as_is("features_b", ED_ST_F64), distance;
    ed_gaussian ga = {0}, gb = {0};
    good(ed_gaussian_create(&env, (int32_t)ta->dim[1], &ga));
    good(ed_gaussian_create(&env, (int32_t)tb->dim[1], &gb));
    good(ed_gaussian_add_f64(&env, &threaded, &ga, a, 100)); /* in pieces */
    good(ed_gaussian_add_f64(&env, &threaded, &ga, a + 100 * ta->dim[1], ta->dim[0] - 100));
    good(ed_gaussian_add_f64(&env, &threaded, &gb, b, tb->dim[0]));
    if (good(ed_metric_frechet(&env, &threaded, &ga, &gb, &distance)))
        CHECK_NEAR(distance, golden("frechet"), 1e-6, "sqrtm's own error");
    if (good(ed_metric_frechet(&env, &threaded, &ga, &ga, &distance)))
        CHECK_NEAR(distance, 0, 1e-9, "a set and itself");
    ed_gaussian_free(&env, &ga);
    ed_gaussian_free(&env, &gb);
    ed_free(&env, a);
    ed_free(&env, b);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(factor_vae_equals_golden),
        TEST(beta_vae_equals_golden),
        TEST(information_scores_equal_golden),
        TEST(dci_equals_golden),
        TEST(explicitness_equals_golden),
        TEST(sap_equals_golden),
        TEST(irs_equals_golden),
        TEST(tad_equals_golden),
        TEST(ssim_equals_golden),
        TEST(published_ssim_takes_rows_for_channels),
        TEST(frechet_equals_golden),
    };
    ed_memory_init(&memory, NULL);
    env = (ed_env){.memory = &memory};
    test_state.name = "set-up";
    if (!open_fixture() || !good(ed_pool_create(&env, 2, &threaded.pool))) return 1;
    int result = test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
    ed_pool_free(&env, threaded.pool);
    ed_json_free(&env, scores);
    ed_safetensors_close(&env, fixture);
    if (atomic_load(&memory.in_use) == 0) return result;
    printf("FAILED: %zu bytes were not freed\n", atomic_load(&memory.in_use));
    return 1;
}
