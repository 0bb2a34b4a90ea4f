/* Models: configuration, life, files, parameters. Running them: networks.c. */
#include <math.h>
#include <stdio.h>

#include "api/handles.h"
#include "model/place.h"
#include "model/published.h"

/* ---------------------------------------------------------------- configuration */

int32_t encdiff_preset_count(void) { return ed_preset_count(); }

const char *encdiff_preset_name(int32_t index) { return ed_preset_name(index); }

const char *encdiff_preset_description(int32_t index) { return ed_preset_description(index); }

encdiff_status encdiff_config_resolve(encdiff_context *context, const char *config, const char *const *overrides,
                                      int32_t count, char **json)
{
    ED_API_BEGIN;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, config && json && count >= 0 && (overrides || count == 0));
    ed_config resolved;
    ed_text text = {0};
    *json = NULL;
    for (int32_t i = 0; i < count; i++) ED_REQUIRE(context, overrides[i] != NULL);
    ED_TRY(ed_config_resolve(&context->env, config, overrides, count, &resolved));
    encdiff_status status = ed_config_print(&context->env, &resolved, true, &text);
    if (status == ENCDIFF_OK)
        *json = text.data;
    else
        ed_text_free(&context->env, &text);
    return status;
}

/* ---------------------------------------------------------------- life */

static void release_weights(ed_weights *weights)
{
    if (atomic_fetch_sub(&weights->references, 1) != 1) return;
    encdiff_context *home = weights->home;
    ed_networks_free(&weights->networks);
    ed_free(&home->env, weights);
    encdiff_context_free(home);
}

static encdiff_status list_names(encdiff_model *m)
{
    ed_networks *n = ed_model_networks(m);
    ed_env *env = &m->context->env;
    size_t count = 0;
    for (int set = 0; set < ED_SET_LPIPS; set++) count += ed_params_tensor_count(&n->sets[set]);
    m->names = ed_alloc(env, ED_MAX(count, 1), sizeof *m->names);
    if (!m->names) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int set = 0; set < ED_SET_LPIPS; set++)
        for (size_t i = 0; i < ed_params_tensor_count(&n->sets[set]); i++) {
            char name[320];
            ed_params_tensor_name(&n->sets[set], ed_params_tensor(&n->sets[set], i), name, sizeof name);
            m->names[m->name_count] = ed_format(env, "ema.%s", name); /* the plain name begins behind the prefix */
            if (!m->names[m->name_count]) return ENCDIFF_ERROR_OUT_OF_MEMORY;
            m->name_count++;
        }
    return ENCDIFF_OK;
}

/* A model on `weights`, of which it takes over one reference. */
static encdiff_status make_model(encdiff_context *context, ed_weights *weights, encdiff_model **out)
{
    ed_text text = {0};
    encdiff_model *m = ed_alloc(&context->env, 1, sizeof *m);
    if (!m) {
        release_weights(weights);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    m->references = 1;
    m->context = context;
    ed_context_retain(context);
    m->weights = weights;
    encdiff_status status = ed_infer_create(context->team, &weights->networks, &m->infer);
    if (status == ENCDIFF_OK) status = ed_config_print(&context->env, &weights->networks.config, true, &text);
    m->config = text.data;
    if (status == ENCDIFF_OK) status = list_names(m);
    if (status != ENCDIFF_OK)
        encdiff_model_free(m);
    else
        *out = m;
    return status;
}

static ed_weights *new_weights(encdiff_context *context)
{
    ed_weights *weights = ed_alloc(&context->env, 1, sizeof *weights);
    if (!weights) return NULL;
    atomic_store(&weights->references, 1);
    weights->home = context;
    ed_context_retain(context);
    return weights;
}

encdiff_status encdiff_model_create(encdiff_context *context, const char *config, uint64_t seed, encdiff_model **model)
{
    ED_API_BEGIN;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, config && model);
    *model = NULL;
    ed_config resolved;
    ED_TRY(ed_config_resolve(&context->env, config, NULL, 0, &resolved));
    ed_weights *weights = new_weights(context);
    if (!weights) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_networks_create(&context->env, &resolved, seed, &weights->networks);
    if (status == ENCDIFF_OK) return make_model(context, weights, model);
    release_weights(weights);
    return status;
}

/* Takes over the file. `whole`: it does not outlive the call. */
static encdiff_status load(encdiff_context *context, ed_safetensors *file, const char *name, bool whole,
                           encdiff_model **model)
{
    ed_weights *weights = new_weights(context);
    if (!weights) {
        ed_safetensors_close(&context->env, file);
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    encdiff_status status = ed_networks_open(&context->env, file, name, &weights->networks);
    if (status == ENCDIFF_OK && whole) status = ed_networks_need(&weights->networks, ED_SET_COUNT);
    if (status == ENCDIFF_OK) return make_model(context, weights, model);
    release_weights(weights);
    return status;
}

encdiff_status encdiff_model_load(encdiff_context *context, const char *path, encdiff_model **model)
{
    ED_API_BEGIN;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, path && model);
    *model = NULL;
    ed_safetensors *file;
    ED_TRY(ed_safetensors_open(&context->env, path, &file));
    return load(context, file, path, false, model);
}

encdiff_status encdiff_model_load_memory(encdiff_context *context, const void *data, size_t size, encdiff_model **model)
{
    ED_API_BEGIN;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, data && model);
    *model = NULL;
    ed_safetensors *file;
    ED_TRY(ed_safetensors_open_memory(&context->env, "the model in memory", data, size, &file));
    return load(context, file, "the model in memory", true, model);
}

/* The values of a set, or of all (ED_SET_COUNT), are in the host's arrays: read from the file, and as a trainer that
 * works on a device has them now. */
static encdiff_status need(encdiff_model *m, ed_set set)
{
    ED_TRY(ed_networks_need(ed_model_networks(m), set));
    return ed_networks_fetch(m->context->team, ed_model_networks(m));
}

_Static_assert(ENCDIFF_FOUND_UNET == 1 << ED_SET_UNET && ENCDIFF_FOUND_ENCODER == 1 << ED_SET_ENCODER &&
                   ENCDIFF_FOUND_AUTOENCODER == 1 << ED_SET_FIRST_STAGE &&
                   ENCDIFF_FOUND_DISCRIMINATOR == 1 << ED_SET_DISCRIMINATOR,
               "the bits of the public enumeration");

encdiff_status encdiff_model_import(encdiff_context *context, const char *path, const char *config, int32_t *found,
                                    encdiff_model **model)
{
    ED_API_BEGIN;
    if (!context) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(context, path && config && model);
    *model = NULL;
    ed_config resolved;
    int bits;
    ED_TRY(ed_config_resolve(&context->env, config, NULL, 0, &resolved));
    ed_weights *weights = new_weights(context);
    if (!weights) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_published_import(&context->env, path, &resolved, &weights->networks, &bits);
    if (status != ENCDIFF_OK) {
        release_weights(weights);
        return status;
    }
    int32_t sets = bits & ~ED_FOUND_AVERAGES;
    if (found) *found = sets | (bits & ED_FOUND_AVERAGES ? ENCDIFF_FOUND_AVERAGES : 0);
    return make_model(context, weights, model);
}

encdiff_status encdiff_model_export(encdiff_model *model, const char *path)
{
    ED_API_BEGIN;
    if (!model) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(model->context, path);
    ED_TRY(need(model, ED_SET_COUNT));
    return ed_published_export(&model->context->env, ed_model_networks(model), path);
}

encdiff_status encdiff_model_save(encdiff_model *model, const char *path)
{
    ED_API_BEGIN;
    if (!model) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(model->context, path);
    ED_TRY(need(model, ED_SET_COUNT));
    return ed_networks_save(&model->context->env, ed_model_networks(model), path);
}

encdiff_status encdiff_model_save_memory(encdiff_model *model, void **data, size_t *size)
{
    ED_API_BEGIN;
    if (!model) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(model->context, data && size);
    uint8_t *bytes = NULL;
    *data = NULL;
    ED_TRY(need(model, ED_SET_COUNT));
    ED_TRY(ed_networks_save_memory(&model->context->env, ed_model_networks(model), &bytes, size));
    *data = bytes;
    return ENCDIFF_OK;
}

encdiff_status encdiff_model_share(encdiff_model *model, encdiff_context *context, encdiff_model **shared)
{
    ED_API_BEGIN;
    if (!model) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(model->context, context && shared);
    *shared = NULL;
    if (model->weights->trained)
        return ed_fail(&model->context->env, ENCDIFF_ERROR_STATE, "a trainer holds the model: it cannot be shared");
    ED_TRY(need(model, ED_SET_COUNT)); /* from here on nobody writes to them */
    atomic_fetch_add(&model->weights->references, 1);
    encdiff_status status = make_model(context, model->weights, shared);
    /* the reason is with the other context; the caller asked the model's */
    if (status != ENCDIFF_OK && context != model->context)
        ed_fail(&model->context->env, status, "%s", context->env.message);
    return status;
}

encdiff_model *ed_model_retain(encdiff_model *model)
{
    model->references++;
    return model;
}

void encdiff_model_free(encdiff_model *m)
{
    if (!m || --m->references > 0) return;
    encdiff_context *context = m->context;
    ed_env *env = &context->env;
    for (size_t i = 0; i < m->name_count; i++) ed_free(env, m->names[i]);
    ed_free(env, m->names);
    for (size_t i = 0; i < ED_COUNT(m->buffers); i++) ed_free(env, m->buffers[i]);
    ed_infer_free(m->infer);
    ed_free(env, m->config);
    if (m->weights) release_weights(m->weights);
    ed_free(env, m);
    encdiff_context_free(context);
}

/* ---------------------------------------------------------------- what it is */

static bool has_ema(const encdiff_model *m)
{
    for (int set = 0; set < ED_SET_LPIPS; set++)
        if (m->weights->networks.averages[set]) return true;
    return false;
}

encdiff_status encdiff_model_get_info(const encdiff_model *m, encdiff_model_info *info)
{
    ED_API_BEGIN;
    if (!m) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(m->context, info);
    const ed_networks *n = &m->weights->networks;
    const ed_config *c = &n->config;
    encdiff_model_info filled = {.height = c->image.resolution,
                                 .width = c->image.resolution,
                                 .tokens = c->encoder.latent_unit,
                                 .token_dim = c->encoder.context_dim,
                                 .has_scalars = 1,
                                 .has_ema = has_ema(m),
                                 .latent_channels = ed_config_latent_channels(c),
                                 .latent_height = ed_config_latent_size(c),
                                 .latent_width = ed_config_latent_size(c),
                                 .timesteps = c->diffusion.timesteps,
                                 .latent_scale = n->scale_factor,
                                 .steps = n->steps,
                                 .autoencoder_parameters = ed_params_trainable_count(&n->sets[ED_SET_FIRST_STAGE]),
                                 .encoder_parameters = ed_params_trainable_count(&n->sets[ED_SET_ENCODER]),
                                 .unet_parameters = ed_params_trainable_count(&n->sets[ED_SET_UNET])};
    return ed_api_fill_info(m->context, __func__, info, &filled, sizeof filled);
}

const char *encdiff_model_config_json(const encdiff_model *model) { return model ? model->config : NULL; }

bool ed_model_ema(const encdiff_model *m, encdiff_switch use)
{
    encdiff_switch chosen = use == ENCDIFF_DEFAULT ? m->use_ema : use;
    return chosen != ENCDIFF_OFF && has_ema(m);
}

encdiff_status encdiff_model_use_ema(encdiff_model *m, encdiff_switch use_ema)
{
    ED_API_BEGIN;
    if (!m) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(m->context, use_ema >= ENCDIFF_OFF && use_ema <= ENCDIFF_ON);
    if (use_ema == ENCDIFF_ON && !has_ema(m))
        return ed_fail(&m->context->env, ENCDIFF_ERROR_STATE, "the model holds no moving averages");
    m->use_ema = use_ema;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- parameters */

/* A published tensor: where its values are. Averages come after all plain tensors. */
typedef struct tensor {
    ed_set set;
    ed_params *params;
    float *values;
    ed_tensor_ref ref;
    bool average;
    size_t name; /* among the model's names */
} tensor;

/* Sets in the order of the list, then those averages that there are. */
static bool find_tensor(const encdiff_model *m, size_t index, tensor *out)
{
    ed_networks *n = &m->weights->networks;
    for (int average = 0; average < 2; average++) {
        size_t first = 0; /* of the set's names */
        for (int set = 0; set < ED_SET_LPIPS; set++) {
            float *values = average ? n->averages[set] : n->sets[set].values;
            size_t named = ed_params_tensor_count(&n->sets[set]), count = values ? named : 0;
            if (index < count) {
                *out = (tensor){(ed_set)set, &n->sets[set], values, ed_params_tensor(&n->sets[set], index),
                                average,     first + index};
                return true;
            }
            index -= count;
            first += named;
        }
    }
    return false;
}

static const char *name_of(const encdiff_model *m, const tensor *t)
{
    return m->names[t->name] + (t->average ? 0 : strlen("ema."));
}

int32_t encdiff_model_parameter_count(const encdiff_model *m)
{
    if (!m) return 0;
    const ed_networks *n = &m->weights->networks;
    size_t count = m->name_count;
    for (int set = 0; set < ED_SET_LPIPS; set++)
        if (n->averages[set]) count += ed_params_tensor_count(&n->sets[set]);
    return (int32_t)count;
}

encdiff_status encdiff_model_get_parameter(const encdiff_model *m, int32_t index, encdiff_parameter_info *info)
{
    ED_API_BEGIN;
    tensor t;
    if (!m) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(m->context, info);
    ED_REQUIRE(m->context, index >= 0 && find_tensor(m, (size_t)index, &t));
    ed_shape shape = ed_params_tensor_shape(t.params, t.ref);
    encdiff_parameter_info filled = {.name = name_of(m, &t),
                                     .rank = shape.rank,
                                     .trainable = !t.average && !t.params->items[t.ref.param].buffer,
                                     .count = ed_shape_count(&shape)};
    memcpy(filled.shape, shape.dim, sizeof shape.dim);
    return ed_api_fill_info(m->context, __func__, info, &filled, sizeof filled);
}

static encdiff_status look_up(encdiff_model *m, const char *name, int64_t count, tensor *out)
{
    for (size_t i = 0; find_tensor(m, i, out); i++) {
        if (strcmp(name_of(m, out), name) != 0) continue;
        ed_shape shape = ed_params_tensor_shape(out->params, out->ref);
        if (ed_shape_count(&shape) == count) return ENCDIFF_OK;
        return ed_fail(&m->context->env, ENCDIFF_ERROR_SHAPE, "parameter %s has %lld numbers, not %lld", name,
                       (long long)ed_shape_count(&shape), (long long)count);
    }
    return ed_fail(&m->context->env, ENCDIFF_ERROR_NOT_FOUND, "the model has no parameter %s", name);
}

encdiff_status encdiff_model_read_parameter(encdiff_model *m, const char *name, int64_t count, float *values)
{
    ED_API_BEGIN;
    tensor t;
    if (!m) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(m->context, name && values);
    ED_TRY(look_up(m, name, count, &t));
    ED_TRY(need(m, t.set));
    ed_params_to_published(t.params, t.values, t.ref, values);
    return ENCDIFF_OK;
}

encdiff_status encdiff_model_write_parameter(encdiff_model *m, const char *name, int64_t count, const float *values)
{
    ED_API_BEGIN;
    tensor t;
    if (!m) return ENCDIFF_ERROR_ARGUMENT;
    ED_REQUIRE(m->context, name && values);
    ED_TRY(look_up(m, name, count, &t));
    if (atomic_load(&m->weights->references) > 1)
        return ed_fail(&m->context->env, ENCDIFF_ERROR_STATE, "the weights are shared: they are read-only");
    ED_TRY(ed_api_check_finite(m->context, name, values, (size_t)count));
    ED_TRY(need(m, t.set));
    ed_params_from_published(t.params, t.values, t.ref, values);
    t.params->version++;
    return ENCDIFF_OK;
}
