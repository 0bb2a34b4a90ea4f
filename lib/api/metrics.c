/* Metrics: a table of them, each adding its numbers to a tree that becomes the scores. */
#include <math.h>

#include "api/handles.h"
#include "metrics/metrics.h"

/* ---------------------------------------------------------------- scores */

struct encdiff_scores {
    encdiff_context *context;
    char **names;
    double *values;
    size_t count, name_capacity, value_capacity;
    char *json;
};

void encdiff_scores_free(encdiff_scores *s)
{
    if (!s) return;
    encdiff_context *context = s->context;
    for (size_t i = 0; i < s->count; i++) ed_free(&context->env, s->names[i]);
    ed_free(&context->env, s->names);
    ed_free(&context->env, s->values);
    ed_free(&context->env, s->json);
    ed_free(&context->env, s);
    encdiff_context_free(context);
}

int32_t encdiff_scores_count(const encdiff_scores *s) { return s ? (int32_t)s->count : 0; }

const char *encdiff_scores_name(const encdiff_scores *s, int32_t index)
{
    return s && index >= 0 && (size_t)index < s->count ? s->names[index] : NULL;
}

double encdiff_scores_value(const encdiff_scores *s, int32_t index)
{
    return s && index >= 0 && (size_t)index < s->count ? s->values[index] : NAN;
}

encdiff_status encdiff_scores_find(const encdiff_scores *s, const char *name, double *value)
{
    if (!s || !name || !value) return ENCDIFF_ERROR_ARGUMENT;
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->names[i], name) == 0) {
            *value = s->values[i];
            return ENCDIFF_OK;
        }
    return ENCDIFF_ERROR_NOT_FOUND;
}

const char *encdiff_scores_json(const encdiff_scores *s) { return s ? s->json : NULL; }

/* ---------------------------------------------------------------- one evaluation */

typedef struct work {
    encdiff_context *context;
    ed_env *env;
    encdiff_metrics_options options;
    ed_json *settings; /* of the caller, or NULL */
    ed_json *tree;     /* results */
    ed_metric_run run;
    encdiff_progress progress;
    void *user;
    const ed_representation *train, *test;         /* sampling metrics draw from these */
    ed_representation train_samples, test_samples; /* what the others learn from and are tested on */
    const float *reference, *images;               /* f32 NHWC pairs, or NULL */
    int64_t pairs;
    int32_t height, width;
} work;

static bool forward_progress(void *user, const char *activity, int64_t done, int64_t total)
{
    work *w = user;
    encdiff_progress_info info = {.struct_size = sizeof info, .activity = activity, .done = done, .total = total};
    return !w->progress || w->progress(&info, w->user) == 0;
}

/* The settings object of a metric, NULL when the caller gave none. */
static encdiff_status settings_of(work *w, const char *metric, ed_json **out)
{
    *out = NULL;
    return w->settings ? ed_json_group(w->env, w->settings, metric, out) : ENCDIFF_OK;
}

/* The object that a metric's numbers and settings go to. */
static encdiff_status results_of(work *w, const char *metric, ed_json **out)
{
    return ed_json_put_new(w->env, w->tree, metric, ED_JSON_OBJECT, out);
}

static encdiff_status put_settings(work *w, ed_json *results, ed_json **out)
{
    return ed_json_put_new(w->env, results, "settings", ED_JSON_OBJECT, out);
}

/* double[rows][columns] as an array of arrays. */
static encdiff_status put_matrix(work *w, ed_json *results, const char *key, const double *values, int32_t rows,
                                 int32_t columns)
{
    ed_json *outer, *row;
    ED_TRY(ed_json_put_new(w->env, results, key, ED_JSON_ARRAY, &outer));
    for (int32_t i = 0; i < rows; i++) {
        ED_TRY(ed_json_put_new(w->env, outer, NULL, ED_JSON_ARRAY, &row));
        for (int32_t k = 0; k < columns; k++)
            ED_TRY(ed_json_put_number(w->env, row, NULL, values[(size_t)i * (size_t)columns + (size_t)k]));
    }
    return ENCDIFF_OK;
}

#define COUNT_LIMIT ((int64_t)1 << 31)

static encdiff_status factor_vae(work *w)
{
    ed_json *settings, *results, *used;
    ed_factor_vae_options o;
    ed_factor_vae_score score;
    ed_factor_vae_defaults(&o);
    if (w->options.train_samples) o.train_points = w->options.train_samples;
    if (w->options.test_samples) o.eval_points = w->options.test_samples;
    if (w->options.batch) o.batch = w->options.batch;
    if (w->options.prune_threshold > 0 || w->options.prune_threshold < 0)
        o.prune_threshold = fmax(w->options.prune_threshold, 0);
    ED_TRY(settings_of(w, "factor_vae", &settings));
    ED_TRY(ed_json_int(w->env, settings, "train_points", 1, COUNT_LIMIT, &o.train_points));
    ED_TRY(ed_json_int(w->env, settings, "eval_points", 1, COUNT_LIMIT, &o.eval_points));
    ED_TRY(ed_json_int(w->env, settings, "variance_rows", 2, COUNT_LIMIT, &o.variance_rows));
    ED_TRY(ed_json_int32(w->env, settings, "batch", 2, 1 << 20, &o.batch));
    ED_TRY(ed_json_float(w->env, settings, "prune_threshold", 0, 1e30, &o.prune_threshold));
    ED_TRY(ed_metric_factor_vae(w->env, &w->run, w->train, w->test, &o, &score));
    ED_TRY(results_of(w, "factor_vae", &results));
    ED_TRY(ed_json_put_number(w->env, results, "train", score.train));
    ED_TRY(ed_json_put_number(w->env, results, "eval", score.eval));
    ED_TRY(ed_json_put_number(w->env, results, "active", score.active));
    ED_TRY(put_settings(w, results, &used));
    ED_TRY(ed_json_put_number(w->env, used, "train_points", (double)o.train_points));
    ED_TRY(ed_json_put_number(w->env, used, "eval_points", (double)o.eval_points));
    ED_TRY(ed_json_put_number(w->env, used, "variance_rows", (double)o.variance_rows));
    ED_TRY(ed_json_put_number(w->env, used, "batch", o.batch));
    return ed_json_put_number(w->env, used, "prune_threshold", o.prune_threshold);
}

static encdiff_status beta_vae(work *w)
{
    ed_json *settings, *results;
    ed_beta_vae_options o;
    ed_beta_vae_score score;
    ed_beta_vae_defaults(&o);
    if (w->options.train_samples) o.train_points = w->options.train_samples;
    if (w->options.test_samples) o.eval_points = w->options.test_samples;
    if (w->options.batch) o.batch = w->options.batch;
    ED_TRY(settings_of(w, "beta_vae", &settings));
    ED_TRY(ed_json_int(w->env, settings, "train_points", 1, COUNT_LIMIT, &o.train_points));
    ED_TRY(ed_json_int(w->env, settings, "eval_points", 1, COUNT_LIMIT, &o.eval_points));
    ED_TRY(ed_json_int32(w->env, settings, "batch", 1, 1 << 20, &o.batch));
    ED_TRY(ed_json_float(w->env, settings, "c", 1e-12, 1e12, &o.c));
    ED_TRY(ed_metric_beta_vae(w->env, &w->run, w->train, w->test, &o, &score));
    ED_TRY(results_of(w, "beta_vae", &results));
    ED_TRY(ed_json_put_number(w->env, results, "train", score.train));
    return ed_json_put_number(w->env, results, "eval", score.eval);
}

static encdiff_status dci(work *w)
{
    ed_json *settings, *results;
    ed_dci_options o;
    ed_dci_score score;
    int32_t size = w->train_samples.size, factors = w->train_samples.factor_count;
    ed_dci_defaults(&o);
    ED_TRY(settings_of(w, "dci", &settings));
    ED_TRY(ed_json_int32(w->env, settings, "stages", 1, 10000, &o.stages));
    ED_TRY(ed_json_int32(w->env, settings, "depth", 1, 10, &o.depth));
    ED_TRY(ed_json_float(w->env, settings, "rate", 1e-6, 10, &o.rate));
    double *importance = ed_alloc(w->env, (size_t)size * (size_t)factors, sizeof *importance);
    if (!importance) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_metric_dci(w->env, &w->run, &w->train_samples, &w->test_samples, &o, importance, &score);
    if (status == ENCDIFF_OK) status = results_of(w, "dci", &results);
    if (status == ENCDIFF_OK) status = ed_json_put_number(w->env, results, "disentanglement", score.disentanglement);
    if (status == ENCDIFF_OK) status = ed_json_put_number(w->env, results, "completeness", score.completeness);
    if (status == ENCDIFF_OK)
        status = ed_json_put_number(w->env, results, "informativeness_train", score.informativeness_train);
    if (status == ENCDIFF_OK)
        status = ed_json_put_number(w->env, results, "informativeness_test", score.informativeness_test);
    if (status == ENCDIFF_OK) status = put_matrix(w, results, "importance", importance, size, factors);
    ed_free(w->env, importance);
    return status;
}

/* Mutual information of the training samples, for MIG and modularity; `information` is the caller's to free. */
static encdiff_status information(work *w, const char *metric, double **table, double **entropy)
{
    ed_json *settings;
    int32_t bins = w->options.bins ? w->options.bins : 20;
    const ed_representation *r = &w->train_samples;
    ED_TRY(settings_of(w, metric, &settings));
    ED_TRY(ed_json_int32(w->env, settings, "bins", 2, 65536, &bins));
    *table = ed_alloc(w->env, (size_t)r->size * (size_t)r->factor_count, sizeof **table);
    *entropy = ed_alloc(w->env, (size_t)r->factor_count, sizeof **entropy);
    if (!*table || !*entropy) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    return ed_metric_mutual_information(w->env, &w->run, r, bins, *table, *entropy);
}

static encdiff_status mig(work *w)
{
    double *table = NULL, *entropy = NULL, score = 0;
    encdiff_status status = information(w, "mig", &table, &entropy);
    if (status == ENCDIFF_OK)
        status = ed_metric_mig(w->env, table, entropy, w->train_samples.size, w->train_samples.factor_count, &score);
    if (status == ENCDIFF_OK) status = ed_json_put_number(w->env, w->tree, "mig", score);
    if (status == ENCDIFF_OK)
        status = put_matrix(w, w->tree, "mutual_information", table, w->train_samples.size,
                            w->train_samples.factor_count);
    ed_free(w->env, table);
    ed_free(w->env, entropy);
    return status;
}

static encdiff_status modularity(work *w)
{
    double *table = NULL, *entropy = NULL, score = 0;
    encdiff_status status = information(w, "modularity", &table, &entropy);
    if (status == ENCDIFF_OK)
        status = ed_metric_modularity(w->env, table, w->train_samples.size, w->train_samples.factor_count, &score);
    if (status == ENCDIFF_OK) status = ed_json_put_number(w->env, w->tree, "modularity", score);
    ed_free(w->env, table);
    ed_free(w->env, entropy);
    return status;
}

static encdiff_status explicitness(work *w)
{
    ed_explicitness_score score;
    ED_TRY(ed_metric_explicitness(w->env, &w->run, &w->train_samples, &w->test_samples, 1.0, &score));
    ED_TRY(ed_json_put_number(w->env, w->tree, "explicitness_train", score.train));
    return ed_json_put_number(w->env, w->tree, "explicitness_test", score.test);
}

static encdiff_status sap(work *w)
{
    ed_json *settings;
    ed_sap_options o;
    double score;
    ed_sap_defaults(&o);
    ED_TRY(settings_of(w, "sap", &settings));
    ED_TRY(ed_json_bool(w->env, settings, "continuous", &o.continuous));
    ED_TRY(ed_json_float(w->env, settings, "c", 1e-12, 1e12, &o.c));
    ED_TRY(ed_metric_sap(w->env, &w->run, &w->train_samples, &w->test_samples, &o, &score));
    return ed_json_put_number(w->env, w->tree, "sap", score);
}

static encdiff_status irs(work *w)
{
    ed_json *settings;
    double quantile = 0.99, score;
    ED_TRY(settings_of(w, "irs", &settings));
    ED_TRY(ed_json_float(w->env, settings, "quantile", 0, 1, &quantile));
    ED_TRY(ed_metric_irs(w->env, &w->run, &w->train_samples, quantile, &score));
    return ed_json_put_number(w->env, w->tree, "irs", score);
}

static encdiff_status tad(work *w)
{
    ed_json *results;
    ed_tad_options o;
    ed_tad_score score;
    ed_tad_defaults(&o);
    ED_TRY(ed_metric_tad(w->env, &w->run, &w->train_samples, &o, &score));
    ED_TRY(results_of(w, "tad", &results));
    ED_TRY(ed_json_put_number(w->env, results, "tad", score.tad));
    return ed_json_put_number(w->env, results, "attributes", score.attributes);
}

static int64_t image_size(const work *w) { return (int64_t)w->height * w->width * 3; }

static encdiff_status mse(work *w)
{
    double score;
    ED_TRY(ed_metric_mse(w->env, w->reference, w->images, w->pairs, image_size(w), NULL, &score));
    return ed_json_put_number(w->env, w->tree, "mse", score);
}

static encdiff_status psnr(work *w)
{
    double score;
    ED_TRY(ed_metric_psnr(w->env, w->reference, w->images, w->pairs, image_size(w), 2.0, NULL, &score));
    return ed_json_put_number(w->env, w->tree, "psnr", score);
}

static encdiff_status ssim(work *w)
{
    ed_json *settings;
    ed_ssim_options o;
    double score;
    size_t count = (size_t)w->pairs * (size_t)image_size(w);
    ed_ssim_defaults(&o);
    o.low = -1;
    o.high = 1;
    ED_TRY(settings_of(w, "ssim", &settings));
    ED_TRY(ed_json_int32(w->env, settings, "window", 1, 1023, &o.window));
    ED_TRY(ed_json_float(w->env, settings, "sigma", 1e-6, 1e6, &o.sigma));
    ED_TRY(ed_json_bool(w->env, settings, "published_axes", &o.published_axes));
    float *x = ed_alloc(w->env, count, sizeof *x), *y = ed_alloc(w->env, count, sizeof *y);
    encdiff_status status = x && y ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK) {
        ed_nhwc_to_nchw(w->reference, x, w->pairs, 3, w->height, w->width);
        ed_nhwc_to_nchw(w->images, y, w->pairs, 3, w->height, w->width);
        status = ed_metric_ssim(w->env, &w->run, x, y, w->pairs, 3, w->height, w->width, &o, NULL, &score);
    }
    if (status == ENCDIFF_OK) status = ed_json_put_number(w->env, w->tree, "ssim", score);
    ed_free(w->env, x);
    ed_free(w->env, y);
    return status;
}

/* ---------------------------------------------------------------- the table */

typedef enum needs { CODES, IMAGES } needs;

static const struct metric {
    const char *name;
    needs needs;
    bool asked_only; /* not part of "all": needs attributes instead of factors */
    encdiff_status (*run)(work *w);
} metrics[] = {
    {"factor_vae", CODES, false, factor_vae},
    {"beta_vae", CODES, false, beta_vae},
    {"dci", CODES, false, dci},
    {"mig", CODES, false, mig},
    {"modularity", CODES, false, modularity},
    {"explicitness", CODES, false, explicitness},
    {"sap", CODES, false, sap},
    {"irs", CODES, false, irs},
    {"tad", CODES, true, tad},
    {"mse", IMAGES, false, mse},
    {"psnr", IMAGES, false, psnr},
    {"ssim", IMAGES, false, ssim},
};

void encdiff_metrics_options_init(encdiff_metrics_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

int32_t encdiff_metric_count(void) { return (int32_t)ED_COUNT(metrics); }

const char *encdiff_metric_name(int32_t index)
{
    return index >= 0 && (size_t)index < ED_COUNT(metrics) ? metrics[index].name : NULL;
}

static const struct metric *find_metric(const char *name, size_t length)
{
    for (size_t i = 0; i < ED_COUNT(metrics); i++)
        if (strlen(metrics[i].name) == length && strncmp(metrics[i].name, name, length) == 0) return &metrics[i];
    return NULL;
}

/* Which metrics run: the named ones, or all that the inputs allow. */
static encdiff_status select_metrics(work *w, needs has, bool chosen[ED_COUNT(metrics)])
{
    const char *list = w->options.metrics;
    for (size_t i = 0; i < ED_COUNT(metrics); i++)
        chosen[i] = !list && metrics[i].needs == has && !metrics[i].asked_only;
    while (list && *list) {
        size_t length = strcspn(list, ",");
        const struct metric *m = find_metric(list, length);
        if (!m) return ed_fail(w->env, ENCDIFF_ERROR_NOT_FOUND, "there is no metric \"%.*s\"", (int)length, list);
        if (m->needs != has)
            return ed_fail(w->env, ENCDIFF_ERROR_UNSUPPORTED, "metric %s needs %s", m->name,
                           m->needs == IMAGES ? "images" : "codes");
        chosen[m - metrics] = true;
        list += length + (list[length] == ',');
    }
    return ENCDIFF_OK;
}

static encdiff_status run_metrics(work *w, needs has)
{
    bool chosen[ED_COUNT(metrics)];
    ED_TRY(select_metrics(w, has, chosen));
    for (size_t i = 0; i < ED_COUNT(metrics); i++) {
        if (!chosen[i]) continue;
        ED_TRY(ed_check_cancel(w->env));
        encdiff_status status = metrics[i].run(w);
        if (status != ENCDIFF_OK) return ed_fail_within(w->env, "%s", metrics[i].name);
    }
    return w->settings ? ed_json_check_known(w->env, w->settings) : ENCDIFF_OK;
}

/* ---------------------------------------------------------------- from the tree to scores */

static encdiff_status add_score(encdiff_scores *s, const char *name, double value)
{
    ed_env *env = &s->context->env;
    ED_TRY(ed_reserve(env, &s->names, &s->name_capacity, s->count + 1, sizeof *s->names));
    ED_TRY(ed_reserve(env, &s->values, &s->value_capacity, s->count + 1, sizeof *s->values));
    char *copy = ed_strdup(env, name);
    if (!copy) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    s->names[s->count] = copy;
    s->values[s->count++] = value;
    return ENCDIFF_OK;
}

/* Every number of the tree but settings and matrices. */
static encdiff_status flatten(encdiff_scores *s, const ed_json *node)
{
    char path[256];
    if (node->kind == ED_JSON_NUMBER) return add_score(s, ed_json_path(node, path), node->number);
    if (node->kind != ED_JSON_OBJECT || (node->key && strcmp(node->key, "settings") == 0)) return ENCDIFF_OK;
    for (size_t i = 0; i < node->count; i++) ED_TRY(flatten(s, node->items[i]));
    return ENCDIFF_OK;
}

/* JSON has no infinity (the PSNR of equal images): it is written as null. */
static void drop_infinities(ed_json *node)
{
    if (node->kind == ED_JSON_NUMBER && !isfinite(node->number)) node->kind = ED_JSON_NULL;
    for (size_t i = 0; i < node->count; i++) drop_infinities(node->items[i]);
}

static encdiff_status finish(work *w, encdiff_scores **out)
{
    ed_text text = {0};
    encdiff_scores *s = ed_alloc(w->env, 1, sizeof *s);
    if (!s) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    s->context = w->context;
    ed_context_retain(w->context);
    encdiff_status status = flatten(s, w->tree);
    drop_infinities(w->tree);
    if (status == ENCDIFF_OK) status = ed_json_print(w->env, w->tree, true, &text);
    s->json = text.data;
    if (status != ENCDIFF_OK)
        encdiff_scores_free(s);
    else
        *out = s;
    return status;
}

static encdiff_status begin(work *w, encdiff_context *context, const char *where,
                            const encdiff_metrics_options *options, encdiff_progress progress, void *user)
{
    *w = (work){.context = context, .env = &context->env, .progress = progress, .user = user};
    ED_TRY(ed_api_read_options(context, where, &w->options, sizeof w->options, options));
    const encdiff_metrics_options *o = &w->options;
    ED_REQUIRE(context, o->train_samples >= 0 && o->test_samples >= 0 && o->batch >= 0 && o->bins >= 0 &&
                            !isnan(o->prune_threshold));
    w->run = (ed_metric_run){.pool = context->team->pool, .seed = o->seed, .progress = forward_progress, .user = w};
    if (o->settings) ED_TRY(ed_json_parse(w->env, "settings", o->settings, strlen(o->settings), &w->settings));
    w->tree = ed_json_new(w->env, ED_JSON_OBJECT);
    return w->tree ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

static void end(work *w)
{
    ed_json_free(w->env, w->settings);
    ed_json_free(w->env, w->tree);
    ed_metric_samples_free(w->env, &w->train_samples);
    ed_metric_samples_free(w->env, &w->test_samples);
}

/* ---------------------------------------------------------------- codes */

/* Copies of at most `limit` samples drawn without replacement, or all. */
static encdiff_status draw_samples(work *w, const ed_representation *from, int64_t limit, ed_representation *out)
{
    size_t n = (size_t)ED_MIN(limit, from->n), size = (size_t)from->size, factors = (size_t)from->factor_count;
    float *codes = ed_alloc(w->env, n * size, sizeof *codes);
    int32_t *values = ed_alloc(w->env, n * factors, sizeof *values);
    *out = (ed_representation){codes, values, (int64_t)n, from->size,
                               from->factor_count}; /* freed at the end in any case */
    if (!codes || !values) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < n; i++) {
        size_t row = (size_t)ed_permute(w->run.seed, ED_RANDOM_METRIC, 0, i, (uint64_t)from->n);
        memcpy(codes + i * size, from->codes + row * size, size * sizeof *codes);
        memcpy(values + i * factors, from->factors + row * factors, factors * sizeof *values);
    }
    return ENCDIFF_OK;
}

static encdiff_status score_codes(work *w, const ed_representation *train, const ed_representation *test,
                                  encdiff_scores **out)
{
    int64_t train_count = w->options.train_samples ? w->options.train_samples : 10000;
    int64_t test_count = w->options.test_samples ? w->options.test_samples : 5000;
    w->train = train;
    w->test = test;
    if (test) {
        ED_TRY(ed_representation_check_pair(w->env, train, test));
        ED_TRY(draw_samples(w, train, train_count, &w->train_samples));
        ED_TRY(draw_samples(w, test, test_count, &w->test_samples));
    } else {
        ED_TRY(ed_representation_check(w->env, train, "codes"));
        ED_TRY(ed_metric_draw_split(w->env, w->run.seed, train, train_count, test_count, &w->train_samples,
                                    &w->test_samples));
    }
    ED_TRY(run_metrics(w, CODES));
    return finish(w, out);
}

/* The caller's codes; vectors become their first principal component, which *made holds. */
static encdiff_status take_codes(work *w, const char *what, const encdiff_codes *codes, ed_representation *out,
                                 float **made)
{
    if (!codes->codes || !codes->factors || codes->n < 1 || codes->size < 1 || codes->dim < 1 ||
        codes->factor_count < 1)
        return ed_fail(w->env, ENCDIFF_ERROR_SHAPE,
                       "%s: %lld samples of %d codes of %d numbers with %d factors cannot be scored", what,
                       (long long)codes->n, (int)codes->size, (int)codes->dim, (int)codes->factor_count);
    *out = (ed_representation){codes->codes, codes->factors, codes->n, codes->size, codes->factor_count};
    if (codes->dim == 1) return ENCDIFF_OK;
    *made = ed_alloc(w->env, (size_t)codes->n * (size_t)codes->size, sizeof **made);
    if (!*made) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    out->codes = *made;
    return ed_metric_reduce_tokens(w->env, &w->run, codes->codes, codes->n, codes->size, codes->dim, *made);
}

encdiff_status encdiff_metrics_from_codes(encdiff_context *context, const encdiff_codes *train,
                                          const encdiff_codes *test, const encdiff_metrics_options *options,
                                          encdiff_scores **scores, encdiff_progress progress, void *user)
{
    work w;
    ed_representation a = {0}, b = {0};
    float *made_a = NULL, *made_b = NULL;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, train && scores);
    *scores = NULL;
    encdiff_status status = begin(&w, context, __func__, options, progress, user);
    if (status == ENCDIFF_OK) status = take_codes(&w, "train", train, &a, &made_a);
    if (status == ENCDIFF_OK && test) status = take_codes(&w, "test", test, &b, &made_b);
    if (status == ENCDIFF_OK) status = score_codes(&w, &a, test ? &b : NULL, scores);
    ed_free(&context->env, made_a);
    ed_free(&context->env, made_b);
    end(&w);
    return ed_api_done(context, status);
}

/* ---------------------------------------------------------------- a model on a dataset */

#define ENCODE_BATCH 256

typedef struct table {
    float *codes, *pixels;
    int32_t *factors;
    int64_t *indices;
} table;

static void free_table(ed_env *env, table *t)
{
    ed_free(env, t->codes);
    ed_free(env, t->pixels);
    ed_free(env, t->factors);
    ed_free(env, t->indices);
}

static encdiff_status encode_batch(work *w, encdiff_model *m, ed_dataset *dataset, table *t,
                                   const ed_dataset_info *info, int64_t at, int64_t n)
{
    size_t size = (size_t)ed_model_config(m)->encoder.latent_unit;
    for (int64_t i = 0; i < n; i++) t->indices[i] = at + i;
    ED_TRY(ed_dataset_read_f32(w->env, dataset, n, t->indices, t->pixels));
    ED_TRY(ed_dataset_labels(w->env, dataset, n, t->indices, t->factors + (size_t)at * (size_t)info->factors));
    const float *input = t->pixels;
    return ed_infer_run(m->infer, ED_INFER_ENCODE, n, &input, (float *[]){t->codes + (size_t)at * size, NULL});
}

static encdiff_status encode_dataset(work *w, encdiff_model *m, ed_dataset *dataset, const ed_dataset_info *info,
                                     table *t)
{
    size_t n = (size_t)info->size, size = (size_t)ed_model_config(m)->encoder.latent_unit;
    size_t pixels = (size_t)info->height * (size_t)info->width * 3;
    t->codes = ed_alloc(w->env, n * size, sizeof *t->codes);
    t->factors = ed_alloc(w->env, n * (size_t)info->factors, sizeof *t->factors);
    t->pixels = ed_alloc(w->env, ENCODE_BATCH * pixels, sizeof *t->pixels);
    t->indices = ed_alloc(w->env, ENCODE_BATCH, sizeof *t->indices);
    if (!t->codes || !t->factors || !t->pixels || !t->indices) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_infer_use_ema(m->infer, ed_model_ema(m, ENCDIFF_DEFAULT));
    for (int64_t at = 0; at < info->size; at += ENCODE_BATCH) {
        int64_t count = ED_MIN(ENCODE_BATCH, info->size - at);
        ED_TRY(encode_batch(w, m, dataset, t, info, at, count));
        if (!forward_progress(w, "encoding", at + count, info->size))
            return ed_fail(w->env, ENCDIFF_CANCELLED, "stopped by the progress callback");
    }
    return ENCDIFF_OK;
}

static encdiff_status score_model(work *w, encdiff_model *m, encdiff_dataset *d, encdiff_scores **out)
{
    ed_dataset_info info;
    table t = {0};
    ed_dataset_get_info(d->dataset, &info);
    int side = ed_model_config(m)->image.resolution;
    if (info.height != side || info.width != side)
        return ed_fail(w->env, ENCDIFF_ERROR_SHAPE, "%s: images are %dx%d, the model's are %dx%d", info.name,
                       info.height, info.width, side, side);
    if (!info.factors) return ed_fail(w->env, ENCDIFF_ERROR_UNSUPPORTED, "%s: has no labels", info.name);
    encdiff_status status = encode_dataset(w, m, d->dataset, &info, &t);
    if (status == ENCDIFF_OK) {
        ed_representation all = {t.codes, t.factors, info.size, ed_model_config(m)->encoder.latent_unit, info.factors};
        status = score_codes(w, &all, NULL, out);
    }
    free_table(w->env, &t);
    return status;
}

encdiff_status encdiff_metrics_from_model(encdiff_model *model, encdiff_dataset *dataset,
                                          const encdiff_metrics_options *options, encdiff_scores **scores,
                                          encdiff_progress progress, void *user)
{
    work w;
    if (!model) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(model->context, dataset && dataset->context == model->context && scores);
    *scores = NULL;
    encdiff_status status = begin(&w, model->context, __func__, options, progress, user);
    if (status == ENCDIFF_OK) status = score_model(&w, model, dataset, scores);
    end(&w);
    return ed_api_done(model->context, status);
}

/* ---------------------------------------------------------------- images */

static encdiff_status take_pixels(work *w, const char *what, const encdiff_image_view *view, float **out)
{
    ED_TRY(ed_api_check_view(w->context, what, view));
    size_t count = (size_t)view->n * (size_t)view->height * (size_t)view->width * 3;
    *out = ed_alloc(w->env, count, sizeof **out);
    if (!*out) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_image_view target = *view;
    target.data = *out;
    target.format = ENCDIFF_IMAGE_F32_NHWC;
    ED_TRY(encdiff_image_convert(w->context, view, &target));
    return ed_api_check_finite(w->context, what, *out, count);
}

encdiff_status encdiff_metrics_from_images(encdiff_context *context, const encdiff_image_view *reference,
                                           const encdiff_image_view *images, const encdiff_metrics_options *options,
                                           encdiff_scores **scores, encdiff_progress progress, void *user)
{
    work w;
    float *x = NULL, *y = NULL;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, reference && images && scores);
    *scores = NULL;
    if (reference->n != images->n || reference->height != images->height || reference->width != images->width)
        return ed_fail(&context->env, ENCDIFF_ERROR_SHAPE, "%d images of %dx%d cannot be compared with %d of %dx%d",
                       (int)images->n, (int)images->height, (int)images->width, (int)reference->n,
                       (int)reference->height, (int)reference->width);
    encdiff_status status = begin(&w, context, __func__, options, progress, user);
    if (status == ENCDIFF_OK) status = take_pixels(&w, "reference", reference, &x);
    if (status == ENCDIFF_OK) status = take_pixels(&w, "images", images, &y);
    w.reference = x;
    w.images = y;
    w.pairs = images->n;
    w.height = images->height;
    w.width = images->width;
    if (status == ENCDIFF_OK) status = run_metrics(&w, IMAGES);
    if (status == ENCDIFF_OK) status = finish(&w, scores);
    ed_free(&context->env, x);
    ed_free(&context->env, y);
    end(&w);
    return ed_api_done(context, status);
}
