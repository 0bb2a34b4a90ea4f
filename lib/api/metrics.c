/* Metrics from arrays: what an evaluation draws, runs and repeats. */
#include <math.h>

#include "api/scoring.h"

void encdiff_metrics_options_init(encdiff_metrics_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

int32_t encdiff_metric_count(void) { return (int32_t)ed_metric_table_size; }

const char *encdiff_metric_name(int32_t index)
{
    return index >= 0 && (size_t)index < ed_metric_table_size ? ed_metric_table[index].name : NULL;
}

/* ---------------------------------------------------------------- one evaluation */

bool ed_scoring_progress(void *user, const char *activity, int64_t done, int64_t total)
{
    ed_scoring *s = user;
    encdiff_progress_info info = {.struct_size = sizeof info, .activity = activity, .done = done, .total = total};
    return !s->progress || s->progress(&info, s->user) == 0;
}

encdiff_status ed_scoring_time(ed_scoring *s, const char *part, double seconds)
{
    const ed_json *before = ed_json_find(s->timing, part);
    return ed_json_put_number(s->env, s->timing, part, seconds + (before ? before->number : 0));
}

/* Defaults as published. */
static void fill_defaults(encdiff_metrics_options *o)
{
    if (!o->train_samples) o->train_samples = 10000;
    if (!o->test_samples) o->test_samples = 5000;
    if (!o->batch) o->batch = 64;
    if (!o->bins) o->bins = 20;
    if (!o->repeats) o->repeats = 1;
    if (!(o->prune_threshold > 0 || o->prune_threshold < 0)) o->prune_threshold = 0.05;
}

encdiff_status ed_scoring_begin(ed_scoring *s, encdiff_context *context, const char *where,
                                const encdiff_metrics_options *options, encdiff_progress progress, void *user)
{
    *s = (ed_scoring){.context = context, .env = &context->env, .progress = progress, .user = user};
    ED_TRY(ed_api_read_options(context, where, &s->options, sizeof s->options, options));
    const encdiff_metrics_options *o = &s->options;
    ED_REQUIRE(context, o->train_samples >= 0 && o->test_samples >= 0 && o->batch >= 0 && o->bins >= 0 &&
                            !isnan(o->prune_threshold));
    ED_REQUIRE(context, o->repeats >= 0 && o->reconstructions >= 0 && o->sampler_steps >= 0);
    fill_defaults(&s->options);
    s->run = (ed_metric_run){.pool = context->team->pool, .progress = ed_scoring_progress, .user = s};
    if (o->settings) ED_TRY(ed_json_parse(s->env, "settings", o->settings, strlen(o->settings), &s->settings));
    s->used = ed_json_new(s->env, ED_JSON_OBJECT);
    s->timing = ed_json_new(s->env, ED_JSON_OBJECT);
    s->repeats = ed_alloc(s->env, (size_t)o->repeats, sizeof(ed_json *));
    return s->used && s->timing && s->repeats ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

static void forget_samples(ed_scoring *s)
{
    ed_metric_samples_free(s->env, &s->train_samples);
    ed_metric_samples_free(s->env, &s->test_samples);
}

void ed_scoring_end(ed_scoring *s)
{
    for (int32_t r = 0; r < s->done; r++) ed_json_free(s->env, s->repeats[r]);
    ed_free(s->env, s->repeats);
    ed_json_free(s->env, s->settings);
    ed_json_free(s->env, s->used);
    ed_json_free(s->env, s->timing);
    ed_json_free(s->env, s->tree);
    forget_samples(s);
}

/* ---------------------------------------------------------------- which metrics */

static const ed_metric_entry *find_metric(const char *name, size_t length)
{
    for (size_t i = 0; i < ed_metric_table_size; i++)
        if (strlen(ed_metric_table[i].name) == length && strncmp(ed_metric_table[i].name, name, length) == 0)
            return &ed_metric_table[i];
    return NULL;
}

encdiff_status ed_scoring_select(ed_scoring *s, bool chosen[ED_MAX_METRICS])
{
    const char *list = s->options.metrics;
    for (size_t i = 0; i < ed_metric_table_size; i++)
        chosen[i] = !list && (ed_metric_table[i].needs & s->has) && !ed_metric_table[i].asked_only;
    while (list && *list) {
        size_t length = strcspn(list, ",");
        const ed_metric_entry *m = find_metric(list, length);
        if (!m) return ed_fail(s->env, ENCDIFF_ERROR_NOT_FOUND, "there is no metric \"%.*s\"", (int)length, list);
        if (!(m->needs & s->has))
            return ed_fail(s->env, ENCDIFF_ERROR_UNSUPPORTED, "metric %s needs %s", m->name,
                           m->needs == ED_NEEDS_IMAGES ? "images" : "codes");
        chosen[m - ed_metric_table] = true;
        list += length + (list[length] == ',');
    }
    return ENCDIFF_OK;
}

bool ed_scoring_wants(const bool chosen[ED_MAX_METRICS], ed_needs needs)
{
    for (size_t i = 0; i < ed_metric_table_size; i++)
        if (chosen[i] && ed_metric_table[i].needs == needs) return true;
    return false;
}

/* ---------------------------------------------------------------- running them */

/* Copies of at most `limit` samples drawn without replacement, or all. */
static encdiff_status draw_samples(ed_scoring *s, const ed_representation *from, int64_t limit, ed_representation *out)
{
    size_t n = (size_t)ED_MIN(limit, from->n), size = (size_t)from->size, factors = (size_t)from->factor_count;
    float *codes = ed_alloc(s->env, n * size, sizeof *codes);
    int32_t *values = ed_alloc(s->env, n * factors, sizeof *values);
    *out = (ed_representation){codes, values, (int64_t)n, from->size,
                               from->factor_count}; /* freed at the end in any case */
    if (!codes || !values) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < n; i++) {
        size_t row = (size_t)ed_permute(s->run.seed, ED_RANDOM_METRIC, 0, i, (uint64_t)from->n);
        memcpy(codes + i * size, from->codes + row * size, size * sizeof *codes);
        memcpy(values + i * factors, from->factors + row * factors, factors * sizeof *values);
    }
    return ENCDIFF_OK;
}

static encdiff_status draw(ed_scoring *s)
{
    const encdiff_metrics_options *o = &s->options;
    if (!s->train) return ENCDIFF_OK;
    if (!s->test)
        return ed_metric_draw_split(s->env, s->run.seed, s->train, o->train_samples, o->test_samples, &s->train_samples,
                                    &s->test_samples);
    ED_TRY(draw_samples(s, s->train, o->train_samples, &s->train_samples));
    return draw_samples(s, s->test, o->test_samples, &s->test_samples);
}

/* The chosen metrics of one kind, into s->tree. */
static encdiff_status run_chosen(ed_scoring *s, const bool *chosen, ed_needs kind)
{
    for (size_t i = 0; i < ed_metric_table_size; i++) {
        const ed_metric_entry *m = &ed_metric_table[i];
        if (!chosen[i] || m->needs != kind) continue;
        double start = ed_now();
        ED_TRY(ed_check_cancel(s->env));
        if (m->run(s) != ENCDIFF_OK) return ed_fail_within(s->env, "%s", m->name);
        ED_TRY(ed_scoring_time(s, m->name, ed_now() - start));
    }
    return ENCDIFF_OK;
}

static encdiff_status run_repeat(ed_scoring *s, const bool *chosen, int32_t repeat)
{
    s->run.seed = s->options.seed + (uint64_t)repeat;
    s->tree = ed_json_new(s->env, ED_JSON_OBJECT);
    if (!s->tree) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    forget_samples(s);
    ED_TRY(draw(s));
    ED_TRY(run_chosen(s, chosen, ED_NEEDS_CODES));
    s->repeats[s->done++] = s->tree;
    s->tree = NULL;
    return ENCDIFF_OK;
}

/* Everything that the numbers depend on, in front of each metric's own settings. */
static encdiff_status put_settings(ed_scoring *s, ed_json *tree)
{
    const encdiff_metrics_options *o = &s->options;
    ed_json *settings;
    ED_TRY(ed_json_put_new(s->env, tree, "settings", ED_JSON_OBJECT, &settings));
    ED_TRY(ed_json_put_number(s->env, settings, "seed", (double)o->seed));
    ED_TRY(ed_json_put_number(s->env, settings, "repeats", o->repeats));
    if (s->train) {
        ED_TRY(ed_json_put_number(s->env, settings, "samples", (double)s->train->n));
        ED_TRY(ed_json_put_number(s->env, settings, "train_samples", (double)s->train_samples.n));
        ED_TRY(ed_json_put_number(s->env, settings, "test_samples", (double)s->test_samples.n));
    }
    if (s->sets[1].n) ED_TRY(ed_json_put_number(s->env, settings, "images", (double)s->sets[1].n));
    if (s->sets[0].n && s->sets[0].n != s->sets[1].n)
        ED_TRY(ed_json_put_number(s->env, settings, "references", (double)s->sets[0].n));
    return ed_json_merge(s->env, settings, s->used);
}

encdiff_status ed_scoring_run(ed_scoring *s, const ed_representation *train, const ed_representation *test,
                              encdiff_scores **out)
{
    bool chosen[ED_MAX_METRICS];
    s->train = train;
    s->test = test;
    if (train && test) ED_TRY(ed_representation_check_pair(s->env, train, test));
    if (train && !test) ED_TRY(ed_representation_check(s->env, train, "codes"));
    ED_TRY(ed_scoring_select(s, chosen));
    if (!ed_scoring_wants(chosen, ED_NEEDS_CODES)) s->options.repeats = 1; /* images draw nothing: nothing to repeat */
    for (int32_t r = 0; r < s->options.repeats; r++) ED_TRY(run_repeat(s, chosen, r));
    ED_TRY(ed_scores_average(s->env, s->repeats, s->done, &s->tree));
    ED_TRY(run_chosen(s, chosen, ED_NEEDS_IMAGES));
    if (s->settings) ED_TRY(ed_json_check_known(s->env, s->settings));
    ED_TRY(put_settings(s, s->tree));
    return ed_scores_create(s->context, s->tree, s->timing, out);
}

/* ---------------------------------------------------------------- codes */

/* The caller's codes; vectors become their first principal component, which *made holds. */
static encdiff_status take_codes(ed_scoring *s, const char *what, const encdiff_codes *codes, ed_representation *out,
                                 float **made)
{
    if (!codes->codes || !codes->factors || codes->n < 1 || codes->size < 1 || codes->dim < 1 ||
        codes->factor_count < 1)
        return ed_fail(s->env, ENCDIFF_ERROR_SHAPE,
                       "%s: %lld samples of %d codes of %d numbers with %d factors cannot be scored", what,
                       (long long)codes->n, (int)codes->size, (int)codes->dim, (int)codes->factor_count);
    *out = (ed_representation){codes->codes, codes->factors, codes->n, codes->size, codes->factor_count};
    if (codes->dim == 1) return ENCDIFF_OK;
    *made = ed_alloc(s->env, (size_t)codes->n * (size_t)codes->size, sizeof **made);
    if (!*made) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    out->codes = *made;
    return ed_metric_reduce_tokens(s->env, &s->run, codes->codes, codes->n, codes->size, codes->dim, *made);
}

encdiff_status encdiff_metrics_from_codes(encdiff_context *context, const encdiff_codes *train,
                                          const encdiff_codes *test, const encdiff_metrics_options *options,
                                          encdiff_scores **scores, encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    ed_scoring s;
    ed_representation a = {0}, b = {0};
    float *made_a = NULL, *made_b = NULL;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, train && scores);
    *scores = NULL;
    encdiff_status status = ed_scoring_begin(&s, context, __func__, options, progress, user);
    s.has = ED_NEEDS_CODES;
    if (status == ENCDIFF_OK) status = take_codes(&s, "train", train, &a, &made_a);
    if (status == ENCDIFF_OK && test) status = take_codes(&s, "test", test, &b, &made_b);
    if (status == ENCDIFF_OK) status = ed_scoring_run(&s, &a, test ? &b : NULL, scores);
    ed_free(&context->env, made_a);
    ed_free(&context->env, made_b);
    ed_scoring_end(&s);
    return ed_api_done(context, status);
}

/* ---------------------------------------------------------------- images */

static encdiff_status take_pixels(ed_scoring *s, const char *what, const encdiff_image_view *view, float **out)
{
    ED_TRY(ed_api_check_view(s->context, what, view));
    size_t count = (size_t)view->n * (size_t)view->height * (size_t)view->width * 3;
    *out = ed_alloc(s->env, count, sizeof **out);
    if (!*out) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_image_view target = *view;
    target.data = *out;
    target.format = ENCDIFF_IMAGE_F32_NHWC;
    ED_TRY(encdiff_image_convert(s->context, view, &target));
    return ed_api_check_finite(s->context, what, *out, count);
}

encdiff_status encdiff_metrics_from_images(encdiff_context *context, const encdiff_image_view *reference,
                                           const encdiff_image_view *images, const encdiff_metrics_options *options,
                                           encdiff_scores **scores, encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    ed_scoring s;
    float *x = NULL, *y = NULL;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, reference && images && scores);
    *scores = NULL;
    if (reference->n != images->n || reference->height != images->height || reference->width != images->width)
        return ed_fail(&context->env, ENCDIFF_ERROR_SHAPE, "%d images of %dx%d cannot be compared with %d of %dx%d",
                       (int)images->n, (int)images->height, (int)images->width, (int)reference->n,
                       (int)reference->height, (int)reference->width);
    encdiff_status status = ed_scoring_begin(&s, context, __func__, options, progress, user);
    if (status == ENCDIFF_OK) status = take_pixels(&s, "reference", reference, &x);
    if (status == ENCDIFF_OK) status = take_pixels(&s, "images", images, &y);
    s.sets[0] = s.sets[1] = (ed_image_set){NULL, NULL, images->n, images->height, images->width};
    s.sets[0].pixels = x;
    s.sets[1].pixels = y;
    s.has = ED_NEEDS_IMAGES;
    if (status == ENCDIFF_OK) status = ed_scoring_run(&s, NULL, NULL, scores);
    ed_free(&context->env, x);
    ed_free(&context->env, y);
    ed_scoring_end(&s);
    return ed_api_done(context, status);
}

static ed_image_set take_dataset(const encdiff_dataset *dataset)
{
    ed_dataset_info info;
    if (!dataset) return (ed_image_set){.n = 0};
    ed_dataset_get_info(dataset->dataset, &info);
    return (ed_image_set){NULL, dataset->dataset, info.size, info.height, info.width};
}

encdiff_status encdiff_metrics_from_image_sets(encdiff_context *context, encdiff_dataset *reference,
                                               encdiff_dataset *images, const encdiff_metrics_options *options,
                                               encdiff_scores **scores, encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    ed_scoring s;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, images && scores);
    ED_REQUIRE(context, images->context == context && (!reference || reference->context == context));
    *scores = NULL;
    encdiff_status status = ed_scoring_begin(&s, context, __func__, options, progress, user);
    s.sets[0] = take_dataset(reference);
    s.sets[1] = take_dataset(images);
    s.has = ED_NEEDS_IMAGES;
    if (status == ENCDIFF_OK) status = ed_scoring_run(&s, NULL, NULL, scores);
    ed_scoring_end(&s);
    return ed_api_done(context, status);
}

/* ---------------------------------------------------------------- for pictures */

encdiff_status encdiff_metrics_principal_components(encdiff_context *context, const float *vectors, int64_t n,
                                                    int32_t dim, int32_t count, float *components)
{
    ED_API_BEGIN;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, vectors && components);
    ed_metric_run run = {.pool = context->team->pool};
    return ed_api_done(context,
                       ed_metric_principal_components(&context->env, &run, vectors, n, dim, count, components));
}
