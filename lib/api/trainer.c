/* Training. */
#include <math.h>

#include "api/evaluation.h"

struct encdiff_trainer {
    encdiff_model *model;
    ed_trainer *trainer;
    ed_evaluation *evaluation; /* or NULL */
    float *images, *noise;     /* the caller's, converted */
    size_t capacity;           /* images that these have room for */
};

void encdiff_trainer_options_init(encdiff_trainer_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

static bool chosen(int32_t given, bool otherwise) { return given == ENCDIFF_DEFAULT ? otherwise : given == ENCDIFF_ON; }

static int64_t interval(int64_t given, int64_t otherwise) { return given == 0 ? otherwise : ED_MAX(given, 0); }

static ed_trainer_options inner_options(const ed_config *c, const encdiff_trainer_options *o)
{
    bool encdiff = o->stage != ENCDIFF_STAGE_AUTOENCODER;
    double rate = encdiff ? c->train_encdiff.base_learning_rate : c->train_autoencoder.base_learning_rate;
    int batch = encdiff ? c->train_encdiff.batch_size : c->train_autoencoder.batch_size;
    return (ed_trainer_options){.stage = encdiff ? ED_STAGE_ENCDIFF : ED_STAGE_AUTOENCODER,
                                .batch = o->batch_size ? o->batch_size : batch,
                                .seed = o->seed,
                                .learning_rate = o->learning_rate > 0 ? o->learning_rate : rate,
                                .ema = chosen(o->ema, c->train_encdiff.use_ema),
                                .cache_latents = chosen(o->cache_latents, c->train_encdiff.cache_latents),
                                .output = o->output,
                                .log_every = c->data.log_every,
                                .checkpoint_every = interval(o->checkpoint_interval, c->data.checkpoint_every),
                                .picture_every = interval(o->picture_interval, c->data.image_every)};
}

/* Others have nothing to train, which the inner trainer says. */
static bool has_learnt_autoencoder(const encdiff_model *m)
{
    ed_autoencoder_kind kind = ed_model_config(m)->autoencoder.kind;
    return kind == ED_AE_VQ || kind == ED_AE_KL;
}

/* The perceptual loss needs a network that comes from the user. */
static encdiff_status load_lpips(encdiff_model *m, const encdiff_trainer_options *o)
{
    ed_networks *n = ed_model_networks(m);
    const char *path = o->lpips_weights ? o->lpips_weights : n->config.train_autoencoder.lpips_weights;
    ED_TRY(ed_config_check_autoencoder_training(&m->context->env, &n->config, path));
    if (!(n->config.train_autoencoder.perceptual_weight > 0)) return ENCDIFF_OK;
    ed_tensor_file file;
    ED_TRY(ed_networks_add_lpips(n));
    ED_TRY(ed_tensor_file_open(&m->context->env, path, &file));
    ed_params *params = &n->sets[ED_SET_LPIPS];
    encdiff_status status = ed_lpips_load(&m->context->env, &file, path, NULL, params);
    ed_tensor_file_close(&m->context->env, &file);
    return status;
}

static encdiff_status create(encdiff_model *m, encdiff_dataset *dataset, const encdiff_trainer_options *options,
                             encdiff_trainer **out)
{
    encdiff_trainer_options o;
    ED_REQUIRE(m->context, out);
    *out = NULL;
    ED_TRY(ed_api_read_options(m->context, "encdiff_trainer_create", &o, sizeof o, options));
    ED_REQUIRE(m->context, o.stage >= 0 && o.stage <= ENCDIFF_STAGE_ENCDIFF);
    ED_REQUIRE(m->context, o.batch_size >= 0 && o.learning_rate >= 0);
    ED_REQUIRE(m->context, !dataset || dataset->context == m->context);
    if (m->weights->trained) return ed_fail(&m->context->env, ENCDIFF_ERROR_STATE, "another trainer holds the model");
    if (atomic_load(&m->weights->references) > 1)
        return ed_fail(&m->context->env, ENCDIFF_ERROR_STATE, "the weights are shared: they are read-only");
    ED_TRY(ed_networks_need(ed_model_networks(m), ED_SET_COUNT));
    if (o.stage == ENCDIFF_STAGE_AUTOENCODER && has_learnt_autoencoder(m)) ED_TRY(load_lpips(m, &o));
    encdiff_trainer *t = ed_alloc(&m->context->env, 1, sizeof *t);
    if (!t) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    t->model = ed_model_retain(m);
    ed_trainer_options inner = inner_options(ed_model_config(m), &o);
    encdiff_status status = ed_trainer_create(m->context->team, ed_model_networks(m), m->infer,
                                              dataset ? dataset->dataset : NULL, &inner, &t->trainer);
    if (status != ENCDIFF_OK) {
        encdiff_trainer_free(t);
        return status;
    }
    m->weights->trained = true;
    *out = t;
    return ENCDIFF_OK;
}

encdiff_status encdiff_trainer_create(encdiff_model *model, encdiff_dataset *dataset,
                                      const encdiff_trainer_options *options, encdiff_trainer **trainer)
{
    ED_API_BEGIN;
    return model ? ed_api_done(model->context, create(model, dataset, options, trainer)) : ENCDIFF_ERROR_ARGUMENT;
}

void encdiff_trainer_free(encdiff_trainer *t)
{
    if (!t) return;
    encdiff_model *m = t->model;
    if (t->trainer) m->weights->trained = false;
    ed_evaluation_free(&m->context->env, t->evaluation);
    ed_trainer_free(t->trainer);
    ed_free(&m->context->env, t->images);
    ed_free(&m->context->env, t->noise);
    ed_free(&m->context->env, t);
    encdiff_model_free(m);
}

/* ---------------------------------------------------------------- reports */

static void fill_report(const ed_train_report *r, encdiff_train_report *out)
{
    *out = (encdiff_train_report){.step = r->step,
                                  .epoch = r->epoch,
                                  .learning_rate = r->learning_rate,
                                  .images_per_second = r->images_per_second,
                                  .loss = r->losses.count ? r->losses.values[0] : NAN,
                                  .count = ED_MAX(r->losses.count - 1, 0),
                                  .names = r->losses.names + 1,
                                  .values = r->losses.values + 1};
}

static encdiff_status give_report(encdiff_context *context, const char *where, const ed_train_report *r,
                                  encdiff_train_report *out)
{
    encdiff_train_report filled;
    if (!out) return ENCDIFF_OK;
    fill_report(r, &filled);
    return ed_api_fill_info(context, where, out, &filled, sizeof filled);
}

encdiff_status encdiff_trainer_get_report(const encdiff_trainer *t, encdiff_train_report *report)
{
    ED_API_BEGIN;
    if (!t) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(t->model->context, report);
    return give_report(t->model->context, __func__, &t->trainer->report, report);
}

/* ---------------------------------------------------------------- steps */

encdiff_status encdiff_trainer_step(encdiff_trainer *t, encdiff_train_report *report)
{
    ED_API_BEGIN;
    if (!t) return ENCDIFF_ERROR_ARGUMENT;
    encdiff_context *context = t->model->context;
    encdiff_status status = ed_api_done(context, ed_trainer_step(t->trainer, NULL));
    return status == ENCDIFF_OK ? give_report(context, __func__, &t->trainer->report, report) : status;
}

/* Room for a batch of n images and its noise, kept between calls. */
static encdiff_status reserve(encdiff_trainer *t, size_t n)
{
    ed_env *env = &t->model->context->env;
    size_t side = (size_t)ed_model_config(t->model)->image.resolution;
    if (n <= t->capacity) return ENCDIFF_OK;
    ed_free(env, t->images);
    ed_free(env, t->noise);
    t->images = ed_alloc(env, n * side * side * 3, sizeof *t->images);
    t->noise = ed_alloc(env, n * ed_model_latent_floats(t->model), sizeof *t->noise);
    t->capacity = t->images && t->noise ? n : 0;
    return t->capacity ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

/* The caller's batch in the library's layout. */
static encdiff_status take_given(encdiff_trainer *t, const encdiff_image_view *images, const int32_t *timesteps,
                                 const float *noise, ed_given *given)
{
    encdiff_model *m = t->model;
    const ed_config *c = ed_model_config(m);
    ED_TRY(ed_api_check_images(m, "the batch", images));
    size_t n = (size_t)images->n;
    for (size_t i = 0; timesteps && i < n; i++)
        if (timesteps[i] < 0 || timesteps[i] >= c->diffusion.timesteps)
            return ed_fail(&m->context->env, ENCDIFF_ERROR_ARGUMENT, "timestep %d of image %zu is not in 0 .. %d",
                           (int)timesteps[i], i, c->diffusion.timesteps - 1);
    if (noise) ED_TRY(ed_api_check_finite(m->context, "noise", noise, n * ed_model_latent_floats(m)));
    ED_TRY(reserve(t, n));
    ED_TRY(ed_api_images_in(m, "the batch", images, t->images));
    if (noise)
        ed_nchw_to_nhwc(noise, t->noise, images->n, ed_config_latent_channels(c), ed_config_latent_size(c),
                        ed_config_latent_size(c));
    *given = (ed_given){.n = images->n, .images = t->images, .timesteps = timesteps, .noise = noise ? t->noise : NULL};
    return ENCDIFF_OK;
}

static encdiff_status step_given(encdiff_trainer *t, const encdiff_image_view *images, const int32_t *timesteps,
                                 const float *noise, encdiff_train_report *report)
{
    ed_given given;
    ED_TRY(take_given(t, images, timesteps, noise, &given));
    ED_TRY(ed_trainer_step(t->trainer, &given));
    return give_report(t->model->context, "encdiff_trainer_step_given", &t->trainer->report, report);
}

encdiff_status encdiff_trainer_step_given(encdiff_trainer *t, const encdiff_image_view *images,
                                          const int32_t *timesteps, const float *noise, encdiff_train_report *report)
{
    ED_API_BEGIN;
    return t ? ed_api_done(t->model->context, step_given(t, images, timesteps, noise, report)) : ENCDIFF_ERROR_ARGUMENT;
}

static encdiff_status evaluate(encdiff_trainer *t, const encdiff_image_view *images, const int32_t *timesteps,
                               const float *noise, encdiff_train_report *report)
{
    ed_given given;
    ed_train_report result;
    ED_TRY(take_given(t, images, timesteps, noise, &given));
    ED_TRY(ed_trainer_evaluate(t->trainer, &given, &result));
    return give_report(t->model->context, "encdiff_trainer_evaluate", &result, report);
}

encdiff_status encdiff_trainer_evaluate(encdiff_trainer *t, const encdiff_image_view *images, const int32_t *timesteps,
                                        const float *noise, encdiff_train_report *report)
{
    ED_API_BEGIN;
    return t ? ed_api_done(t->model->context, evaluate(t, images, timesteps, noise, report)) : ENCDIFF_ERROR_ARGUMENT;
}

typedef struct forward {
    encdiff_train_progress progress;
    void *user;
} forward;

static int forward_report(const ed_train_report *report, void *user)
{
    const forward *f = user;
    encdiff_train_report filled;
    fill_report(report, &filled);
    filled.struct_size = sizeof filled;
    return f->progress(&filled, f->user);
}

/* ---------------------------------------------------------------- runs */

void encdiff_evaluation_options_init(encdiff_evaluation_options *options, size_t struct_size)
{
    ed_api_init_options(options, struct_size);
}

static encdiff_status set_evaluation(encdiff_trainer *t, const encdiff_evaluation_options *options)
{
    encdiff_evaluation_options o;
    encdiff_context *context = t->model->context;
    ed_trainer_options *inner = &t->trainer->options;
    ed_evaluation *made = NULL;
    ED_TRY(ed_api_read_options(context, "encdiff_trainer_set_evaluation", &o, sizeof o, options));
    ED_REQUIRE(context, !o.dataset || o.dataset->context == context);
    if (inner->stage != ED_STAGE_ENCDIFF)
        return ed_fail(&context->env, ENCDIFF_ERROR_UNSUPPORTED, "the autoencoder stage has no codes to score");
    if (!inner->output || (!o.dataset && !t->trainer->dataset))
        return ed_fail(&context->env, ENCDIFF_ERROR_STATE, "the trainer has no %s",
                       inner->output ? "dataset" : "folder for scores");
    if (options) ED_TRY(ed_evaluation_create(t->model, t->trainer, &o, &made));
    ed_evaluation_free(&context->env, t->evaluation);
    t->evaluation = made;
    ed_evaluation_set(made, inner);
    return ENCDIFF_OK;
}

encdiff_status encdiff_trainer_set_evaluation(encdiff_trainer *t, const encdiff_evaluation_options *options)
{
    ED_API_BEGIN;
    return t ? set_evaluation(t, options) : ENCDIFF_ERROR_ARGUMENT;
}

static encdiff_status run(encdiff_trainer *t, int64_t steps, encdiff_train_progress progress, void *user)
{
    forward f = {progress, user};
    if (t->evaluation) ED_TRY(ed_evaluation_begin(t->evaluation));
    return ed_trainer_run(t->trainer, steps, progress ? forward_report : NULL, &f);
}

encdiff_status encdiff_trainer_run(encdiff_trainer *t, int64_t steps, encdiff_train_progress progress, void *user)
{
    ED_API_BEGIN;
    if (!t) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(t->model->context, steps >= 0);
    return ed_api_done(t->model->context, run(t, steps, progress, user));
}

encdiff_status encdiff_trainer_set_learning_rate(encdiff_trainer *t, double learning_rate)
{
    ED_API_BEGIN;
    if (!t) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(t->model->context, isfinite(learning_rate) && learning_rate >= 0);
    t->trainer->options.learning_rate = learning_rate;
    return ENCDIFF_OK;
}

encdiff_status encdiff_trainer_save(encdiff_trainer *t, const char *folder)
{
    ED_API_BEGIN;
    if (!t) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(t->model->context, folder);
    return ed_trainer_save(t->trainer, folder);
}

encdiff_status encdiff_trainer_resume(encdiff_trainer *t, const char *path)
{
    ED_API_BEGIN;
    if (!t) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(t->model->context, path);
    return ed_trainer_resume(t->trainer, path);
}
