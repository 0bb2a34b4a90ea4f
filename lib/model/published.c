/* Checkpoints of the published code. */
#include <math.h>
#include <stdio.h>

#include "model/published.h"
#include "model/weights.h"

#define SCALE "scale_factor"    /* a buffer of the published LatentDiffusion */
#define DECAY "model_ema.decay" /* and of its average */
#define UPDATES "model_ema.num_updates"

/* ---------------------------------------------------------------- names */

/* model.diffusion_model.out.2.bias: model_ema.diffusion_modelout2bias */
static void average_name(const char *published, char *name, size_t size)
{
    int at = snprintf(name, size, "model_ema.");
    const char *within = published + strlen("model.");
    for (; *within && (size_t)at + 1 < size; within++)
        if (*within != '.') name[at++] = *within;
    name[at] = 0;
}

/* In a checkpoint of the autoencoder's stage. */
static void autoencoder_name(const char *published, char *name, size_t size)
{
    snprintf(name, size, "%s", published + strlen("first_stage_model."));
}

/* ---------------------------------------------------------------- import */

typedef struct importer {
    ed_env *env;
    const char *path;
    ed_tensor_file file;
    ed_networks *networks;
    int *found;
} importer;

static encdiff_status load_set(importer *i, ed_set set, ed_naming naming)
{
    ed_params *params = &i->networks->sets[set];
    if (!params->count) return ENCDIFF_OK; /* the configuration has no such network */
    ED_TRY(ed_params_load(i->env, &i->file, i->path, params, params->values, naming));
    params->version++;
    *i->found |= 1 << set;
    return ENCDIFF_OK;
}

static encdiff_status load_average(importer *i)
{
    ed_networks *n = i->networks;
    const ed_params *params = &n->sets[ED_SET_UNET];
    if (!ed_params_in_file(&i->file, params, average_name)) return ENCDIFF_OK;
    float *average = n->averages[ED_SET_UNET] = ed_alloc_raw(i->env, params->total * sizeof *average);
    if (!average) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY(ed_params_load(i->env, &i->file, i->path, params, average, average_name));
    *i->found |= ED_FOUND_AVERAGES;
    return ENCDIFF_OK;
}

static encdiff_status load_scale(importer *i)
{
    ed_networks *n = i->networks;
    const ed_st_tensor *tensor = ed_tensor_file_find(&i->file, SCALE);
    if (!tensor) return ENCDIFF_OK;
    if (tensor->count != 1)
        return ed_fail(i->env, ENCDIFF_ERROR_FORMAT, "%s: %s has %lld numbers, not one", i->path, SCALE,
                       (long long)tensor->count);
    ED_TRY(ed_tensor_file_read_f32(i->env, &i->file, tensor, &n->scale_factor));
    if (!isfinite(n->scale_factor) || n->scale_factor <= 0)
        return ed_fail(i->env, ENCDIFF_ERROR_NUMERIC, "%s: %s is %g, not a positive number", i->path, SCALE,
                       (double)n->scale_factor);
    n->scale_known = true;
    return ENCDIFF_OK;
}

static encdiff_status load_all(importer *i)
{
    ed_params *sets = i->networks->sets;
    bool bare = sets[ED_SET_FIRST_STAGE].count && !ed_params_in_file(&i->file, &sets[ED_SET_UNET], ed_name_published) &&
                ed_params_in_file(&i->file, &sets[ED_SET_FIRST_STAGE], autoencoder_name);
    ed_naming first_stage = bare ? autoencoder_name : ed_name_published;
    if (!bare) {
        ED_TRY(load_set(i, ED_SET_UNET, ed_name_published));
        ED_TRY(load_set(i, ED_SET_ENCODER, ed_name_published));
        ED_TRY(load_average(i));
        ED_TRY(load_scale(i));
    }
    ED_TRY(load_set(i, ED_SET_FIRST_STAGE, first_stage));
    if (ed_params_in_file(&i->file, &sets[ED_SET_DISCRIMINATOR], first_stage))
        ED_TRY(load_set(i, ED_SET_DISCRIMINATOR, first_stage));
    if (!bare && i->file.torch && !ed_torch_integer(i->file.torch, "global_step", &i->networks->steps))
        i->networks->steps = 0;
    i->networks->steps = ED_MAX(i->networks->steps, 0);
    return ENCDIFF_OK;
}

encdiff_status ed_published_import(ed_env *env, const char *path, const ed_config *config, ed_networks *networks,
                                   int *found)
{
    importer i = {.env = env, .path = path, .networks = networks, .found = found};
    *found = 0;
    ED_TRY(ed_tensor_file_open(env, path, &i.file));
    encdiff_status status = ed_networks_create(env, config, 0, networks);
    if (status == ENCDIFF_OK && (status = load_all(&i)) != ENCDIFF_OK) ed_networks_free(networks);
    ed_tensor_file_close(env, &i.file);
    return status;
}

/* ---------------------------------------------------------------- export */

typedef struct numbers {
    float scale, decay;
    int32_t updates;
} numbers;

static encdiff_status list_tensors(ed_env *env, ed_weight_list *list, const ed_networks *n, const numbers *values)
{
    for (int set = 0; set < ED_SET_LPIPS; set++)
        ED_TRY(ed_weight_list_add(env, list, &n->sets[set], n->sets[set].values, ed_name_published));
    if (n->averages[ED_SET_UNET]) {
        ED_TRY(ed_weight_list_add(env, list, &n->sets[ED_SET_UNET], n->averages[ED_SET_UNET], average_name));
        ED_TRY(ed_weight_list_add_scalar(env, list, DECAY, ED_ST_F32, &values->decay));
        ED_TRY(ed_weight_list_add_scalar(env, list, UPDATES, ED_ST_I32, &values->updates));
    }
    return n->scale_known ? ed_weight_list_add_scalar(env, list, SCALE, ED_ST_F32, &values->scale) : ENCDIFF_OK;
}

encdiff_status ed_published_export(ed_env *env, ed_networks *n, const char *path)
{
    ed_weight_list list = {0};
    numbers values = {n->scale_factor, (float)n->config.train_encdiff.ema_decay,
                      (int32_t)ED_MIN(n->steps, (int64_t)INT32_MAX)};
    if (n->averages[ED_SET_ENCODER])
        ed_log(env, ED_LOG_WARNING, "%s: the published code has no moving average of the encoder; it is left out",
               path);
    encdiff_status status = list_tensors(env, &list, n, &values);
    if (status == ENCDIFF_OK) status = ed_safetensors_write(env, path, list.items, list.count, NULL, 0);
    ed_weight_list_free(env, &list);
    return status;
}
