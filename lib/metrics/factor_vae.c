/*
 * The FactorVAE score: Kim and Mnih, "Disentangling by factorising", ICML 2018, section 4.
 *
 * Rows that agree in one factor vote for the code that varies least among them, measured against its variance over
 * the whole representation. Each code is then said to stand for the factor that it won most often; the score is how
 * often new votes agree.
 */
#include <math.h>

#include "metrics/internal.h"

void ed_factor_vae_defaults(ed_factor_vae_options *options)
{
    *options = (ed_factor_vae_options){
        .train_points = 10000, .eval_points = 5000, .variance_rows = 10000, .batch = 64, .prune_threshold = 0.05};
}

/* Unbiased variance of every code over `rows`, in two passes; mean is scratch. */
static void variances(const ed_representation *table, const int32_t *rows, int64_t count, double *mean,
                      double *variance)
{
    int32_t size = table->size;
    memset(mean, 0, (size_t)size * sizeof *mean);
    memset(variance, 0, (size_t)size * sizeof *variance);
    for (int64_t i = 0; i < count; i++) {
        const float *code = table->codes + (int64_t)rows[i] * size;
        for (int32_t d = 0; d < size; d++) mean[d] += (double)code[d];
    }
    for (int32_t d = 0; d < size; d++) mean[d] /= (double)count;
    for (int64_t i = 0; i < count; i++) {
        const float *code = table->codes + (int64_t)rows[i] * size;
        for (int32_t d = 0; d < size; d++) {
            double off = (double)code[d] - mean[d];
            variance[d] += off * off;
        }
    }
    for (int32_t d = 0; d < size; d++) variance[d] /= (double)(count - 1);
}

typedef struct election {
    const ed_metric_points *points;
    const double *scale; /* [size]: variance over the representation; 0 where pruned */
    double *scratch;     /* [ranks][2 * size] */
    int32_t *winner;     /* [count] */
} election;

static encdiff_status elect(ed_env *env, void *argument, int rank, int64_t first, int64_t last)
{
    (void)env;
    election *e = argument;
    const ed_metric_points *p = e->points;
    int32_t size = p->table->size;
    double *mean = e->scratch + (size_t)rank * 2 * (size_t)size, *local = mean + size;
    for (int64_t point = first; point < last; point++) {
        variances(p->table, p->first + point * p->batch, p->batch, mean, local);
        double least = INFINITY;
        for (int32_t d = 0; d < size; d++) {
            if (e->scale[d] <= 0 || local[d] / e->scale[d] >= least) continue;
            least = local[d] / e->scale[d];
            e->winner[point] = d;
        }
    }
    return ENCDIFF_OK;
}

/* votes[factor][code] of all points. */
static encdiff_status count_votes(ed_env *env, const ed_metric_run *run, const ed_metric_points *points,
                                  const double *scale, int64_t *votes)
{
    int32_t size = points->table->size;
    encdiff_status status = ENCDIFF_OK;
    election e = {.points = points, .scale = scale};
    e.scratch = ed_alloc(env, (size_t)ed_metric_ranks(run) * 2, (size_t)size * sizeof *e.scratch);
    e.winner = ed_alloc(env, (size_t)points->count, sizeof *e.winner);
    if (!e.scratch || !e.winner)
        status = env->status;
    else
        status = ed_metric_for(env, run, "FactorVAE votes", points->count, 64, elect, &e);
    for (int64_t i = 0; i < points->count && status == ENCDIFF_OK; i++)
        votes[(int64_t)points->factor[i] * size + e.winner[i]]++;
    ed_free(env, e.scratch);
    ed_free(env, e.winner);
    return status;
}

/* Share of `votes` that agree with the factor most voted for in `learned`, code by code; the first factor wins ties. */
static double accuracy(const int64_t *learned, const int64_t *votes, int32_t factors, int32_t size)
{
    int64_t right = 0, all = 0;
    for (int32_t d = 0; d < size; d++) {
        int32_t best = 0;
        for (int32_t f = 0; f < factors; f++) {
            if (learned[(int64_t)f * size + d] > learned[(int64_t)best * size + d]) best = f;
            all += votes[(int64_t)f * size + d];
        }
        right += votes[(int64_t)best * size + d];
    }
    return (double)right / (double)all;
}

static int32_t prune(double *variance, int32_t size, double threshold)
{
    int32_t active = 0;
    for (int32_t d = 0; d < size; d++) {
        if (sqrt(variance[d]) < threshold) variance[d] = 0;
        active += variance[d] > 0;
    }
    return active;
}

static encdiff_status score(ed_env *env, const ed_metric_run *run, const int32_t *variance_rows, int64_t variance_count,
                            const ed_metric_points *train, const ed_metric_points *eval, double threshold,
                            ed_factor_vae_score *out)
{
    int32_t size = train->table->size, factors = train->table->factor_count;
    encdiff_status status = ENCDIFF_OK;
    double *variance = ed_alloc(env, 2 * (size_t)size, sizeof *variance);
    int64_t *votes = ed_alloc(env, 2 * (size_t)factors, (size_t)size * sizeof *votes);
    if (!variance || !votes) {
        status = env->status;
        goto fail;
    }
    int64_t *eval_votes = votes + (int64_t)factors * size;
    variances(train->table, variance_rows, variance_count, variance + size, variance);
    *out = (ed_factor_vae_score){.active = prune(variance, size, threshold)};
    if (out->active == 0) goto fail;
    ED_TRY_OR_FAIL(count_votes(env, run, train, variance, votes));
    ED_TRY_OR_FAIL(count_votes(env, run, eval, variance, eval_votes));
    out->train = accuracy(votes, votes, factors, size);
    out->eval = accuracy(votes, eval_votes, factors, size);
fail:
    ed_free(env, variance);
    ed_free(env, votes);
    return status;
}

encdiff_status ed_metric_factor_vae_of(ed_env *env, const ed_metric_run *run, const int32_t *variance_rows,
                                       int64_t variance_count, const ed_metric_points *train,
                                       const ed_metric_points *eval, double prune_threshold, ed_factor_vae_score *out)
{
    ED_TRY(ed_metric_points_check(env, train, "train"));
    ED_TRY(ed_metric_points_check(env, eval, "test"));
    if (variance_count < 2 || train->batch < 2 || eval->batch < 2)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE,
                       "a variance needs two rows or more; FactorVAE has %lld, votes have %d and %d",
                       (long long)variance_count, train->batch, eval->batch);
    if (train->table->size != eval->table->size || train->table->factor_count != eval->table->factor_count)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "train and test differ in codes or factors");
    ED_TRY(ed_metric_rows_check(env, variance_rows, variance_count, train->table->n));
    return score(env, run, variance_rows, variance_count, train, eval, prune_threshold, out);
}

encdiff_status ed_metric_factor_vae(ed_env *env, const ed_metric_run *run, const ed_representation *train,
                                    const ed_representation *test, const ed_factor_vae_options *options,
                                    ed_factor_vae_score *out)
{
    ed_factor_vae_options defaults;
    ed_factor_vae_defaults(&defaults);
    const ed_factor_vae_options *o = options ? options : &defaults;
    uint64_t seed = run ? run->seed : 0;
    encdiff_status status = ENCDIFF_OK;
    ed_metric_points votes = {0}, held_out = {0};
    int32_t *rows = NULL;
    if (!test) test = train;
    ED_TRY(ed_representation_check_pair(env, train, test));
    ED_TRY_OR_FAIL(ed_metric_draw_rows(env, seed, ED_STREAM_FACTOR_VAE_VARIANCE, train->n, o->variance_rows, &rows));
    ED_TRY_OR_FAIL(
        ed_metric_draw_points(env, seed, ED_STREAM_FACTOR_VAE_TRAIN, train, o->train_points, o->batch, false, &votes));
    ED_TRY_OR_FAIL(
        ed_metric_draw_points(env, seed, ED_STREAM_FACTOR_VAE_EVAL, test, o->eval_points, o->batch, false, &held_out));
    ED_TRY_OR_FAIL(
        ed_metric_factor_vae_of(env, run, rows, o->variance_rows, &votes, &held_out, o->prune_threshold, out));
fail:
    ed_free(env, rows);
    ed_metric_points_free(env, &votes);
    ed_metric_points_free(env, &held_out);
    return status;
}
