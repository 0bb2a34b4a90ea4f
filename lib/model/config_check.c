/* What keys of a configuration must fulfil together, and the numbers that follow from them. */
#include <inttypes.h>

#include "model/config.h"

#define NORM_GROUPS 32      /* of every GroupNorm in the autoencoder and the U-Net */
#define MOST_CHANNELS 16384 /* of a layer; far beyond use, and no product of sizes comes near an overflow */
#define ENCODER_STRIDE 16   /* the concept encoder halves four times */

/* ---------------------------------------------------------------- derived numbers */

static bool is_learnt(const ed_config *config)
{
    return config->autoencoder.kind == ED_AE_VQ || config->autoencoder.kind == ED_AE_KL;
}

int ed_config_latent_channels(const ed_config *config) { return is_learnt(config) ? config->autoencoder.embed_dim : 3; }

int ed_config_factor(const ed_config *config)
{
    if (is_learnt(config)) return 1 << (config->autoencoder.ch_mult.count - 1);
    return config->autoencoder.kind == ED_AE_AVERAGE ? config->autoencoder.factor : 1;
}

int ed_config_latent_size(const ed_config *config) { return config->image.resolution / ed_config_factor(config); }

double ed_config_autoencoder_learning_rate(const ed_config *config)
{
    double rate = config->train_autoencoder.base_learning_rate;
    if (!config->train_autoencoder.scale_lr) return rate;
    return rate * config->train_autoencoder.batch_size * config->train_autoencoder.accumulate_grad_batches;
}

/* ---------------------------------------------------------------- networks */

#define REFUSE(...) return ed_fail(env, ENCDIFF_ERROR_CONFIG, __VA_ARGS__)

static encdiff_status check_channels(ed_env *env, const char *width_key, int width, const char *mult_key,
                                     const ed_levels *mult)
{
    if (width % NORM_GROUPS != 0)
        REFUSE("%s: expected a multiple of %d, the groups of the normalisation, got %d", width_key, NORM_GROUPS, width);
    for (int i = 0; i < mult->count; i++)
        if ((int64_t)width * mult->values[i] > MOST_CHANNELS)
            REFUSE("%s[%d]: expected at most %d channels, got %d times %s %d", mult_key, i, MOST_CHANNELS,
                   mult->values[i], width_key, width);
    return ENCDIFF_OK;
}

static encdiff_status check_resolution(ed_env *env, const ed_config *config)
{
    int resolution = config->image.resolution, factor = ed_config_factor(config);
    if (resolution % ENCODER_STRIDE != 0)
        REFUSE("image.resolution: expected a multiple of %d, which the concept encoder needs, got %d", ENCODER_STRIDE,
               resolution);
    if (resolution % factor == 0) return ENCDIFF_OK;
    if (is_learnt(config))
        REFUSE("autoencoder.ch_mult: expected levels whose factor 2^(levels - 1) divides image.resolution %d, got %d "
               "levels",
               resolution, config->autoencoder.ch_mult.count);
    REFUSE("autoencoder.factor: expected a divisor of image.resolution %d, got %d", resolution, factor);
}

static encdiff_status check_autoencoder(ed_env *env, const ed_config *config)
{
    if (!is_learnt(config)) return ENCDIFF_OK;
    return check_channels(env, "autoencoder.ch", config->autoencoder.ch, "autoencoder.ch_mult",
                          &config->autoencoder.ch_mult);
}

/* Attention is at the listed levels and always in the middle. */
static encdiff_status check_heads(ed_env *env, const ed_config *config)
{
    const ed_levels *mult = &config->unet.channel_mult, *attention = &config->unet.attention_resolutions;
    int heads = config->unet.num_heads;
    for (int level = 0; level < mult->count; level++) {
        bool here = level == mult->count - 1;
        for (int i = 0; i < attention->count; i++) here = here || attention->values[i] == 1 << level;
        int channels = config->unet.model_channels * mult->values[level];
        if (here && channels % heads != 0)
            REFUSE("unet.num_heads: expected a divisor of the channels that attend, got %d for the %d channels of "
                   "level %d",
                   heads, channels, level);
    }
    return ENCDIFF_OK;
}

static encdiff_status check_attention(ed_env *env, const ed_config *config)
{
    const ed_levels *attention = &config->unet.attention_resolutions;
    int deepest = 1 << (config->unet.channel_mult.count - 1);
    for (int i = 0; i < attention->count; i++) {
        int value = attention->values[i];
        if ((value & (value - 1)) != 0)
            REFUSE("unet.attention_resolutions[%d]: expected a power of two (a downsampling factor), got %d", i, value);
        if (value > deepest)
            REFUSE("unet.attention_resolutions[%d]: expected at most %d, which unet.channel_mult reaches with its %d "
                   "levels, got %d",
                   i, deepest, config->unet.channel_mult.count, value);
        for (int j = 0; j < i; j++)
            if (attention->values[j] == value)
                REFUSE("unet.attention_resolutions[%d]: expected each factor once, got %d again", i, value);
    }
    return ENCDIFF_OK;
}

static encdiff_status check_unet(ed_env *env, const ed_config *config)
{
    int deepest = 1 << (config->unet.channel_mult.count - 1), latent = ed_config_latent_size(config);
    ED_TRY(check_channels(env, "unet.model_channels", config->unet.model_channels, "unet.channel_mult",
                          &config->unet.channel_mult));
    if (latent % deepest != 0)
        REFUSE("unet.channel_mult: expected levels whose factor 2^(levels - 1) divides the latents' size %d, got %d "
               "levels",
               latent, config->unet.channel_mult.count);
    ED_TRY(check_attention(env, config));
    return check_heads(env, config);
}

/* ---------------------------------------------------------------- diffusion and training */

static encdiff_status check_diffusion(ed_env *env, const ed_config *config)
{
    if (config->diffusion.linear_start > config->diffusion.linear_end)
        REFUSE("diffusion.linear_start: expected at most linear_end %g, got %g", config->diffusion.linear_end,
               config->diffusion.linear_start);
    if (config->train_encdiff.ddim_steps > config->diffusion.timesteps)
        REFUSE("train_encdiff.ddim_steps: expected at most diffusion.timesteps %d, got %d", config->diffusion.timesteps,
               config->train_encdiff.ddim_steps);
    return ENCDIFF_OK;
}

/* The concept encoder's last BatchNorm sees resolution / 16 squared values an image and needs two in a batch. */
static encdiff_status check_encdiff_training(ed_env *env, const ed_config *config)
{
    int batch = config->train_encdiff.batch_size;
    if (batch < 2 && config->image.resolution == ENCODER_STRIDE)
        REFUSE("train_encdiff.batch_size: expected at least 2 at image.resolution %d, got %d", ENCODER_STRIDE, batch);
    if (config->train_encdiff.micro_batch > batch)
        REFUSE("train_encdiff.micro_batch: expected at most batch_size %d, got %d", batch,
               config->train_encdiff.micro_batch);
    return ENCDIFF_OK;
}

/* Each of the discriminator's first layers halves; the two last, stride 1, take one pixel each. */
static encdiff_status check_discriminator(ed_env *env, const ed_config *config)
{
    int layers = config->train_autoencoder.disc_num_layers, resolution = config->image.resolution;
    if (!config->train_autoencoder.discriminator || !is_learnt(config)) return ENCDIFF_OK;
    if ((resolution >> layers) < 3)
        REFUSE("train_autoencoder.disc_num_layers: expected 2^layers at most a third of image.resolution %d, got %d",
               resolution, layers);
    return ENCDIFF_OK;
}

/* Without any of the three terms nothing would say that reconstructions should look like images. */
static encdiff_status check_terms(ed_env *env, const ed_config *config)
{
    bool reconstruction = config->train_autoencoder.pixelloss_weight > 0 ||
                          config->train_autoencoder.perceptual_weight > 0;
    if (is_learnt(config) && !reconstruction)
        REFUSE("train_autoencoder.pixelloss_weight: expected above 0 when perceptual_weight is 0, got 0");
    if (is_learnt(config) && ed_config_autoencoder_learning_rate(config) > 1)
        REFUSE("train_autoencoder.base_learning_rate: expected a rate of at most 1 after scale_lr, got %g times %d "
               "times %d",
               config->train_autoencoder.base_learning_rate, config->train_autoencoder.batch_size,
               config->train_autoencoder.accumulate_grad_batches);
    return ENCDIFF_OK;
}

encdiff_status ed_config_check(ed_env *env, const ed_config *config)
{
    ED_TRY(check_resolution(env, config));
    ED_TRY(check_autoencoder(env, config));
    ED_TRY(check_unet(env, config));
    ED_TRY(check_diffusion(env, config));
    ED_TRY(check_discriminator(env, config));
    ED_TRY(check_terms(env, config));
    return check_encdiff_training(env, config);
}

encdiff_status ed_config_check_autoencoder_training(ed_env *env, const ed_config *config, const char *lpips_weights)
{
    if (!is_learnt(config))
        REFUSE("autoencoder.kind: expected \"vq\" or \"kl\", which can be trained, got \"%s\"",
               config->autoencoder.kind == ED_AE_AVERAGE ? "average" : "none");
    if (config->train_autoencoder.perceptual_weight > 0 && (!lpips_weights || !*lpips_weights))
        REFUSE("train_autoencoder.lpips_weights: expected a file with VGG16 and the LPIPS heads, because "
               "train_autoencoder.perceptual_weight is %g; set that to 0 to train without the perceptual loss",
               config->train_autoencoder.perceptual_weight);
    return ENCDIFF_OK;
}
