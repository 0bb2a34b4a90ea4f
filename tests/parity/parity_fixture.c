/* A golden file: its tensors, its configuration, and how far two tensors are apart. */
#include <math.h>

#include "parity.h"

encdiff_status parity_open(parity *p, const char *path)
{
    ED_TRY(ed_safetensors_open(p->env, path, &p->file));
    const char *text = ed_safetensors_metadata(p->file, "config");
    if (!text) return ed_fail(p->env, ENCDIFF_ERROR_FORMAT, "%s: no metadata \"config\"", path);
    ED_TRY(ed_json_parse(p->env, path, text, strlen(text), &p->config));
    int64_t seed = 0;
    ED_TRY(ed_json_int(p->env, p->config, "seed", 0, INT64_MAX, &seed));
    p->seed = (uint64_t)seed;
    return ENCDIFF_OK;
}

void parity_close(parity *p)
{
    ed_json_free(p->env, p->config);
    ed_safetensors_close(p->env, p->file);
    p->config = NULL;
    p->file = NULL;
}

encdiff_status parity_find(const parity *p, const char *name, const ed_st_tensor **out)
{
    *out = ed_safetensors_find(p->file, name);
    return *out ? ENCDIFF_OK : ed_fail(p->env, ENCDIFF_ERROR_NOT_FOUND, "%s: no tensor %s", p->name, name);
}

encdiff_status parity_read(const parity *p, const char *name, float **out, int64_t *count)
{
    const ed_st_tensor *tensor;
    ED_TRY(parity_find(p, name, &tensor));
    *out = ed_alloc(p->env, (size_t)tensor->count, sizeof **out);
    if (!*out) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (count) *count = tensor->count;
    return ed_safetensors_read_f32(p->env, p->file, tensor, *out);
}

encdiff_status parity_read_f64(const parity *p, const char *name, double **out, int64_t *count)
{
    const ed_st_tensor *tensor;
    ED_TRY(parity_find(p, name, &tensor));
    if (tensor->type != ED_ST_F64)
        return ed_fail(p->env, ENCDIFF_ERROR_FORMAT, "%s: tensor %s is %s, not F64", p->name, name,
                       ed_st_type_name(tensor->type));
    *out = ed_alloc(p->env, (size_t)tensor->count, sizeof **out);
    if (!*out) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *count = tensor->count;
    return ed_safetensors_read_raw(p->env, p->file, tensor, *out);
}

void parity_move(const parity *p, float *images, int64_t count)
{
    for (int64_t i = 0; i < count && p->moved; i++) {
        double u = ed_uniform((uint64_t)p->moved, ED_RANDOM_DATA, 0, (uint64_t)i);
        images[i] = (float)(images[i] * (1 + PARITY_MOVE * (2 * u - 1)));
    }
}

static double relative(double squares, double total) { return sqrt(squares) / (total > 0 ? sqrt(total) : 1); }

double parity_error(const float *ours, const float *theirs, int64_t count)
{
    double squares = 0, total = 0;
    for (int64_t i = 0; i < count; i++) {
        double off = (double)ours[i] - (double)theirs[i];
        squares += off * off;
        total += (double)theirs[i] * (double)theirs[i];
    }
    return relative(squares, total);
}

double parity_error_f64(const double *ours, const double *theirs, int64_t count)
{
    double squares = 0, total = 0;
    for (int64_t i = 0; i < count; i++) {
        squares += (ours[i] - theirs[i]) * (ours[i] - theirs[i]);
        total += theirs[i] * theirs[i];
    }
    return relative(squares, total);
}

static encdiff_status check_count(const parity *p, const char *name, int64_t ours, int64_t theirs)
{
    if (ours == theirs) return ENCDIFF_OK;
    return ed_fail(p->env, ENCDIFF_ERROR_SHAPE, "%s: %s has %lld elements in the file and %lld here", p->name, name,
                   (long long)theirs, (long long)ours);
}

encdiff_status parity_compare(parity *p, const char *name, const float *ours, int64_t count, double bound)
{
    float *theirs = NULL;
    int64_t theirs_count = 0;
    encdiff_status status = parity_read(p, name, &theirs, &theirs_count);
    if (status == ENCDIFF_OK) status = check_count(p, name, count, theirs_count);
    if (status == ENCDIFF_OK) parity_row(p, name, parity_error(ours, theirs, count), bound);
    ed_free(p->env, theirs);
    return status;
}

encdiff_status parity_compare_scalar(parity *p, const char *name, double ours, double bound)
{
    float value = (float)ours;
    return parity_compare(p, name, &value, 1, bound);
}

/* ---------------------------------------------------------------- configuration */

encdiff_status parity_config(const parity *p, ed_config *config)
{
    ED_TRY(ed_config_resolve(p->env, "{}", NULL, 0, config));
    config->train_autoencoder.perceptual_weight = 0; /* only the cases that want these networks pay for them */
    config->train_autoencoder.discriminator = false;
    return ENCDIFF_OK;
}

static encdiff_status levels(const parity *p, ed_json *json, const char *key, ed_levels *out)
{
    int64_t values[ED_MAX_LEVELS];
    int count = -1;
    ED_TRY(ed_json_ints(p->env, json, key, 1, 64, 1, ED_MAX_LEVELS, values, &count));
    if (count < 0 || !ed_json_find(json, key)) return ENCDIFF_OK;
    out->count = count;
    for (int i = 0; i < count; i++) out->values[i] = (int)values[i];
    return ENCDIFF_OK;
}

encdiff_status parity_config_unet(const parity *p, ed_json *json, ed_config *config)
{
    ED_TRY(ed_json_int32(p->env, json, "model_channels", 1, 4096, &config->unet.model_channels));
    ED_TRY(ed_json_int32(p->env, json, "num_res_blocks", 1, 16, &config->unet.num_res_blocks));
    ED_TRY(ed_json_int32(p->env, json, "num_heads", 1, 64, &config->unet.num_heads));
    ED_TRY(ed_json_int32(p->env, json, "tokens", 1, 1024, &config->encoder.latent_unit));
    ED_TRY(ed_json_int32(p->env, json, "context_dim", 1, 1024, &config->encoder.context_dim));
    ED_TRY(levels(p, json, "channel_mult", &config->unet.channel_mult));
    return levels(p, json, "attention_resolutions", &config->unet.attention_resolutions);
}

encdiff_status parity_config_encoder(const parity *p, ed_json *json, ed_config *config)
{
    ED_TRY(ed_json_int32(p->env, json, "d", 1, 4096, &config->encoder.d));
    ED_TRY(ed_json_int32(p->env, json, "latent_unit", 1, 1024, &config->encoder.latent_unit));
    ED_TRY(ed_json_int32(p->env, json, "context_dim", 1, 1024, &config->encoder.context_dim));
    return ed_json_int32(p->env, json, "resolution", 16, 1024, &config->image.resolution);
}

encdiff_status parity_config_autoencoder(const parity *p, ed_json *json, ed_config *config)
{
    bool kl = false;
    ED_TRY(ed_json_int32(p->env, json, "ch", 1, 1024, &config->autoencoder.ch));
    ED_TRY(ed_json_int32(p->env, json, "num_res_blocks", 1, 16, &config->autoencoder.num_res_blocks));
    ED_TRY(ed_json_int32(p->env, json, "z_channels", 1, 256, &config->autoencoder.z_channels));
    ED_TRY(ed_json_int32(p->env, json, "n_embed", 1, 65536, &config->autoencoder.n_embed));
    ED_TRY(ed_json_int32(p->env, json, "embed_dim", 1, 256, &config->autoencoder.embed_dim));
    ED_TRY(ed_json_int32(p->env, json, "resolution", 16, 1024, &config->image.resolution));
    ED_TRY(ed_json_bool(p->env, json, "double_z", &kl));
    config->autoencoder.kind = kl ? ED_AE_KL : ED_AE_VQ;
    return levels(p, json, "ch_mult", &config->autoencoder.ch_mult);
}

encdiff_status parity_config_discriminator(const parity *p, ed_json *json, ed_config *config)
{
    config->train_autoencoder.discriminator = true;
    ED_TRY(ed_json_int32(p->env, json, "ndf", 1, 1024, &config->train_autoencoder.disc_ndf));
    ED_TRY(ed_json_float(p->env, json, "disc_weight", 0, 100, &config->train_autoencoder.disc_weight));
    return ed_json_int32(p->env, json, "n_layers", 1, 8, &config->train_autoencoder.disc_num_layers);
}
