/*
 * A model on a dataset: the set is encoded once, shard by shard, and its codes are scored; some of its images are
 * sampled back from their tokens where a metric compares images.
 */
#include "api/scoring.h"

#define SHARD 256          /* images that are read and encoded together */
#define RECONSTRUCTIONS 64 /* by default, where a metric looks at images */
#define SAMPLED 32         /* images sampled together */
#define SAMPLER_STEPS 50

typedef struct source {
    ed_scoring *scoring;
    encdiff_model *model;
    ed_dataset *dataset;
    ed_dataset_info info;
    size_t size, dim; /* of a code */
    float *codes, *pixels;
    int32_t *factors;
    int64_t *indices;
    float *references, *sampled, *tokens; /* of reconstructions */
} source;

static void free_source(ed_env *env, source *d)
{
    ed_free(env, d->codes);
    ed_free(env, d->pixels);
    ed_free(env, d->factors);
    ed_free(env, d->indices);
    ed_free(env, d->references);
    ed_free(env, d->sampled);
    ed_free(env, d->tokens);
}

static size_t pixels_of(const source *d) { return (size_t)d->info.height * (size_t)d->info.width * 3; }

/* ---------------------------------------------------------------- reading */

typedef struct reading {
    source *source;
    int64_t n;
    float *to;
} reading;

static encdiff_status read_rank(ed_env *env, void *argument, int rank)
{
    const reading *r = argument;
    int64_t first, last;
    ed_shard(r->n, r->source->scoring->context->team->ranks, rank, &first, &last);
    if (first == last) return ENCDIFF_OK;
    return ed_dataset_read_f32(env, r->source->dataset, last - first, r->source->indices + first,
                               r->to + (size_t)first * pixels_of(r->source));
}

/* The n images of d->indices; all threads render, decode or decompress their share. */
static encdiff_status read_images(source *d, int64_t n, float *to)
{
    reading r = {d, n, to};
    return ed_team_run(d->scoring->context->team, d->scoring->context->team->ranks, read_rank, &r);
}

/* ---------------------------------------------------------------- labels */

static encdiff_status read_labels(source *d)
{
    ed_env *env = d->scoring->env;
    size_t factors = (size_t)d->info.factors;
    d->factors = ed_alloc(env, (size_t)d->info.size * factors, sizeof *d->factors);
    if (!d->factors) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int64_t at = 0; at < d->info.size; at += SHARD) {
        int64_t n = ED_MIN(SHARD, d->info.size - at);
        for (int64_t i = 0; i < n; i++) d->indices[i] = at + i;
        ED_TRY(ed_check_cancel(env));
        ED_TRY(ed_dataset_labels(env, d->dataset, n, d->indices, d->factors + (size_t)at * factors));
    }
    return ENCDIFF_OK;
}

static bool is_varied(const source *d, int32_t factor)
{
    const int32_t *value = d->factors + factor;
    for (int64_t i = 1; i < d->info.size; i++)
        if (value[i * d->info.factors] != value[0]) return true;
    return false;
}

/* Said before hours of encoding; samples that are drawn from the set are looked at again by the metrics. */
static encdiff_status check_varied(const source *d, const bool chosen[ED_MAX_METRICS])
{
    const char *metric = NULL;
    for (size_t i = 0; i < ed_metric_table_size && !metric; i++)
        if (chosen[i] && ed_metric_table[i].varied) metric = ed_metric_table[i].name;
    for (int32_t f = 0; metric && f < d->info.factors; f++)
        if (!is_varied(d, f))
            return ed_fail(d->scoring->env, ENCDIFF_ERROR_SHAPE,
                           "%s: factor %d has one value alone in these images, so %s can learn nothing of it; take "
                           "images that vary it, or other metrics",
                           d->info.name, f, metric);
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- encoding */

static encdiff_status encode_shard(source *d, int64_t at, int64_t n)
{
    size_t item = d->size * d->dim;
    for (int64_t i = 0; i < n; i++) d->indices[i] = at + i;
    ED_TRY(read_images(d, n, d->pixels));
    const float *input = d->pixels;
    float *to = d->codes + (size_t)at * item;
    return ed_infer_run(d->model->infer, ED_INFER_ENCODE, n, &input,
                        (float *[]){d->dim == 1 ? to : NULL, d->dim == 1 ? NULL : to});
}

static encdiff_status encode(source *d)
{
    ed_scoring *s = d->scoring;
    size_t n = (size_t)d->info.size;
    double start = ed_now();
    d->codes = ed_alloc(s->env, n, d->size * d->dim * sizeof *d->codes);
    d->pixels = ed_alloc(s->env, SHARD * pixels_of(d), sizeof *d->pixels);
    if (!d->codes || !d->pixels) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int64_t at = 0; at < d->info.size; at += SHARD) {
        int64_t count = ED_MIN(SHARD, d->info.size - at);
        ED_TRY(encode_shard(d, at, count));
        if (!ed_scoring_progress(s, "encoding", at + count, d->info.size))
            return ed_fail(s->env, ENCDIFF_CANCELLED, "stopped by the progress callback");
    }
    return ed_scoring_time(s, "encoding", ed_now() - start);
}

/* Each token becomes its first principal component over the whole set, in place of the vectors. */
static encdiff_status reduce(source *d)
{
    ed_scoring *s = d->scoring;
    double start = ed_now();
    if (d->dim == 1) return ENCDIFF_OK;
    float *codes = ed_alloc(s->env, (size_t)d->info.size * d->size, sizeof *codes);
    if (!codes) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_metric_reduce_tokens(s->env, &s->run, d->codes, d->info.size, (int32_t)d->size,
                                                    (int32_t)d->dim, codes);
    ed_free(s->env, d->codes);
    d->codes = codes;
    return status == ENCDIFF_OK ? ed_scoring_time(s, "principal components", ed_now() - start) : status;
}

/* ---------------------------------------------------------------- reconstructions */

typedef struct sampling {
    ed_scoring *scoring;
    int64_t first, total;
} sampling;

static int report_sampling(void *user, int done, int total, int n, const float *preview)
{
    const sampling *g = user;
    (void)preview;
    return !ed_scoring_progress(g->scoring, "reconstructing", g->first * total + (int64_t)done * n, g->total * total);
}

static encdiff_status sample_some(source *d, ed_generator *generator, int64_t first, int64_t n, int64_t total)
{
    const float *images = d->references + (size_t)first * pixels_of(d);
    sampling g = {d->scoring, first, total};
    ED_TRY(ed_infer_run(d->model->infer, ED_INFER_ENCODE, n, &images, (float *[]){NULL, d->tokens}));
    ed_generate_args args = {.n = (int)n,
                             .first_image = (uint64_t)first,
                             .tokens = d->tokens,
                             .images = d->sampled + (size_t)first * pixels_of(d),
                             .progress = report_sampling,
                             .user = &g};
    return ed_generate(generator, &args);
}

static encdiff_status sample_all(source *d, int64_t n)
{
    ed_scoring *s = d->scoring;
    const ed_config *c = ed_model_config(d->model);
    ed_generator *generator;
    ed_generator_options options = {
        .sampler = {.method = ED_SAMPLER_DDIM, .steps = s->options.sampler_steps, .eta = 0, .seed = s->options.seed},
        .quantize_latents = true,
        .use_ema = ed_model_ema(d->model, ENCDIFF_DEFAULT)};
    d->references = ed_alloc(s->env, (size_t)n, pixels_of(d) * sizeof(float));
    d->sampled = ed_alloc(s->env, (size_t)n, pixels_of(d) * sizeof(float));
    d->tokens = ed_alloc(s->env, SAMPLED * (size_t)c->encoder.latent_unit,
                         (size_t)c->encoder.context_dim * sizeof(float));
    if (!d->references || !d->sampled || !d->tokens) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int64_t at = 0; at < n; at += SHARD) {
        int64_t count = ED_MIN(SHARD, n - at);
        for (int64_t i = 0; i < count; i++)
            d->indices[i] = (int64_t)ed_permute(s->options.seed, ED_RANDOM_METRIC, 1, (uint64_t)(at + i),
                                                (uint64_t)d->info.size);
        ED_TRY(read_images(d, count, d->references + (size_t)at * pixels_of(d)));
    }
    ED_TRY(ed_generator_create(d->model->infer, s->context->team, ed_model_networks(d->model), &options, &generator));
    encdiff_status status = ENCDIFF_OK;
    for (int64_t at = 0; at < n && status == ENCDIFF_OK; at += SAMPLED)
        status = sample_some(d, generator, at, ED_MIN(SAMPLED, n - at), n);
    ed_generator_free(generator);
    return status;
}

/* Images of the set, drawn by the seed, and what deterministic DDIM makes of their tokens. */
static encdiff_status reconstruct(source *d)
{
    ed_scoring *s = d->scoring;
    ed_json *used;
    double start = ed_now();
    int64_t n = ED_MIN(s->options.reconstructions ? s->options.reconstructions : RECONSTRUCTIONS, d->info.size);
    if (!s->options.sampler_steps) s->options.sampler_steps = SAMPLER_STEPS;
    ED_TRY(sample_all(d, n));
    s->sets[0] = s->sets[1] = (ed_image_set){NULL, NULL, n, d->info.height, d->info.width};
    s->sets[0].pixels = d->references;
    s->sets[1].pixels = d->sampled;
    ED_TRY(ed_json_put_new(s->env, s->used, "reconstruction", ED_JSON_OBJECT, &used));
    ED_TRY(ed_json_put_string(s->env, used, "sampler", "ddim"));
    ED_TRY(ed_json_put_number(s->env, used, "steps", s->options.sampler_steps));
    ED_TRY(ed_json_put_number(s->env, used, "eta", 0));
    return ed_scoring_time(s, "reconstructing", ed_now() - start);
}

/* ---------------------------------------------------------------- both */

static encdiff_status check_source(const source *d, const bool chosen[ED_MAX_METRICS])
{
    ed_env *env = d->scoring->env;
    int side = ed_model_config(d->model)->image.resolution;
    if (d->info.height != side || d->info.width != side)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%s: images are %dx%d, the model's are %dx%d", d->info.name,
                       d->info.height, d->info.width, side, side);
    if (ed_scoring_wants(chosen, ED_NEEDS_CODES) && !d->info.factors)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: has no labels", d->info.name);
    return ENCDIFF_OK;
}

static encdiff_status note_model(const source *d)
{
    ed_scoring *s = d->scoring;
    ED_TRY(ed_json_put_string(s->env, s->used, "weights", ed_model_ema(d->model, ENCDIFF_DEFAULT) ? "ema" : "raw"));
    return ed_json_put_string(s->env, s->used, "codes",
                              d->dim == 1 ? "scalars" : "first principal component of a token");
}

static encdiff_status score_source(source *d, encdiff_scores **out)
{
    bool chosen[ED_MAX_METRICS];
    ed_scoring *s = d->scoring;
    const ed_config *c = ed_model_config(d->model);
    s->has = ED_NEEDS_CODES | (s->options.metrics || s->options.reconstructions ? ED_NEEDS_IMAGES : 0);
    ED_TRY(ed_scoring_select(s, chosen));
    ED_TRY(check_source(d, chosen));
    d->size = (size_t)c->encoder.latent_unit;
    d->dim = s->options.vector_tokens == ENCDIFF_ON ? (size_t)c->encoder.context_dim : 1;
    d->indices = ed_alloc(s->env, SHARD, sizeof *d->indices);
    if (!d->indices) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (ed_scoring_wants(chosen, ED_NEEDS_CODES)) {
        ED_TRY(read_labels(d));
        ED_TRY(check_varied(d, chosen));
    }
    ed_infer_use_ema(d->model->infer, ed_model_ema(d->model, ENCDIFF_DEFAULT));
    ED_TRY(note_model(d));
    if (ed_scoring_wants(chosen, ED_NEEDS_IMAGES)) ED_TRY(reconstruct(d));
    if (!ed_scoring_wants(chosen, ED_NEEDS_CODES)) return ed_scoring_run(s, NULL, NULL, out);
    ED_TRY(encode(d));
    ED_TRY(reduce(d));
    ed_representation all = {d->codes, d->factors, d->info.size, (int32_t)d->size, d->info.factors};
    return ed_scoring_run(s, &all, NULL, out);
}

encdiff_status encdiff_metrics_from_model(encdiff_model *model, encdiff_dataset *dataset,
                                          const encdiff_metrics_options *options, encdiff_scores **scores,
                                          encdiff_progress progress, void *user)
{
    ED_API_BEGIN;
    ed_scoring s;
    if (!model) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(model->context, dataset && dataset->context == model->context && scores);
    *scores = NULL;
    encdiff_status status = ed_scoring_begin(&s, model->context, __func__, options, progress, user);
    source d = {.scoring = &s, .model = model, .dataset = dataset->dataset};
    ed_dataset_get_info(d.dataset, &d.info);
    if (status == ENCDIFF_OK) status = score_source(&d, scores);
    free_source(s.env, &d);
    ed_scoring_end(&s);
    return ed_api_done(model->context, status);
}
