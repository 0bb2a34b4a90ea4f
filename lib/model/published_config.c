/* The published code's configurations: which of their keys are which of ours. */
#include <stdio.h>

#include "io/yaml.h"
#include "model/published_config.h"

typedef struct move {
    const char *from; /* below the node that the table is of */
    const char *group, *key;
} move;

/* Of model.params of a latent diffusion model. Where a list is given for a number, as in schedules of several cycles,
 * its first entry counts. */
static const move of_diffusion[] = {
    {"timesteps", "diffusion", "timesteps"},
    {"beta_schedule", "diffusion", "beta_schedule"},
    {"linear_start", "diffusion", "linear_start"},
    {"linear_end", "diffusion", "linear_end"},
    {"cosine_s", "diffusion", "cosine_s"},
    {"parameterization", "diffusion", "parameterization"},
    {"loss_type", "diffusion", "loss_type"},
    {"scale_by_std", "train_encdiff", "scale_by_std"},
    {"use_ema", "train_encdiff", "use_ema"},
    {"scheduler_config.params.warm_up_steps", "train_encdiff", "warm_up_steps"},
    {"scheduler_config.params.f_start", "train_encdiff", "f_start"},
    {"unet_config.params.model_channels", "unet", "model_channels"},
    {"unet_config.params.channel_mult", "unet", "channel_mult"},
    {"unet_config.params.num_res_blocks", "unet", "num_res_blocks"},
    {"unet_config.params.attention_resolutions", "unet", "attention_resolutions"},
    {"unet_config.params.num_heads", "unet", "num_heads"},
    {"unet_config.params.use_scale_shift_norm", "unet", "use_scale_shift_norm"},
    {"unet_config.params.dropout", "unet", "dropout"},
    {"cond_stage_config.params.d", "encoder", "d"},
    {"cond_stage_config.params.latent_unit", "encoder", "latent_unit"},
    {"cond_stage_config.params.context_dim", "encoder", "context_dim"},
};

/* Of the params of an autoencoder. */
static const move of_autoencoder[] = {
    {"embed_dim", "autoencoder", "embed_dim"},
    {"n_embed", "autoencoder", "n_embed"},
    {"ddconfig.resolution", "image", "resolution"},
    {"ddconfig.z_channels", "autoencoder", "z_channels"},
    {"ddconfig.ch", "autoencoder", "ch"},
    {"ddconfig.ch_mult", "autoencoder", "ch_mult"},
    {"ddconfig.num_res_blocks", "autoencoder", "num_res_blocks"},
    {"lossconfig.params.disc_start", "train_autoencoder", "disc_start"},
    {"lossconfig.params.disc_weight", "train_autoencoder", "disc_weight"},
    {"lossconfig.params.disc_factor", "train_autoencoder", "disc_factor"},
    {"lossconfig.params.disc_ndf", "train_autoencoder", "disc_ndf"},
    {"lossconfig.params.disc_num_layers", "train_autoencoder", "disc_num_layers"},
    {"lossconfig.params.disc_loss", "train_autoencoder", "disc_loss"},
    {"lossconfig.params.codebook_weight", "train_autoencoder", "codebook_weight"},
    {"lossconfig.params.pixelloss_weight", "train_autoencoder", "pixelloss_weight"},
    {"lossconfig.params.perceptual_weight", "train_autoencoder", "perceptual_weight"},
    {"lossconfig.params.kl_weight", "train_autoencoder", "kl_weight"},
    {"lossconfig.params.logvar_init", "train_autoencoder", "logvar_init"},
};

/* What our networks are: another value would be another network. */
static const struct {
    const char *from;
    double value;
} wanted_of_diffusion[] = {{"unet_config.params.resblock_updown", 1},
                           {"unet_config.params.use_spatial_transformer", 1},
                           {"unet_config.params.transformer_depth", 1}};

/* ---------------------------------------------------------------- walking */

/* "a.b.c" below a node, or NULL. */
static const ed_json *at(const ed_json *node, const char *path)
{
    char key[64];
    while (node && *path) {
        size_t length = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        node = ed_json_find(node, key);
        path += length + (path[length] == '.');
    }
    return node;
}

static double number_at(const ed_json *node, const char *path, double otherwise)
{
    const ed_json *value = at(node, path);
    return value && value->kind == ED_JSON_NUMBER ? value->number : otherwise;
}

static bool is_list_of_ours(const char *key)
{
    return strcmp(key, "channel_mult") == 0 || strcmp(key, "ch_mult") == 0 || strcmp(key, "attention_resolutions") == 0;
}

static encdiff_status group_of(ed_env *env, ed_json *root, const char *name, ed_json **out)
{
    *out = ed_json_find(root, name);
    return *out ? ENCDIFF_OK : ed_json_put_new(env, root, name, ED_JSON_OBJECT, out);
}

static encdiff_status take(ed_env *env, ed_json *root, const ed_json *params, const move *moves, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const ed_json *value = at(params, moves[i].from);
        ed_json *group;
        if (value && value->kind == ED_JSON_ARRAY && value->count && !is_list_of_ours(moves[i].key))
            value = value->items[0];
        if (!value || value->kind == ED_JSON_NULL) continue;
        ED_TRY(group_of(env, root, moves[i].group, &group));
        ED_TRY(ed_json_put(env, group, moves[i].key, ed_json_copy(env, value)));
    }
    return ENCDIFF_OK;
}

static encdiff_status put_number(ed_env *env, ed_json *root, const char *group_name, const char *key, double value)
{
    ed_json *group;
    ED_TRY(group_of(env, root, group_name, &group));
    return ed_json_put_number(env, group, key, value);
}

/* ---------------------------------------------------------------- the two kinds */

/* The class that a "target" names, without its modules. */
static const char *target_of(const ed_json *node)
{
    const ed_json *target = at(node, "target");
    if (!target || target->kind != ED_JSON_STRING) return "";
    const char *dot = strrchr(target->string, '.');
    return dot ? dot + 1 : target->string;
}

static const char *kind_of(const char *class)
{
    if (strcmp(class, "VQModel") == 0 || strcmp(class, "VQModelInterface") == 0) return "vq";
    if (strcmp(class, "AutoencoderKL") == 0) return "kl";
    return strcmp(class, "IdentityFirstStage") == 0 ? "none" : NULL;
}

static encdiff_status take_autoencoder(ed_env *env, const char *path, ed_json *root, const ed_json *node)
{
    const ed_json *params = at(node, "params"), *attention = at(params, "ddconfig.attn_resolutions");
    const char *kind = kind_of(target_of(node));
    ed_json *group;
    if (!kind)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: an autoencoder of class \"%s\"", path, target_of(node));
    if (attention && attention->count)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED,
                       "%s: ddconfig.attn_resolutions: our autoencoders have attention in their middle alone", path);
    ED_TRY(group_of(env, root, "autoencoder", &group));
    ED_TRY(ed_json_put_string(env, group, "kind", kind));
    return take(env, root, params, of_autoencoder, ED_COUNT(of_autoencoder));
}

static encdiff_status check_diffusion(ed_env *env, const char *path, const ed_json *params)
{
    for (size_t i = 0; i < ED_COUNT(wanted_of_diffusion); i++) {
        const ed_json *value = at(params, wanted_of_diffusion[i].from);
        if (value && value->number != wanted_of_diffusion[i].value)
            return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: %s is %g; our U-Net is that of %g", path,
                           wanted_of_diffusion[i].from, value->number, wanted_of_diffusion[i].value);
    }
    return ENCDIFF_OK;
}

/* Learning rates are per image there and multiplied when training begins; ours of this stage is what results. */
static encdiff_status take_diffusion(ed_env *env, const char *path, ed_json *root, const ed_json *yaml,
                                     const ed_json *model)
{
    const ed_json *params = at(model, "params"), *first_stage = at(params, "first_stage_config");
    double batch = number_at(yaml, "data.params.batch_size", 0),
           accumulate = number_at(yaml, "lightning.trainer.accumulate_grad_batches", 1),
           rate = number_at(model, "base_learning_rate", 0);
    ED_TRY(check_diffusion(env, path, params));
    ED_TRY(take(env, root, params, of_diffusion, ED_COUNT(of_diffusion)));
    if (batch > 0) ED_TRY(put_number(env, root, "train_encdiff", "batch_size", batch));
    ED_TRY(put_number(env, root, "train_encdiff", "accumulate_grad_batches", accumulate));
    if (rate > 0 && batch > 0)
        ED_TRY(put_number(env, root, "train_encdiff", "base_learning_rate", rate * batch * accumulate));
    return first_stage ? take_autoencoder(env, path, root, first_stage) : ENCDIFF_OK;
}

static encdiff_status take_autoencoder_stage(ed_env *env, const char *path, ed_json *root, const ed_json *yaml,
                                             const ed_json *model)
{
    double batch = number_at(yaml, "data.params.batch_size", 0), rate = number_at(model, "base_learning_rate", 0);
    ED_TRY(take_autoencoder(env, path, root, model));
    if (batch > 0) ED_TRY(put_number(env, root, "train_autoencoder", "batch_size", batch));
    if (rate > 0) ED_TRY(put_number(env, root, "train_autoencoder", "base_learning_rate", rate));
    return put_number(env, root, "train_autoencoder", "accumulate_grad_batches",
                      number_at(yaml, "lightning.trainer.accumulate_grad_batches", 1));
}

bool ed_published_config_detect(const char *path)
{
    size_t length = strlen(path);
    return (length > 5 && strcmp(path + length - 5, ".yaml") == 0) ||
           (length > 4 && strcmp(path + length - 4, ".yml") == 0);
}

encdiff_status ed_published_config_read(ed_env *env, const char *path, ed_json **out)
{
    ed_json *yaml, *root = NULL;
    *out = NULL;
    ED_TRY(ed_yaml_read(env, path, &yaml));
    const ed_json *model = ed_json_find(yaml, "model");
    encdiff_status status = ENCDIFF_OK;
    if (!at(model, "params"))
        status = ed_fail(env, ENCDIFF_ERROR_CONFIG, "%s: has no model.params, so it is none of the published code's",
                         path);
    else if (!(root = ed_json_new(env, ED_JSON_OBJECT)))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    else if (at(model, "params.unet_config"))
        status = take_diffusion(env, path, root, yaml, model);
    else
        status = take_autoencoder_stage(env, path, root, yaml, model);
    ed_json_free(env, yaml);
    if (status == ENCDIFF_OK)
        *out = root;
    else
        ed_json_free(env, root);
    return status;
}
