/*
 * The BetaVAE score: Higgins et al., "beta-VAE", ICLR 2017, appendix A.4.
 *
 * Two batches agree pair by pair in one factor; a linear classifier guesses which from the mean absolute difference
 * of their codes. The score is its accuracy.
 */
#include <math.h>

#include "metrics/linear.h"

void ed_beta_vae_defaults(ed_beta_vae_options *options)
{
    *options = (ed_beta_vae_options){.train_points = 10000, .eval_points = 5000, .batch = 64, .c = 1};
}

/* Mean absolute difference of every code over a point's pairs. */
static void features_of(const ed_metric_points *p, int64_t point, double *out)
{
    int32_t size = p->table->size;
    memset(out, 0, (size_t)size * sizeof *out);
    for (int64_t i = point * p->batch; i < (point + 1) * p->batch; i++) {
        const float *a = p->table->codes + (int64_t)p->first[i] * size;
        const float *b = p->table->codes + (int64_t)p->second[i] * size;
        for (int32_t d = 0; d < size; d++) out[d] += fabs((double)a[d] - (double)b[d]);
    }
    for (int32_t d = 0; d < size; d++) out[d] /= p->batch;
}

/* Factors that were drawn, renamed 0, 1, ...: class_of[factor], -1 for one that was not. Returns their number. */
static int32_t classes_of(const ed_metric_points *p, int32_t *class_of)
{
    int32_t classes = 0;
    for (int32_t f = 0; f < p->table->factor_count; f++) class_of[f] = -1;
    for (int64_t i = 0; i < p->count; i++) class_of[p->factor[i]] = 0;
    for (int32_t f = 0; f < p->table->factor_count; f++)
        if (class_of[f] == 0) class_of[f] = classes++;
    return classes;
}

static double accuracy(const ed_logistic *model, const ed_metric_points *p, const int32_t *class_of, double *features,
                       double *scores)
{
    int64_t right = 0;
    for (int64_t i = 0; i < p->count; i++) {
        features_of(p, i, features);
        right += ed_logistic_predict(model, features, scores) == class_of[p->factor[i]];
    }
    return (double)right / (double)p->count;
}

static encdiff_status score(ed_env *env, const ed_metric_points *train, const ed_metric_points *eval, double c,
                            ed_beta_vae_score *out)
{
    int32_t size = train->table->size, factors = train->table->factor_count;
    ed_logistic model = {0};
    encdiff_status status = ENCDIFF_OK;
    double *features = ed_alloc(env, (size_t)train->count, (size_t)size * sizeof *features);
    double *scores = ed_alloc(env, (size_t)factors, sizeof *scores);
    int32_t *class_of = ed_alloc(env, (size_t)factors, sizeof *class_of);
    int32_t *label = ed_alloc(env, (size_t)train->count, sizeof *label);
    if (!features || !scores || !class_of || !label) {
        status = env->status;
        goto fail;
    }
    int32_t classes = classes_of(train, class_of);
    if (classes < 2) {
        status = ed_fail(env, ENCDIFF_ERROR_SHAPE, "BetaVAE tells factors apart, and only one was drawn");
        goto fail;
    }
    for (int64_t i = 0; i < train->count; i++) {
        features_of(train, i, features + i * size);
        label[i] = class_of[train->factor[i]];
    }
    ED_TRY_OR_FAIL(ed_logistic_fit(env, features, label, train->count, size, classes, c, &model));
    out->train = accuracy(&model, train, class_of, features, scores);
    out->eval = accuracy(&model, eval, class_of, features, scores);
fail:
    ed_logistic_free(env, &model);
    ed_free(env, features);
    ed_free(env, scores);
    ed_free(env, class_of);
    ed_free(env, label);
    return status;
}

encdiff_status ed_metric_beta_vae_of(ed_env *env, const ed_metric_points *train, const ed_metric_points *eval, double c,
                                     ed_beta_vae_score *out)
{
    ED_TRY(ed_metric_points_check(env, train, "train"));
    ED_TRY(ed_metric_points_check(env, eval, "test"));
    if (!train->second || !eval->second) return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "BetaVAE needs paired points");
    if (train->table->size != eval->table->size || train->table->factor_count != eval->table->factor_count)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "train and test differ in codes or factors");
    if (!(c > 0)) return ed_fail(env, ENCDIFF_ERROR_CONFIG, "BetaVAE: C is %g and must be positive", c);
    return score(env, train, eval, c, out);
}

encdiff_status ed_metric_beta_vae(ed_env *env, const ed_metric_run *run, const ed_representation *train,
                                  const ed_representation *test, const ed_beta_vae_options *options,
                                  ed_beta_vae_score *out)
{
    ed_beta_vae_options defaults;
    ed_beta_vae_defaults(&defaults);
    const ed_beta_vae_options *o = options ? options : &defaults;
    uint64_t seed = run ? run->seed : 0;
    encdiff_status status = ENCDIFF_OK;
    ed_metric_points points = {0}, held_out = {0};
    if (!test) test = train;
    ED_TRY(ed_representation_check_pair(env, train, test));
    ED_TRY_OR_FAIL(
        ed_metric_draw_points(env, seed, ED_STREAM_BETA_VAE_TRAIN, train, o->train_points, o->batch, true, &points));
    ED_TRY_OR_FAIL(
        ed_metric_draw_points(env, seed, ED_STREAM_BETA_VAE_EVAL, test, o->eval_points, o->batch, true, &held_out));
    ED_TRY_OR_FAIL(ed_metric_beta_vae_of(env, &points, &held_out, o->c, out));
fail:
    ed_metric_points_free(env, &points);
    ed_metric_points_free(env, &held_out);
    return status;
}
