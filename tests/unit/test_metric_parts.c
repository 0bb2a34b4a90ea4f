/* Metrics beyond their golden values: draws, threads, trees, eigenvalues, failures. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "metrics/eigen.h"
#include "metrics/metrics.h"
#include "metrics/tree.h"
#include "test.h"

static ed_memory memory;
static ed_env env;
static ed_metric_run threaded; /* two threads */

static bool good(encdiff_status status) { return CHECK_THAT(status == ENCDIFF_OK, "%s", env.message); }

static void free_representation(ed_representation *r)
{
    ed_free(&env, (void *)r->codes);
    ed_free(&env, (void *)r->factors);
}

/* ---------------------------------------------------------------- made up here */

enum { SIZES = 3, N = 4000, CODES = 5 };
static const int32_t sizes[SIZES] = {4, 3, 2};

/* A representation whose first codes are the factors, with some noise; the others noise, and a constant. */
static ed_representation disentangled(double noise)
{
    float *codes = ed_alloc(&env, N, CODES * sizeof *codes);
    int32_t *factors = ed_alloc(&env, N, SIZES * sizeof *factors);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < CODES; j++)
            codes[i * CODES + j] = (float)noise * ed_normal(7, ED_RANDOM_DATA, (uint64_t)j, (uint64_t)i);
        for (int j = 0; j < SIZES; j++) {
            factors[i * SIZES + j] = (int32_t)ed_below(7, ED_RANDOM_DATA, 100 + (uint64_t)j, (uint64_t)i,
                                                       (uint32_t)sizes[j]);
            codes[i * CODES + j] += (float)factors[i * SIZES + j];
        }
        codes[i * CODES + CODES - 1] = 0.1f;
    }
    return (ed_representation){codes, factors, N, CODES, SIZES};
}

static void a_disentangled_representation_scores_high(void)
{
    ed_representation r = disentangled(0.1), train, test;
    ed_metric_run run = threaded;
    run.seed = 5;
    ed_factor_vae_score factor_vae;
    ed_beta_vae_score beta_vae;
    ed_dci_score dci;
    ed_dci_options options;
    ed_dci_defaults(&options);
    options.stages = 20;
    if (good(ed_metric_factor_vae(&env, &run, &r, NULL, NULL, &factor_vae))) {
        CHECK_NEAR(factor_vae.eval, 1, 1e-9, "every vote is right");
        CHECK_EQUAL(factor_vae.active, CODES - 1);
    }
    if (good(ed_metric_beta_vae(&env, &run, &r, NULL, NULL, &beta_vae))) CHECK(beta_vae.eval > 0.99);
    if (good(ed_metric_draw_split(&env, 5, &r, 2000, 1000, &train, &test))) {
        if (good(ed_metric_dci(&env, &run, &train, &test, &options, NULL, &dci))) CHECK(dci.disentanglement > 0.9);
        ed_metric_samples_free(&env, &train);
        ed_metric_samples_free(&env, &test);
    }
    free_representation(&r);
}

static void draws_hold_what_they_promise(void)
{
    ed_representation r = disentangled(0.1), train, test;
    ed_metric_points p, pairs;
    if (good(ed_metric_draw_points(&env, 1, ED_STREAM_FACTOR_VAE_TRAIN, &r, 200, 8, false, &p)) &&
        good(ed_metric_draw_points(&env, 1, ED_STREAM_BETA_VAE_TRAIN, &r, 200, 8, true, &pairs))) {
        bool same = true;
        for (int64_t i = 0; i < 200 * 8; i++) {
            int32_t f = p.factor[i / 8], g = pairs.factor[i / 8];
            same = same && r.factors[p.first[i] * SIZES + f] == r.factors[p.first[i / 8 * 8] * SIZES + f];
            same = same && r.factors[pairs.first[i] * SIZES + g] == r.factors[pairs.second[i] * SIZES + g];
        }
        CHECK_THAT(same, "rows of a point differ in the factor that is fixed");
        ed_metric_points_free(&env, &p);
        ed_metric_points_free(&env, &pairs);
    }
    if (good(ed_metric_draw_split(&env, 1, &r, 6000, 2000, &train, &test))) { /* more than there are: 3 to 1 */
        CHECK_EQUAL(train.n, 3000);
        CHECK_EQUAL(test.n, 1000);
        ed_metric_samples_free(&env, &train);
        ed_metric_samples_free(&env, &test);
    }
    free_representation(&r);
}

static void scores_do_not_depend_on_the_threads(void)
{
    ed_representation r = disentangled(0.7), train, test;
    ed_dci_options options;
    ed_dci_defaults(&options);
    options.stages = 10;
    double importance[2][CODES * SIZES];
    ed_dci_score dci[2];
    ed_factor_vae_score votes[2];
    const ed_metric_run *runs[2] = {NULL, &threaded};
    if (good(ed_metric_draw_split(&env, 1, &r, 1000, 500, &train, &test))) {
        for (int i = 0; i < 2; i++) {
            good(ed_metric_dci(&env, runs[i], &train, &test, &options, importance[i], &dci[i]));
            good(ed_metric_factor_vae(&env, runs[i], &train, &test, NULL, &votes[i]));
        }
        CHECK(memcmp(importance[0], importance[1], sizeof importance[0]) == 0);
        CHECK(memcmp(&dci[0], &dci[1], sizeof dci[0]) == 0);
        CHECK(votes[0].train == votes[1].train && votes[0].eval == votes[1].eval);
        ed_metric_samples_free(&env, &train);
        ed_metric_samples_free(&env, &test);
    }
    free_representation(&r);
}

/* ---------------------------------------------------------------- trees */

enum { TREE_N = 700, TREE_FEATURES = 5, TREE_DEPTH = 4 };

/* Features with and without ties, on several scales; residuals of a rare class. */
static ed_representation tree_features(double *residual)
{
    float *codes = ed_alloc(&env, TREE_N, TREE_FEATURES * sizeof *codes);
    int32_t *factors = ed_alloc(&env, TREE_N, sizeof *factors);
    for (int i = 0; i < TREE_N; i++) {
        float u = ed_normal(11, ED_RANDOM_DATA, 0, (uint64_t)i), *code = codes + i * TREE_FEATURES;
        for (int f = 0; f < TREE_FEATURES; f++) code[f] = ed_normal(11, ED_RANDOM_DATA, 1 + (uint64_t)f, (uint64_t)i);
        code[1] = floorf(2 * code[1]);
        code[2] = expf(4 * code[2]) * 1e-6f;
        code[3] = 3;
        code[4] += u;
        residual[i] = (u > 1 ? 0.9 : -0.1) + 0.01 * (double)code[1];
    }
    return (ed_representation){codes, factors, TREE_N, TREE_FEATURES, 1};
}

/* What splitting the samples in `node` of a tree (those with inside[i]) at a threshold gains. */
static double gain_of(const ed_representation *r, const double *residual, const bool *inside, int f, double threshold)
{
    double sum[2] = {0}, count[2] = {0};
    for (int i = 0; i < TREE_N; i++) {
        int side = (double)r->codes[i * TREE_FEATURES + f] > threshold;
        sum[side] += inside[i] ? residual[i] : 0;
        count[side] += inside[i];
    }
    if (count[0] == 0 || count[1] == 0) return 0;
    double off = sum[0] / count[0] - sum[1] / count[1];
    return off * off * count[0] * count[1] / (count[0] + count[1]);
}

static double best_gain(const ed_representation *r, const double *residual, const bool *inside)
{
    double best = 0;
    for (int f = 0; f < TREE_FEATURES; f++)
        for (int i = 0; i < TREE_N; i++)
            if (inside[i]) best = fmax(best, gain_of(r, residual, inside, f, (double)r->codes[i * TREE_FEATURES + f]));
    return best;
}

static void every_split_of_a_tree_is_the_best_one(void)
{
    static double residual[TREE_N];
    double importance[TREE_FEATURES] = {0}, sum = 0, explained = 0;
    ed_representation r = tree_features(residual);
    ed_presorted features;
    ed_tree_work work;
    if (!good(ed_presorted_create(&env, NULL, &r, &features))) return;
    if (!good(ed_tree_work_create(&env, &features, TREE_DEPTH, &work))) return;
    ed_tree_grow(&work, residual, 1, 2, importance);
    for (int node = 0; node < (1 << TREE_DEPTH) - 1; node++) {
        bool inside[TREE_N];
        if (work.nodes[0].feature < 0 || (node > 0 && work.nodes[(node - 1) / 2].feature < 0)) continue;
        for (int i = 0; i < TREE_N; i++) {
            int at = work.leaf[i]; /* the leaf or one of its ancestors */
            CHECK_EQUAL(at, ed_tree_find(work.nodes, r.codes + i * TREE_FEATURES));
            while (at > node) at = (at - 1) / 2;
            inside[i] = at == node;
        }
        double best = best_gain(&r, residual, inside), chosen = 0;
        if (work.nodes[node].feature >= 0)
            chosen = gain_of(&r, residual, inside, work.nodes[node].feature, work.nodes[node].threshold);
        CHECK_NEAR(chosen, best, 1e-6 * best + 1e-12, "30-bit residuals");
        explained += chosen / TREE_N;
        if (work.nodes[node].feature < 0) work.nodes[2 * node + 1].feature = work.nodes[2 * node + 2].feature = -1;
    }
    for (int f = 0; f < TREE_FEATURES; f++) sum += importance[f];
    CHECK_NEAR(sum, explained, 1e-6 * sum, "importance is what splits gain");
    CHECK(importance[3] == 0);
    ed_tree_work_free(&env, &work);
    ed_presorted_free(&env, &features);
    free_representation(&r);
}

static void deep_trees_learn_everything(void)
{
    ed_representation r = disentangled(0.7), train, test;
    ed_dci_options options = {.stages = 5, .depth = ED_TREE_MAX_DEPTH, .rate = 0.5};
    ed_dci_score score;
    good(ed_metric_draw_split(&env, 3, &r, 600, 3, &train, &test));
    if (good(ed_metric_dci(&env, &threaded, &train, &test, &options, NULL, &score)))
        CHECK(score.informativeness_train > 0.99);
    train.n = 2; /* as few samples as there can be: two that differ in every factor */
    for (int j = 0; j < SIZES; j++) ((int32_t *)train.factors)[j] = ((int32_t *)train.factors)[SIZES + j] + 1;
    good(ed_metric_dci(&env, &threaded, &train, &test, NULL, NULL, &score));
    CHECK_EQUAL(score.informativeness_train, 1);
    ed_metric_samples_free(&env, &train);
    ed_metric_samples_free(&env, &test);
    free_representation(&r);
}

/* ---------------------------------------------------------------- other parts */

static void psnr_follows_from_mse(void)
{
    float x[6] = {0, 0, 0, 1, 1, 1}, y[6] = {0.5f, 0, -0.5f, 1, 1, 2};
    double mse[2], psnr[2], mean;
    good(ed_metric_mse(&env, x, y, 2, 3, mse, &mean));
    good(ed_metric_psnr(&env, x, y, 2, 3, 2, psnr, NULL));
    CHECK_NEAR(mse[0], 0.5 / 3, 1e-12, "by hand");
    CHECK_NEAR(mean, 1.5 / 6, 1e-12, "by hand");
    CHECK_NEAR(psnr[1], 10 * log10(12), 1e-12, "by hand");
    good(ed_metric_psnr(&env, x, x, 2, 3, 2, NULL, &mean));
    CHECK(isinf(mean) && mean > 0);
}

static void eigenvalues_agree_with_jacobi_and_the_trace(void)
{
    enum { S = 40 };
    static double a[S * S], b[S * S], vectors[S * S];
    double values[S], jacobi[S], trace = 0, sum = 0, worst = 0;
    for (int i = 0; i < S; i++)
        for (int j = 0; j <= i; j++)
            a[i * S + j] = a[j * S + i] = (double)ed_normal(3, ED_RANDOM_DATA, 0, (uint64_t)(i * S + j));
    memcpy(b, a, sizeof a);
    for (int i = 0; i < S; i++) trace += a[i * S + i];
    if (!good(ed_eigenvalues(&env, a, S, values)) || !good(ed_eigen_jacobi(&env, b, S, jacobi, vectors))) return;
    for (int i = 0; i < S; i++) {
        double nearest = INFINITY;
        for (int j = 0; j < S; j++) nearest = fmin(nearest, fabs(values[i] - jacobi[j]));
        worst = fmax(worst, nearest);
        sum += values[i];
    }
    CHECK_NEAR(worst, 0, 1e-12, "two algorithms");
    CHECK_NEAR(sum, trace, 1e-12, "the trace");
}

static void a_distance_of_few_samples_is_finite(void)
{
    enum { S = 20 };
    float rows[5 * S];
    double distance;
    ed_gaussian a = {0}, b = {0};
    good(ed_gaussian_create(&env, S, &a));
    good(ed_gaussian_create(&env, S, &b));
    ed_fill_normal(1, ED_RANDOM_DATA, 0, 0, 5 * S, rows);
    good(ed_gaussian_add(&env, NULL, &a, rows, 5)); /* rank 4 of 20 */
    for (int i = 0; i < 5 * S; i++) rows[i] += 1;
    good(ed_gaussian_add(&env, NULL, &b, rows, 5));
    if (good(ed_metric_frechet(&env, NULL, &a, &b, &distance)))
        CHECK_NEAR(distance, S, 1e-3, "the same spread, shifted by 1 in every direction; f32 features");
    ed_gaussian_free(&env, &a);
    ed_gaussian_free(&env, &b);
}

static void tokens_become_their_first_component(void)
{
    enum { ROWS = 50, DIM = 3 };
    float tokens[ROWS * 2 * DIM], codes[ROWS * 2];
    for (int i = 0; i < ROWS; i++)
        for (int a = 0; a < DIM; a++) {
            tokens[i * 6 + a] = (float)i * (a == 1 ? 2.0f : 0.5f) + 7; /* along (0.5, 2, 0.5) */
            tokens[i * 6 + 3 + a] = a == 2 ? -(float)i : 1;            /* against the third axis */
        }
    if (!good(ed_metric_reduce_tokens(&env, &threaded, tokens, ROWS, 2, DIM, codes))) return;
    CHECK_NEAR(codes[2 * 10] - codes[0], 10 * sqrt(4.5), 1e-4, "f32 tokens");
    CHECK_NEAR(codes[2 * 10 + 1] - codes[1], -10, 1e-4, "f32 tokens");
}

static bool stop_at_half(void *user, const char *activity, int64_t done, int64_t total)
{
    (void)activity;
    *(int64_t *)user = done;
    return 2 * done < total;
}

static int64_t last_done, last_total;

static bool note_done(void *user, const char *activity, int64_t done, int64_t total)
{
    (void)user, (void)activity;
    CHECK(done >= 1 && done <= total);
    last_done = done;
    last_total = total;
    return true;
}

static void a_run_can_be_stopped(void)
{
    ed_representation r = disentangled(0.1);
    int64_t reached = 0;
    ed_metric_run run = {.progress = stop_at_half, .user = &reached};
    ed_factor_vae_score score;
    ed_dci_score dci;
    CHECK_EQUAL(ed_metric_factor_vae(&env, &run, &r, NULL, NULL, &score), ENCDIFF_CANCELLED);
    CHECK(reached >= 5000 && reached < 6000);
    CHECK_EQUAL(ed_metric_dci(&env, &run, &r, &r, NULL, NULL, &dci), ENCDIFF_CANCELLED);
    CHECK(2 * reached < 3 * 100 * 9);
    last_done = 0;
    ed_metric_run shared = {.pool = threaded.pool, .progress = note_done};
    good(ed_metric_factor_vae(&env, &shared, &r, NULL, NULL, &score)); /* whoever did the last piece, it is reported */
    CHECK(last_done > 0 && last_done == last_total);
    atomic_bool cancel = true;
    env.cancel = &cancel;
    CHECK_EQUAL(ed_metric_dci(&env, &threaded, &r, &r, NULL, NULL, &dci), ENCDIFF_CANCELLED);
    env.cancel = NULL;
    free_representation(&r);
}

static void what_cannot_be_scored_is_named(void)
{
    ed_representation r = disentangled(0.1), narrow = r;
    double value, information[CODES * SIZES], entropy[SIZES];
    ed_dci_score dci;
    ed_tad_score tad;
    narrow.size = CODES - 1;
    CHECK_EQUAL(ed_metric_dci(&env, NULL, &r, &narrow, NULL, NULL, &dci), ENCDIFF_ERROR_SHAPE);
    CHECK_EQUAL(ed_metric_tad(&env, NULL, &r, NULL, &tad), ENCDIFF_ERROR_SHAPE);
    ((float *)r.codes)[3 * CODES + 2] = NAN;
    CHECK_EQUAL(ed_metric_irs(&env, NULL, &r, 0.99, &value), ENCDIFF_ERROR_NUMERIC);
    CHECK_THAT(strstr(env.message, "code 2 of sample 3"), "%s", env.message);
    ((float *)r.codes)[3 * CODES + 2] = 0;
    for (int i = 0; i < N; i++) ((int32_t *)r.factors)[i * SIZES + 1] = 6;
    CHECK_EQUAL(ed_metric_dci(&env, NULL, &r, &r, NULL, NULL, &dci), ENCDIFF_ERROR_SHAPE);
    CHECK_THAT(strstr(env.message, "factor 1"), "%s", env.message);
    good(ed_metric_mutual_information(&env, NULL, &r, 20, information, entropy));
    CHECK_EQUAL(ed_metric_mig(&env, information, entropy, CODES, SIZES, &value), ENCDIFF_ERROR_SHAPE);
    free_representation(&r);
}

/* An allocator that fails after so many blocks. */
typedef struct scarce {
    long left;
} scarce;

static void *scarce_allocate(size_t size, size_t alignment, void *user)
{
    scarce *s = user;
    void *block = NULL;
    return s->left-- > 0 && posix_memalign(&block, alignment, size) == 0 ? block : NULL;
}

static void scarce_release(void *pointer, size_t size, void *user)
{
    (void)size, (void)user;
    free(pointer);
}

static encdiff_status score_everything(ed_env *e, const ed_representation *r)
{
    double information[CODES * SIZES], entropy[SIZES], value;
    ed_dci_options options = {.stages = 1, .depth = 2, .rate = 0.1};
    ed_factor_vae_options votes = {.train_points = 20, .eval_points = 10, .variance_rows = 50, .batch = 4};
    ed_beta_vae_options pairs = {.train_points = 40, .eval_points = 10, .batch = 4, .c = 1};
    float image[2 * 64] = {0}, codes[8];
    encdiff_status status = ENCDIFF_OK;
    ed_gaussian g = {0};
    ED_TRY(ed_metric_factor_vae(e, NULL, r, NULL, &votes, &(ed_factor_vae_score){0}));
    ED_TRY(ed_metric_beta_vae(e, NULL, r, NULL, &pairs, &(ed_beta_vae_score){0}));
    ED_TRY(ed_metric_mutual_information(e, NULL, r, 20, information, entropy));
    ED_TRY(ed_metric_dci(e, NULL, r, r, &options, NULL, &(ed_dci_score){0}));
    ED_TRY(ed_metric_explicitness(e, NULL, r, r, 1, &(ed_explicitness_score){0}));
    ED_TRY(ed_metric_sap(e, NULL, r, r, NULL, &value));
    ED_TRY(ed_metric_irs(e, NULL, r, 0.99, &value));
    ED_TRY(ed_metric_ssim(e, NULL, image, image, 2, 1, 8, 8, NULL, NULL, &value));
    ED_TRY(ed_metric_reduce_tokens(e, NULL, image, 8, 1, 4, codes));
    ED_TRY_OR_FAIL(ed_gaussian_create(e, 4, &g));
    ED_TRY_OR_FAIL(ed_gaussian_add(e, NULL, &g, image, 8));
    status = ed_metric_frechet(e, NULL, &g, &g, &value);
fail:
    ed_gaussian_free(e, &g);
    return status;
}

static void a_failed_allocation_is_reported_and_leaks_nothing(void)
{
    ed_representation r = disentangled(0.1);
    encdiff_status status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    r.n = 200;
    for (long allowed = 0; status != ENCDIFF_OK && allowed < 2000; allowed++) {
        scarce s = {allowed};
        ed_memory own;
        ed_env e = {.memory = &own};
        ed_memory_init(&own, &(ed_allocator){scarce_allocate, scarce_release, &s});
        status = score_everything(&e, &r);
        if (status != ENCDIFF_OK) CHECK_EQUAL(status, ENCDIFF_ERROR_OUT_OF_MEMORY);
        if (!CHECK_EQUAL(atomic_load(&own.in_use), 0)) break;
    }
    CHECK_EQUAL(status, ENCDIFF_OK);
    free_representation(&r);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(a_disentangled_representation_scores_high),
        TEST(draws_hold_what_they_promise),
        TEST(scores_do_not_depend_on_the_threads),
        TEST(every_split_of_a_tree_is_the_best_one),
        TEST(deep_trees_learn_everything),
        TEST(psnr_follows_from_mse),
        TEST(eigenvalues_agree_with_jacobi_and_the_trace),
        TEST(a_distance_of_few_samples_is_finite),
        TEST(tokens_become_their_first_component),
        TEST(a_run_can_be_stopped),
        TEST(what_cannot_be_scored_is_named),
        TEST(a_failed_allocation_is_reported_and_leaks_nothing),
    };
    ed_memory_init(&memory, NULL);
    env = (ed_env){.memory = &memory};
    test_state.name = "set-up";
    if (!good(ed_pool_create(&env, 2, &threaded.pool))) return 1;
    int result = test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
    ed_pool_free(&env, threaded.pool);
    if (atomic_load(&memory.in_use) == 0) return result;
    printf("FAILED: %zu bytes were not freed\n", atomic_load(&memory.in_use));
    return 1;
}
