/* Every metric of codes: the settings that it takes, its run, and the numbers that it gives; and the table of all. */
#include <math.h>

#include "api/scoring.h"

#define COUNT_LIMIT ((int64_t)1 << 31)

encdiff_status ed_scoring_settings(ed_scoring *s, const char *metric, ed_json **out)
{
    *out = NULL;
    return s->settings ? ed_json_group(s->env, s->settings, metric, out) : ENCDIFF_OK;
}

/* The object that a metric's numbers go to. */
static encdiff_status results_of(ed_scoring *s, const char *metric, ed_json **out)
{
    return ed_json_put_new(s->env, s->tree, metric, ED_JSON_OBJECT, out);
}

encdiff_status ed_scoring_used(ed_scoring *s, const char *metric, ed_json **out)
{
    return ed_json_put_new(s->env, s->used, metric, ED_JSON_OBJECT, out);
}

/* The same where there is one number alone to tell. */
static encdiff_status put_used(ed_scoring *s, const char *metric, const char *key, double value)
{
    ed_json *used;
    ED_TRY(ed_scoring_used(s, metric, &used));
    return ed_json_put_number(s->env, used, key, value);
}

/* double[rows][columns] as an array of arrays. */
static encdiff_status put_matrix(ed_scoring *s, ed_json *results, const char *key, const double *values, int32_t rows,
                                 int32_t columns)
{
    ed_json *outer, *row;
    ED_TRY(ed_json_put_new(s->env, results, key, ED_JSON_ARRAY, &outer));
    for (int32_t i = 0; i < rows; i++) {
        ED_TRY(ed_json_put_new(s->env, outer, NULL, ED_JSON_ARRAY, &row));
        for (int32_t k = 0; k < columns; k++)
            ED_TRY(ed_json_put_number(s->env, row, NULL, values[(size_t)i * (size_t)columns + (size_t)k]));
    }
    return ENCDIFF_OK;
}

static encdiff_status put_vector(ed_scoring *s, ed_json *results, const char *key, const double *values, int32_t count)
{
    ed_json *array;
    ED_TRY(ed_json_put_new(s->env, results, key, ED_JSON_ARRAY, &array));
    for (int32_t i = 0; i < count; i++) ED_TRY(ed_json_put_number(s->env, array, NULL, values[i]));
    return ENCDIFF_OK;
}

/* What every sampling metric can be told. */
static void take_counts(const ed_scoring *s, int64_t *train_points, int64_t *eval_points, int32_t *batch)
{
    *train_points = s->options.train_samples;
    *eval_points = s->options.test_samples;
    *batch = s->options.batch;
}

static encdiff_status factor_vae(ed_scoring *s)
{
    ed_json *settings, *results, *used;
    ed_factor_vae_options o;
    ed_factor_vae_score score;
    ed_factor_vae_defaults(&o);
    take_counts(s, &o.train_points, &o.eval_points, &o.batch);
    o.prune_threshold = fmax(s->options.prune_threshold, 0);
    ED_TRY(ed_scoring_settings(s, "factor_vae", &settings));
    ED_TRY(ed_json_int(s->env, settings, "train_points", 1, COUNT_LIMIT, &o.train_points));
    ED_TRY(ed_json_int(s->env, settings, "eval_points", 1, COUNT_LIMIT, &o.eval_points));
    ED_TRY(ed_json_int(s->env, settings, "variance_rows", 2, COUNT_LIMIT, &o.variance_rows));
    ED_TRY(ed_json_int32(s->env, settings, "batch", 2, 1 << 20, &o.batch));
    ED_TRY(ed_json_float(s->env, settings, "prune_threshold", 0, 1e30, &o.prune_threshold));
    ED_TRY(ed_metric_factor_vae(s->env, &s->run, s->train, s->test, &o, &score));
    ED_TRY(results_of(s, "factor_vae", &results));
    ED_TRY(ed_json_put_number(s->env, results, "train", score.train));
    ED_TRY(ed_json_put_number(s->env, results, "eval", score.eval));
    ED_TRY(ed_json_put_number(s->env, results, "active", score.active));
    ED_TRY(ed_scoring_used(s, "factor_vae", &used));
    ED_TRY(ed_json_put_number(s->env, used, "train_points", (double)o.train_points));
    ED_TRY(ed_json_put_number(s->env, used, "eval_points", (double)o.eval_points));
    ED_TRY(ed_json_put_number(s->env, used, "variance_rows", (double)o.variance_rows));
    ED_TRY(ed_json_put_number(s->env, used, "batch", o.batch));
    return ed_json_put_number(s->env, used, "prune_threshold", o.prune_threshold);
}

static encdiff_status beta_vae(ed_scoring *s)
{
    ed_json *settings, *results, *used;
    ed_beta_vae_options o;
    ed_beta_vae_score score;
    ed_beta_vae_defaults(&o);
    take_counts(s, &o.train_points, &o.eval_points, &o.batch);
    ED_TRY(ed_scoring_settings(s, "beta_vae", &settings));
    ED_TRY(ed_json_int(s->env, settings, "train_points", 1, COUNT_LIMIT, &o.train_points));
    ED_TRY(ed_json_int(s->env, settings, "eval_points", 1, COUNT_LIMIT, &o.eval_points));
    ED_TRY(ed_json_int32(s->env, settings, "batch", 1, 1 << 20, &o.batch));
    ED_TRY(ed_json_float(s->env, settings, "c", 1e-12, 1e12, &o.c));
    ED_TRY(ed_metric_beta_vae(s->env, &s->run, s->train, s->test, &o, &score));
    ED_TRY(results_of(s, "beta_vae", &results));
    ED_TRY(ed_json_put_number(s->env, results, "train", score.train));
    ED_TRY(ed_json_put_number(s->env, results, "eval", score.eval));
    ED_TRY(ed_scoring_used(s, "beta_vae", &used));
    ED_TRY(ed_json_put_number(s->env, used, "train_points", (double)o.train_points));
    ED_TRY(ed_json_put_number(s->env, used, "eval_points", (double)o.eval_points));
    ED_TRY(ed_json_put_number(s->env, used, "batch", o.batch));
    return ed_json_put_number(s->env, used, "c", o.c);
}

static encdiff_status dci(ed_scoring *s)
{
    ed_json *settings, *results = NULL, *used = NULL;
    ed_dci_options o;
    ed_dci_score score;
    int32_t size = s->train_samples.size, factors = s->train_samples.factor_count;
    ed_dci_defaults(&o);
    ED_TRY(ed_scoring_settings(s, "dci", &settings));
    ED_TRY(ed_json_int32(s->env, settings, "stages", 1, 10000, &o.stages));
    ED_TRY(ed_json_int32(s->env, settings, "depth", 1, 10, &o.depth));
    ED_TRY(ed_json_float(s->env, settings, "rate", 1e-6, 10, &o.rate));
    double *importance = ed_alloc(s->env, (size_t)size * (size_t)factors, sizeof *importance);
    if (!importance) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_metric_dci(s->env, &s->run, &s->train_samples, &s->test_samples, &o, importance, &score);
    if (status == ENCDIFF_OK) status = results_of(s, "dci", &results);
    if (status == ENCDIFF_OK) status = ed_json_put_number(s->env, results, "disentanglement", score.disentanglement);
    if (status == ENCDIFF_OK) status = ed_json_put_number(s->env, results, "completeness", score.completeness);
    if (status == ENCDIFF_OK)
        status = ed_json_put_number(s->env, results, "informativeness_train", score.informativeness_train);
    if (status == ENCDIFF_OK)
        status = ed_json_put_number(s->env, results, "informativeness_test", score.informativeness_test);
    if (status == ENCDIFF_OK) status = put_matrix(s, results, "importance", importance, size, factors);
    if (status == ENCDIFF_OK) status = ed_scoring_used(s, "dci", &used);
    if (status == ENCDIFF_OK) status = ed_json_put_number(s->env, used, "stages", o.stages);
    if (status == ENCDIFF_OK) status = ed_json_put_number(s->env, used, "depth", o.depth);
    if (status == ENCDIFF_OK) status = ed_json_put_number(s->env, used, "rate", o.rate);
    ed_free(s->env, importance);
    return status;
}

/* Mutual information of the training samples, for MIG and modularity; `information` is the caller's to free. */
static encdiff_status information(ed_scoring *s, const char *metric, double **table, double **entropy)
{
    ed_json *settings;
    int32_t bins = s->options.bins;
    const ed_representation *r = &s->train_samples;
    ED_TRY(ed_scoring_settings(s, metric, &settings));
    ED_TRY(ed_json_int32(s->env, settings, "bins", 2, 65536, &bins));
    ED_TRY(put_used(s, metric, "bins", bins));
    *table = ed_alloc(s->env, (size_t)r->size * (size_t)r->factor_count, sizeof **table);
    *entropy = ed_alloc(s->env, (size_t)r->factor_count, sizeof **entropy);
    if (!*table || !*entropy) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    return ed_metric_mutual_information(s->env, &s->run, r, bins, *table, *entropy);
}

static encdiff_status mig(ed_scoring *s)
{
    double *table = NULL, *entropy = NULL, score = 0;
    encdiff_status status = information(s, "mig", &table, &entropy);
    if (status == ENCDIFF_OK)
        status = ed_metric_mig(s->env, table, entropy, s->train_samples.size, s->train_samples.factor_count, &score);
    if (status == ENCDIFF_OK) status = ed_json_put_number(s->env, s->tree, "mig", score);
    if (status == ENCDIFF_OK)
        status = put_matrix(s, s->tree, "mutual_information", table, s->train_samples.size,
                            s->train_samples.factor_count);
    if (status == ENCDIFF_OK) status = put_vector(s, s->tree, "factor_entropy", entropy, s->train_samples.factor_count);
    ed_free(s->env, table);
    ed_free(s->env, entropy);
    return status;
}

static encdiff_status modularity(ed_scoring *s)
{
    double *table = NULL, *entropy = NULL, score = 0;
    encdiff_status status = information(s, "modularity", &table, &entropy);
    if (status == ENCDIFF_OK)
        status = ed_metric_modularity(s->env, table, s->train_samples.size, s->train_samples.factor_count, &score);
    if (status == ENCDIFF_OK) status = ed_json_put_number(s->env, s->tree, "modularity", score);
    ed_free(s->env, table);
    ed_free(s->env, entropy);
    return status;
}

static encdiff_status explicitness(ed_scoring *s)
{
    ed_json *settings;
    ed_explicitness_score score;
    double c = 1;
    ED_TRY(ed_scoring_settings(s, "explicitness", &settings));
    ED_TRY(ed_json_float(s->env, settings, "c", 1e-12, 1e12, &c));
    ED_TRY(put_used(s, "explicitness", "c", c));
    ED_TRY(ed_metric_explicitness(s->env, &s->run, &s->train_samples, &s->test_samples, c, &score));
    ED_TRY(ed_json_put_number(s->env, s->tree, "explicitness_train", score.train));
    return ed_json_put_number(s->env, s->tree, "explicitness_test", score.test);
}

static encdiff_status sap(ed_scoring *s)
{
    ed_json *settings, *used;
    ed_sap_options o;
    double score;
    ed_sap_defaults(&o);
    ED_TRY(ed_scoring_settings(s, "sap", &settings));
    ED_TRY(ed_json_bool(s->env, settings, "continuous", &o.continuous));
    ED_TRY(ed_json_float(s->env, settings, "c", 1e-12, 1e12, &o.c));
    ED_TRY(ed_scoring_used(s, "sap", &used));
    ED_TRY(ed_json_put_bool(s->env, used, "continuous", o.continuous));
    ED_TRY(ed_json_put_number(s->env, used, "c", o.c));
    ED_TRY(ed_metric_sap(s->env, &s->run, &s->train_samples, &s->test_samples, &o, &score));
    return ed_json_put_number(s->env, s->tree, "sap", score);
}

static encdiff_status irs(ed_scoring *s)
{
    ed_json *settings;
    double quantile = 0.99, score;
    ED_TRY(ed_scoring_settings(s, "irs", &settings));
    ED_TRY(ed_json_float(s->env, settings, "quantile", 0, 1, &quantile));
    ED_TRY(put_used(s, "irs", "quantile", quantile));
    ED_TRY(ed_metric_irs(s->env, &s->run, &s->train_samples, quantile, &score));
    return ed_json_put_number(s->env, s->tree, "irs", score);
}

static encdiff_status tad(ed_scoring *s)
{
    ed_json *settings, *results, *used;
    ed_tad_options o;
    ed_tad_score score;
    ed_tad_defaults(&o);
    ED_TRY(ed_scoring_settings(s, "tad", &settings));
    ED_TRY(ed_json_float(s->env, settings, "auroc_threshold", 0, 1, &o.auroc_threshold));
    ED_TRY(ed_json_float(s->env, settings, "entropy_threshold", 0, 1, &o.entropy_threshold));
    ED_TRY(ed_json_float(s->env, settings, "least_range", 0, 1e30, &o.least_range));
    ED_TRY(ed_scoring_used(s, "tad", &used));
    ED_TRY(ed_json_put_number(s->env, used, "auroc_threshold", o.auroc_threshold));
    ED_TRY(ed_json_put_number(s->env, used, "entropy_threshold", o.entropy_threshold));
    ED_TRY(ed_json_put_number(s->env, used, "least_range", o.least_range));
    ED_TRY(ed_metric_tad(s->env, &s->run, &s->train_samples, &o, &score));
    ED_TRY(results_of(s, "tad", &results));
    ED_TRY(ed_json_put_number(s->env, results, "tad", score.tad));
    return ed_json_put_number(s->env, results, "attributes", score.attributes);
}

/* ---------------------------------------------------------------- the table */

const ed_metric_entry ed_metric_table[] = {
    {"factor_vae", ED_NEEDS_CODES, false, false, false, factor_vae},
    {"beta_vae", ED_NEEDS_CODES, false, false, false, beta_vae},
    {"dci", ED_NEEDS_CODES, false, false, true, dci},
    {"mig", ED_NEEDS_CODES, false, false, true, mig},
    {"modularity", ED_NEEDS_CODES, false, false, false, modularity},
    {"explicitness", ED_NEEDS_CODES, false, false, true, explicitness},
    {"sap", ED_NEEDS_CODES, false, false, true, sap},
    {"irs", ED_NEEDS_CODES, false, false, false, irs},
    {"tad", ED_NEEDS_CODES, true, false, false, tad},
    {"mse", ED_NEEDS_IMAGES, false, true, false, ed_score_mse},
    {"psnr", ED_NEEDS_IMAGES, false, false, false, ed_score_psnr},
    {"ssim", ED_NEEDS_IMAGES, false, false, false, ed_score_ssim},
    {"lpips", ED_NEEDS_IMAGES, true, true, false, ed_score_lpips},
    {"fid", ED_NEEDS_IMAGES, true, true, false, ed_score_fid},
};

const size_t ed_metric_table_size = ED_COUNT(ed_metric_table);
_Static_assert(ED_COUNT(ed_metric_table) <= ED_MAX_METRICS, "ED_MAX_METRICS is too small");
