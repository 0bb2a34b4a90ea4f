/* One stage of training: what surrounds the losses and gradients of a batch. */
#include <math.h>

#include "model/place.h"
#include "train/trainer.h"

#define RATE_MEMORY 0.9 /* of the running mean of images per second */

static bool is_encdiff(const ed_trainer *t) { return t->options.stage == ED_STAGE_ENCDIFF; }

static size_t latent_floats(const ed_config *c, bool moments)
{
    size_t z = (size_t)ed_config_latent_size(c), channels = (size_t)ed_config_latent_channels(c);
    return z * z * channels * (moments && c->autoencoder.kind == ED_AE_KL ? 2 : 1);
}

/* ---------------------------------------------------------------- life */

/* A moving average that starts as the values are now. */
static encdiff_status start_average(ed_env *env, const ed_params *params, float **ema)
{
    if (*ema) return ENCDIFF_OK;
    *ema = ed_alloc_raw(env, ED_MAX(params->total, 1) * sizeof(float));
    if (!*ema) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    memcpy(*ema, params->values, params->total * sizeof(float));
    return ENCDIFF_OK;
}

static encdiff_status guard(ed_trainer *t, ed_params *params, float *live, size_t count)
{
    ed_backend *b = t->team->backend;
    float *copy = b->allocate(b, t->env, ED_MAX(count, 1) * sizeof *copy);
    if (!copy) return t->env->status;
    t->guarded[t->guarded_count++] = (ed_guarded){params, live, copy, count};
    return ENCDIFF_OK;
}

static encdiff_status create_encdiff(ed_trainer *t)
{
    ed_networks *n = t->networks;
    const ed_config *c = &n->config;
    ed_params *params[] = {&n->sets[ED_SET_UNET], &n->sets[ED_SET_ENCODER]};
    if (t->options.ema) {
        ED_TRY(start_average(t->env, params[0], &n->averages[ED_SET_UNET]));
        if (c->train_encdiff.ema_scope == ED_EMA_ALL)
            ED_TRY(start_average(t->env, params[1], &n->averages[ED_SET_ENCODER]));
    }
    float *ema[] = {t->options.ema ? n->averages[ED_SET_UNET] : NULL,
                    t->options.ema ? n->averages[ED_SET_ENCODER] : NULL};
    ED_TRY(ed_schedule_from_config(t->env, c, &t->schedule));
    if (t->options.cache_latents && t->dataset) {
        ed_dataset_info info;
        ed_dataset_get_info(t->dataset, &info);
        ED_TRY(ed_latent_cache_create(t->env, info.size, latent_floats(c, true), &t->cache));
    }
    ED_TRY(ed_optimizer_create(t->team, 2, params, ema, &t->optimizer));
    return guard(t, params[1], NULL, params[1]->total); /* the running statistics are in it */
}

static encdiff_status create_autoencoder(ed_trainer *t)
{
    ed_networks *n = t->networks;
    ed_params *params[] = {&n->sets[ED_SET_FIRST_STAGE], &n->sets[ED_SET_DISCRIMINATOR]};
    if (n->config.autoencoder.kind != ED_AE_VQ && n->config.autoencoder.kind != ED_AE_KL)
        return ed_fail(t->env, ENCDIFF_ERROR_UNSUPPORTED,
                       "the autoencoder stage has nothing to train: autoencoder.kind has no parameters");
    ED_TRY(ed_optimizer_create(t->team, 1, &params[0], NULL, &t->optimizer));
    ED_TRY(guard(t, params[0], NULL, params[0]->total));
    ED_TRY(guard(t, NULL, t->optimizer->sets[0].m, params[0]->total));
    ED_TRY(guard(t, NULL, t->optimizer->sets[0].v, params[0]->total));
    if (!n->config.train_autoencoder.discriminator) return ENCDIFF_OK;
    ED_TRY(ed_optimizer_create(t->team, 1, &params[1], NULL, &t->discriminator));
    return guard(t, params[1], NULL, params[1]->total);
}

static encdiff_status check_dataset(ed_trainer *t)
{
    ed_dataset_info info;
    ed_dataset_get_info(t->dataset, &info);
    int side = t->networks->config.image.resolution;
    if (info.height != side || info.width != side)
        return ed_fail(t->env, ENCDIFF_ERROR_SHAPE, "%s: images are %dx%d, the model's are %dx%d", info.name,
                       info.height, info.width, side, side);
    if (info.size < t->options.batch)
        return ed_fail(t->env, ENCDIFF_ERROR_SHAPE, "%s: %lld images are fewer than a batch of %lld", info.name,
                       (long long)info.size, (long long)t->options.batch);
    return ENCDIFF_OK;
}

static encdiff_status create(ed_trainer *t, ed_dataset *dataset)
{
    if (t->options.batch < 1)
        return ed_fail(t->env, ENCDIFF_ERROR_ARGUMENT, "a batch of %lld images", (long long)t->options.batch);
    if (dataset) {
        t->dataset = ed_dataset_retain(dataset);
        ED_TRY(check_dataset(t));
    }
    if (t->options.output) {
        t->output = ed_strdup(t->env, t->options.output);
        if (!t->output) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        t->options.output = t->output;
        ED_TRY(ed_make_directories(t->env, t->output));
    }
    ED_TRY(ed_networks_fetch(t->team, t->networks));
    return is_encdiff(t) ? create_encdiff(t) : create_autoencoder(t);
}

encdiff_status ed_trainer_create(ed_team *team, ed_networks *networks, ed_infer *infer, ed_dataset *dataset,
                                 const ed_trainer_options *options, ed_trainer **out)
{
    *out = NULL;
    ed_trainer *t = ed_alloc(team->env, 1, sizeof *t);
    if (!t) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *t = (ed_trainer){.env = team->env, .team = team, .networks = networks, .infer = infer, .options = *options};
    t->report.losses = (ed_losses){.count = 1, .names = {"loss"}, .values = {NAN}, .bad_image = -1};
    encdiff_status status = create(t, dataset);
    if (status != ENCDIFF_OK)
        ed_trainer_free(t);
    else
        *out = t;
    return status;
}

void ed_trainer_free(ed_trainer *t)
{
    if (!t) return;
    if (ed_networks_fetch(t->team, t->networks) != ENCDIFF_OK)
        ed_log(t->env, ED_LOG_ERROR, "what was trained since it was last saved is lost: %s", t->env->message);
    ed_train_log_close(t->env, t->log);
    ed_loader_free(t->env, t->loader);
    ed_stage_encdiff_free(t->encdiff);
    ed_stage_autoencoder_free(t->autoencoder);
    ed_optimizer_free(t->discriminator);
    ed_optimizer_free(t->optimizer);
    ed_backend *b = t->team->backend;
    for (int i = 0; i < t->guarded_count; i++) b->release(b, t->env, t->guarded[i].copy);
    ed_latent_cache_free(t->env, t->cache);
    ed_schedule_free(t->env, &t->schedule);
    ed_free(t->env, t->images);
    ed_free(t->env, t->latents);
    ed_free(t->env, t->noise);
    ed_free(t->env, t->timesteps);
    ed_free(t->env, t->output);
    ed_dataset_free(t->env, t->dataset);
    ed_free(t->env, t);
}

/* ---------------------------------------------------------------- batches */

static encdiff_status reserve(ed_trainer *t, int64_t n)
{
    const ed_config *c = &t->networks->config;
    size_t count = (size_t)n, side = (size_t)c->image.resolution;
    if (count <= t->capacity) return ENCDIFF_OK;
    ed_free(t->env, t->images);
    ed_free(t->env, t->latents);
    ed_free(t->env, t->noise);
    ed_free(t->env, t->timesteps);
    t->images = ed_alloc(t->env, count * side * side * 3, sizeof(float));
    t->latents = ed_alloc(t->env, count * latent_floats(c, true), sizeof(float));
    t->noise = ed_alloc(t->env, count * latent_floats(c, false), sizeof(float));
    t->timesteps = ed_alloc(t->env, count, sizeof *t->timesteps);
    t->capacity = t->images && t->latents && t->noise && t->timesteps ? count : 0;
    return t->capacity ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

/* The stage's graphs for batches of n images; they are rebuilt only when n changes. */
static encdiff_status prepare_stage(ed_trainer *t, int64_t n)
{
    if (t->stage_batch == n) return ENCDIFF_OK;
    ed_stage_encdiff_free(t->encdiff);
    ed_stage_autoencoder_free(t->autoencoder);
    t->encdiff = NULL;
    t->autoencoder = NULL;
    t->stage_batch = 0;
    if (is_encdiff(t))
        ED_TRY(ed_stage_encdiff_create(t->team, t->networks, t->optimizer, n, &t->schedule, &t->encdiff));
    else
        ED_TRY(ed_stage_autoencoder_create(t->team, t->networks, t->optimizer, t->discriminator, n, &t->autoencoder));
    t->stage_batch = n;
    return ENCDIFF_OK;
}

typedef struct draw {
    ed_trainer *trainer;
    int64_t n;
    bool timesteps, noise;
} draw;

/* Random numbers of a batch are a function of the seed, the batch's number and the image's place in it. */
static encdiff_status draw_rank(ed_env *env, void *argument, int rank)
{
    (void)env;
    draw *d = argument;
    ed_trainer *t = d->trainer;
    const ed_config *c = &t->networks->config;
    size_t item = latent_floats(c, false);
    ed_purpose purpose = is_encdiff(t) ? ED_RANDOM_NOISE : ED_RANDOM_POSTERIOR;
    int64_t first, last;
    ed_shard(d->n, t->team->ranks, rank, &first, &last);
    for (int64_t i = first; i < last && d->timesteps; i++)
        t->timesteps[i] = (int32_t)ed_below(t->options.seed, ED_RANDOM_TIMESTEP, (uint64_t)t->batches, (uint64_t)i,
                                            (uint32_t)c->diffusion.timesteps);
    if (d->noise && last > first)
        ed_fill_normal(t->options.seed, purpose, (uint64_t)t->batches, (uint64_t)first * item,
                       (size_t)(last - first) * item, t->noise + (size_t)first * item);
    return ENCDIFF_OK;
}

static encdiff_status draw_random(ed_trainer *t, int64_t n, bool timesteps, bool noise)
{
    draw d = {t, n, timesteps, noise};
    return ed_team_run(t->team, t->team->ranks, draw_rank, &d);
}

static encdiff_status open_loader(ed_trainer *t)
{
    if (t->loader) return ENCDIFF_OK;
    if (!t->dataset) return ed_fail(t->env, ENCDIFF_ERROR_STATE, "the trainer has no dataset");
    ed_loader_options options = {
        .batch = (int)t->options.batch, .seed = t->options.seed, .cursor = t->samples, .floats = true};
    return ed_loader_create(t->env, t->dataset, &options, &t->loader);
}

/* Images, and with them the numbers that the stage draws. indices: of the images in the dataset, or NULL. */
static encdiff_status next_batch(ed_trainer *t, const int64_t **indices)
{
    int64_t n = t->options.batch;
    ed_dataset_info info;
    ed_batch batch;
    ED_TRY(open_loader(t));
    ED_TRY(ed_loader_next(t->env, t->loader, &batch));
    ED_TRY(reserve(t, n));
    ed_dataset_get_info(t->dataset, &info);
    size_t side = (size_t)t->networks->config.image.resolution;
    memcpy(t->images, batch.floats, (size_t)n * side * side * 3 * sizeof(float));
    t->report.wait_seconds += batch.waited;
    t->report.epoch = (int64_t)((batch.cursor - 1) / (uint64_t)info.size);
    t->samples = batch.cursor;
    *indices = batch.indices;
    return draw_random(t, n, is_encdiff(t), true);
}

static encdiff_status given_batch(ed_trainer *t, const ed_given *g)
{
    size_t side = (size_t)t->networks->config.image.resolution, n = (size_t)g->n;
    ED_TRY(reserve(t, g->n));
    memcpy(t->images, g->images, n * side * side * 3 * sizeof(float));
    if (g->timesteps) memcpy(t->timesteps, g->timesteps, n * sizeof *t->timesteps);
    if (g->noise) memcpy(t->noise, g->noise, n * latent_floats(&t->networks->config, false) * sizeof(float));
    return draw_random(t, g->n, is_encdiff(t) && !g->timesteps, !g->noise);
}

/* ---------------------------------------------------------------- losses */

static encdiff_status check_finite(ed_trainer *t, const ed_losses *losses, int64_t n)
{
    for (int i = 0; i < losses->count; i++) {
        if (isfinite(losses->values[i]) && losses->bad_image < 0) continue;
        ed_fail(t->env, ENCDIFF_ERROR_NUMERIC, "step %lld: the term \"%s\" is %g", (long long)t->step + 1,
                losses->names[i], losses->values[i]);
        if (losses->bad_image < 0) return ENCDIFF_ERROR_NUMERIC;
        if (is_encdiff(t))
            return ed_fail(t->env, ENCDIFF_ERROR_NUMERIC,
                           "step %lld: the loss of image %lld of %lld, timestep %d, is not finite",
                           (long long)t->step + 1, (long long)losses->bad_image, (long long)n,
                           (int)t->timesteps[losses->bad_image]);
        return ed_fail(t->env, ENCDIFF_ERROR_NUMERIC, "step %lld: the loss of image %lld of %lld is not finite",
                       (long long)t->step + 1, (long long)losses->bad_image, (long long)n);
    }
    return ENCDIFF_OK;
}

static void append(ed_losses *to, const ed_losses *from)
{
    for (int i = 0; i < from->count && to->count < ED_MAX_TERMS; i++) {
        to->names[to->count] = from->names[i];
        to->values[to->count++] = from->values[i];
    }
}

static encdiff_status accumulate_encdiff(ed_trainer *t, int64_t n, const int64_t *indices, ed_losses *losses)
{
    ED_TRY(ed_trainer_latents(t, n, indices));
    ed_encdiff_batch batch = {.n = n,
                              .images = t->images,
                              .latents = t->latents,
                              .timesteps = t->timesteps,
                              .noise = t->noise,
                              .seed = t->options.seed,
                              .step = (uint64_t)t->batches,
                              .weight = (float)(1.0 / (double)n)};
    ED_TRY(ed_stage_encdiff_run(t->encdiff, &batch, losses));
    return check_finite(t, losses, n);
}

static ed_update autoencoder_update(const ed_trainer *t)
{
    const ed_config *c = &t->networks->config;
    return (ed_update){.lr = ed_trainer_learning_rate(t),
                       .beta1 = c->train_autoencoder.beta1,
                       .beta2 = c->train_autoencoder.beta2,
                       .eps = 1e-8,
                       .grad_scale = 1.0 / c->train_autoencoder.accumulate_grad_batches,
                       .grad_clip = c->train_autoencoder.grad_clip};
}

/* The autoencoder's gradients and, at the last of the accumulated batches, its update; then the discriminator's. */
static encdiff_status accumulate_autoencoder(ed_trainer *t, int64_t n, bool last, ed_losses *losses)
{
    const ed_config *c = &t->networks->config;
    bool adversarial = t->discriminator && t->step >= c->train_autoencoder.disc_start;
    ed_autoencoder_batch batch = {.n = n, .images = t->images, .noise = t->noise, .adversarial = adversarial};
    ed_update update = autoencoder_update(t);
    ED_TRY(ed_stage_autoencoder_generator(t->autoencoder, &batch, losses));
    ED_TRY(check_finite(t, losses, n));
    if (last) ED_TRY(ed_optimizer_step(t->optimizer, &update));
    if (!adversarial) return ENCDIFF_OK;
    ed_losses critic;
    ED_TRY(ed_stage_autoencoder_discriminator(t->autoencoder, &batch, &critic));
    ED_TRY(check_finite(t, &critic, n));
    append(losses, &critic);
    return last ? ed_optimizer_step(t->discriminator, &update) : ENCDIFF_OK;
}

/* ---------------------------------------------------------------- steps */

double ed_trainer_learning_rate(const ed_trainer *t)
{
    const ed_config *c = &t->networks->config;
    double rate = t->options.learning_rate;
    if (!is_encdiff(t)) {
        if (!c->train_autoencoder.scale_lr) return rate;
        return rate * (double)t->options.batch * c->train_autoencoder.accumulate_grad_batches;
    }
    double warm_up = (double)c->train_encdiff.warm_up_steps, from = c->train_encdiff.f_start;
    if ((double)t->step >= warm_up) return rate;
    return rate * (from + (1 - from) * (double)t->step / warm_up);
}

static encdiff_status update_encdiff(ed_trainer *t)
{
    const ed_config *c = &t->networks->config;
    double n = (double)(t->optimizer->updates + 1), decay = c->train_encdiff.ema_decay;
    if (c->train_encdiff.ema_warm_up) decay = fmin(decay, (1 + n) / (10 + n));
    ed_update update = {.lr = ed_trainer_learning_rate(t),
                        .beta1 = c->train_encdiff.beta1,
                        .beta2 = c->train_encdiff.beta2,
                        .eps = c->train_encdiff.eps,
                        .weight_decay = c->train_encdiff.weight_decay,
                        .grad_scale = 1.0 / c->train_encdiff.accumulate_grad_batches,
                        .grad_clip = c->train_encdiff.grad_clip,
                        .ema_decay = decay};
    ED_TRY(ed_optimizer_step(t->optimizer, &update));
    t->networks->steps++;
    return ENCDIFF_OK;
}

/* Mean of the accumulated batches' terms; the terms of one step are always the same ones. */
static void add_mean(ed_losses *mean, const ed_losses *losses, int k, int batches)
{
    if (k == 0) *mean = *losses;
    for (int i = 0; i < mean->count; i++) mean->values[i] = (k ? mean->values[i] : 0) + losses->values[i] / batches;
}

static int accumulated_batches(const ed_trainer *t)
{
    const ed_config *c = &t->networks->config;
    return is_encdiff(t) ? c->train_encdiff.accumulate_grad_batches : c->train_autoencoder.accumulate_grad_batches;
}

static encdiff_status take_step(ed_trainer *t, const ed_given *given, ed_losses *mean)
{
    int batches = accumulated_batches(t);
    const int64_t *indices = NULL;
    for (int k = 0; k < batches; k++) {
        ed_losses losses;
        if (given)
            ED_TRY(given_batch(t, given));
        else
            ED_TRY(next_batch(t, &indices));
        int64_t n = given ? given->n : t->options.batch;
        ED_TRY(prepare_stage(t, n));
        if (is_encdiff(t))
            ED_TRY(accumulate_encdiff(t, n, indices, &losses));
        else
            ED_TRY(accumulate_autoencoder(t, n, k == batches - 1, &losses));
        t->batches++;
        add_mean(mean, &losses, k, batches);
    }
    return is_encdiff(t) ? update_encdiff(t) : ENCDIFF_OK;
}

static void report_step(ed_trainer *t, const ed_losses *losses, double rate, double seconds, int64_t images)
{
    ed_train_report *r = &t->report;
    double now = (double)images / fmax(seconds, 1e-9);
    r->images_per_second = r->images_per_second > 0 ? RATE_MEMORY * r->images_per_second + (1 - RATE_MEMORY) * now
                                                    : now;
    r->step = t->step;
    r->learning_rate = rate;
    r->losses = *losses;
}

/* Where a step began, to go back to when it fails. */
typedef struct position {
    int64_t batches, updates;
    uint64_t samples;
    float scale_factor;
    bool scale_known;
} position;

static encdiff_status begin_step(ed_trainer *t, position *p)
{
    ed_backend *b = t->team->backend;
    for (int i = 0; i < t->guarded_count; i++) {
        ed_guarded *g = &t->guarded[i];
        if (g->params) ED_TRY(ed_team_place(t->team, g->params->values, g->count, g->params->version, &g->live));
        ED_TRY(b->copy(b, t->env, g->copy, g->live, g->count * sizeof(float)));
    }
    *p = (position){t->batches, t->optimizer->updates, t->samples, t->networks->scale_factor, t->networks->scale_known};
    return ENCDIFF_OK;
}

static void undo_step(ed_trainer *t, const position *p)
{
    ed_backend *b = t->team->backend;
    ed_env later; /* a device that fails here failed before, which is what the caller is told */
    ed_env_child(&later, t->env);
    for (int i = 0; i < t->guarded_count; i++)
        (void)b->copy(b, &later, t->guarded[i].live, t->guarded[i].copy, t->guarded[i].count * sizeof(float));
    for (int set = 0; set < ED_SET_COUNT; set++)
        ed_networks_changed(t->team, t->networks, (ed_set)set, t->networks->sets[set].version++);
    t->batches = p->batches;
    t->optimizer->updates = p->updates;
    t->networks->scale_factor = p->scale_factor;
    t->networks->scale_known = p->scale_known;
    ed_optimizer_clear(t->optimizer);
    if (t->discriminator) ed_optimizer_clear(t->discriminator);
    t->samples = p->samples;
    ed_loader_free(t->env, t->loader); /* the next step opens one at this batch, without what may have failed in it */
    t->loader = NULL;
}

encdiff_status ed_trainer_step(ed_trainer *t, const ed_given *given)
{
    ed_losses losses;
    double start = ed_now(), rate = ed_trainer_learning_rate(t);
    ED_TRY(ed_check_cancel(t->env));
    position before;
    ED_TRY(begin_step(t, &before));
    t->report.wait_seconds = 0;
    encdiff_status status = take_step(t, given, &losses);
    if (status != ENCDIFF_OK) {
        undo_step(t, &before);
        return status;
    }
    t->step++;
    int64_t images = (given ? given->n : t->options.batch) * accumulated_batches(t);
    report_step(t, &losses, rate, ed_now() - start, images);
    return ENCDIFF_OK;
}

bool ed_trainer_evaluation_due(const ed_trainer *t)
{
    const ed_trainer_options *o = &t->options;
    ed_dataset_info info;
    if (o->evaluate_every > 0 && t->step % o->evaluate_every == 0) return true;
    if (o->evaluate_epochs < 1 || !t->dataset) return false;
    /* The step that took the last image of such an epoch, whether or not it went on into the next. */
    ed_dataset_get_info(t->dataset, &info);
    uint64_t epoch = (uint64_t)info.size, every = (uint64_t)o->evaluate_epochs;
    uint64_t taken = (uint64_t)(o->batch * accumulated_batches(t));
    return t->samples / epoch / every > (t->samples - ED_MIN(taken, t->samples)) / epoch / every;
}

encdiff_status ed_trainer_run(ed_trainer *t, int64_t steps, ed_train_progress progress, void *user)
{
    const ed_config *c = &t->networks->config;
    int64_t total = is_encdiff(t) ? c->train_encdiff.steps : c->train_autoencoder.steps;
    int64_t end = steps > 0 ? t->step + steps : ED_MAX(total, t->step);
    const ed_trainer_options *o = &t->options;
    if (o->output && !t->log) ED_TRY(ed_train_log_open(t->env, o->output, o->stage, t->step, &t->log));
    while (t->step < end) {
        ED_TRY(ed_trainer_step(t, NULL));
        bool last = t->step == end;
        if (t->log && o->log_every > 0 && (t->step % o->log_every == 0 || last))
            ED_TRY(ed_train_log_add(t->env, t->log, &t->report));
        if (o->output && o->picture_every > 0 && (t->step % o->picture_every == 0 || last))
            ED_TRY(ed_trainer_pictures(t, o->output));
        if (o->evaluate && (last || ed_trainer_evaluation_due(t))) ED_TRY(o->evaluate(o->evaluate_user));
        if (o->output && o->checkpoint_every > 0 && (t->step % o->checkpoint_every == 0 || last))
            ED_TRY(ed_trainer_save(t, o->output));
        if (progress && progress(&t->report, user))
            return ed_fail(t->env, ENCDIFF_CANCELLED, "stopped by the progress callback after step %lld",
                           (long long)t->step);
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- evaluation */

static double mean_difference(const float *a, const float *b, size_t count, bool squared)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += squared ? d * d : fabs(d);
    }
    return sum / (double)count;
}

typedef struct work {
    float *tokens, *noised, *predicted, *steps;
} work;

static void free_work(ed_env *env, work *w)
{
    ed_free(env, w->tokens);
    ed_free(env, w->noised);
    ed_free(env, w->predicted);
    ed_free(env, w->steps);
}

static encdiff_status evaluate_encdiff(ed_trainer *t, int64_t n, work *w, double *loss)
{
    const ed_config *c = &t->networks->config;
    size_t item = latent_floats(c, false), count = (size_t)n * item;
    w->tokens = ed_alloc(t->env, (size_t)n * (size_t)c->encoder.latent_unit * (size_t)c->encoder.context_dim,
                         sizeof(float));
    w->noised = ed_alloc(t->env, count, sizeof(float));
    w->predicted = ed_alloc(t->env, count, sizeof(float));
    w->steps = ed_alloc(t->env, (size_t)n, sizeof(float));
    if (!w->tokens || !w->noised || !w->predicted || !w->steps) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY(ed_trainer_latents(t, n, NULL));
    ED_TRY(ed_q_sample(t->env, &t->schedule, (int)n, item, t->timesteps, t->latents, t->noise, w->noised));
    for (int64_t i = 0; i < n; i++) w->steps[i] = (float)t->timesteps[i];
    const float *images[] = {t->images}, *inputs[] = {w->noised, w->steps, w->tokens};
    ED_TRY(ed_infer_run(t->infer, ED_INFER_ENCODE, n, images, (float *[]){NULL, w->tokens}));
    ED_TRY(ed_infer_run(t->infer, ED_INFER_PREDICT, n, inputs, &w->predicted));
    const float *target = c->diffusion.parameterization == ED_PREDICT_X0 ? t->latents : t->noise;
    if (c->diffusion.parameterization == ED_PREDICT_V) {
        ED_TRY(ed_velocity(t->env, &t->schedule, (int)n, item, t->timesteps, t->latents, t->noise, w->noised));
        target = w->noised; /* the networks have read it */
    }
    *loss = mean_difference(w->predicted, target, count, c->diffusion.loss_type == ED_CONFIG_L2);
    return ENCDIFF_OK;
}

static encdiff_status evaluate_autoencoder(ed_trainer *t, int64_t n, work *w, double *loss)
{
    const ed_config *c = &t->networks->config;
    size_t side = (size_t)c->image.resolution, count = (size_t)n * side * side * 3;
    w->noised = ed_alloc(t->env, (size_t)n * latent_floats(c, false), sizeof(float));
    w->predicted = ed_alloc(t->env, count, sizeof(float));
    if (!w->noised || !w->predicted) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    const float *images = t->images, *latents = w->noised;
    ED_TRY(ed_infer_run(t->infer, ED_INFER_LATENTS, n, &images, &w->noised));
    ed_infer_kind decode = c->autoencoder.kind == ED_AE_VQ ? ED_INFER_DECODE_QUANTIZED : ED_INFER_DECODE;
    ED_TRY(ed_infer_run(t->infer, decode, n, &latents, &w->predicted));
    *loss = mean_difference(w->predicted, t->images, count, false);
    return ENCDIFF_OK;
}

encdiff_status ed_trainer_evaluate(ed_trainer *t, const ed_given *given, ed_train_report *report)
{
    work w = {NULL, NULL, NULL, NULL};
    double loss = 0;
    ED_TRY(given_batch(t, given));
    encdiff_status status = is_encdiff(t) ? evaluate_encdiff(t, given->n, &w, &loss)
                                          : evaluate_autoencoder(t, given->n, &w, &loss);
    free_work(t->env, &w);
    ED_TRY(status);
    *report = t->report;
    report->losses = (ed_losses){
        .count = 1, .names = {is_encdiff(t) ? "loss" : "reconstruction"}, .values = {loss}, .bad_image = -1};
    return ENCDIFF_OK;
}
