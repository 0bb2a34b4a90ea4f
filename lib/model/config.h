/*
 * model: the networks of EncDiff composed of layers, and the configuration that shapes and trains them.
 *
 * The configuration is the JSON's groups as one struct: read once, validated, never changed. config.def has every key
 * with default and range, config_check.c what keys must fulfil together, ../../configs the presets, which are compiled
 * in. Missing keys are at their defaults, the released Shapes3D configuration; the published values are those of
 * Yang et al. 2024 (EncDiff) and Rombach et al. 2022 (latent diffusion).
 */
#ifndef ED_CONFIG_H
#define ED_CONFIG_H

#include "base/json.h"

#define ED_MAX_LEVELS 8

typedef enum ed_autoencoder_kind { ED_AE_VQ, ED_AE_KL, ED_AE_AVERAGE, ED_AE_NONE } ed_autoencoder_kind;
typedef enum ed_schedule_kind {
    ED_SCHEDULE_LINEAR,      /* linear in sqrt(beta), as the literature names it */
    ED_SCHEDULE_SQRT_LINEAR, /* linear in beta */
    ED_SCHEDULE_SQRT,
    ED_SCHEDULE_COSINE
} ed_schedule_kind;
typedef enum ed_parameterization { ED_PREDICT_EPS, ED_PREDICT_X0, ED_PREDICT_V } ed_parameterization;
typedef enum ed_config_loss { ED_CONFIG_L1, ED_CONFIG_L2 } ed_config_loss;
typedef enum ed_ema_scope { ED_EMA_UNET, ED_EMA_ALL } ed_ema_scope;
typedef enum ed_disc_loss { ED_DISC_HINGE, ED_DISC_VANILLA } ed_disc_loss;

typedef struct ed_levels {
    int count;
    int values[ED_MAX_LEVELS];
} ed_levels;

typedef struct ed_config {
    struct {
        int resolution; /* height = width, a multiple of 16 for the encoder and of the autoencoder's factor */
    } image;
    struct {
        ed_autoencoder_kind kind;
        int ch, num_res_blocks, z_channels, embed_dim, n_embed; /* vq, kl; ch a multiple of 32, the norms' groups */
        ed_levels ch_mult;
        double beta; /* vq: weight of the codebook term in legacy mode, of the commitment term otherwise */
        bool legacy;
        int factor; /* average: side of the block that becomes one latent pixel; vq, kl: 2^(levels of ch_mult - 1) */
    } autoencoder;
    struct {
        int d;           /* width */
        int latent_unit; /* number of concepts */
        int context_dim; /* size of a token */
    } encoder;
    struct {
        int model_channels, num_res_blocks, num_heads; /* model_channels a multiple of 32 */
        ed_levels channel_mult, attention_resolutions; /* the latter are downsampling factors: 1, 2, 4, ... */
        bool use_scale_shift_norm;
        double dropout;
    } unet;
    struct {
        int timesteps;
        ed_schedule_kind beta_schedule;
        double linear_start, linear_end, cosine_s;
        ed_parameterization parameterization;
        ed_config_loss loss_type;
    } diffusion;
    struct {
        int batch_size, accumulate_grad_batches; /* an update sees batch_size x accumulate_grad_batches images */
        int64_t steps;                           /* updates */
        double base_learning_rate;               /* multiplied by batch_size x accumulate_grad_batches when scale_lr */
        bool scale_lr;
        double beta1, beta2;
        double pixelloss_weight, perceptual_weight, codebook_weight;
        double kl_weight, logvar_init;
        double disc_weight, disc_factor;
        int64_t disc_start; /* the step from which the generator sees the discriminator */
        bool discriminator; /* false: no adversarial term, no discriminator */
        ed_disc_loss disc_loss;
        int disc_ndf, disc_num_layers;
        double grad_clip;         /* 0: none */
        char lpips_weights[1024]; /* file with VGG16 and the linear heads; training needs it if perceptual_weight > 0 */
    } train_autoencoder;
    struct {
        int batch_size, accumulate_grad_batches;
        int64_t steps;
        double base_learning_rate; /* not scaled by the batch */
        double beta1, beta2, eps, weight_decay;
        int64_t warm_up_steps;
        double f_start; /* the learning rate's factor at step 0 of the warm-up */
        bool use_ema;
        double ema_decay;
        bool ema_warm_up; /* decay min(ema_decay, (1 + n) / (10 + n)) */
        ed_ema_scope ema_scope;
        bool scale_by_std; /* latents times 1 / std of the first batch */
        bool cache_latents;
        double grad_clip; /* 0: none */
        int micro_batch;  /* images per pass through the U-Net; 0: chosen by the library */
        bool recompute;   /* activations of the U-Net again in its backward pass: a third of their memory, slower */
        int ddim_steps;   /* of the pictures made while training */
        double ddim_eta;
    } train_encdiff;
    struct {
        char source[1024];                                /* default of --data: a path or "procedural:shapes3d" */
        int64_t log_every, image_every, checkpoint_every; /* steps; 0: never */
        int64_t evaluate_every;                           /* steps of the encdiff stage between evaluations; 0: never */
        int64_t evaluate_every_epochs;                    /* the same in epochs; both may be given */
        char evaluate_metrics[1024];                      /* "factor_vae,dci"; "": all that labels allow */
        char keep_best[1024];                             /* "factor_vae.eval": scores whose best checkpoint is kept */
        uint64_t seed;
    } data;
} ed_config;

/*
 * The values of `json`, defaults for what it leaves out. An unknown key, a wrong type, an impossible value or
 * combination is ENCDIFF_ERROR_CONFIG, and the message names the key, what was expected and what was found.
 */
encdiff_status ed_config_read(ed_env *env, const ed_json *json, ed_config *config);
/* The whole configuration, every key present. `pretty`: indented. Appends to `out`. */
encdiff_status ed_config_print(ed_env *env, const ed_config *config, bool pretty, ed_text *out);
/*
 * `source` is a preset's name, JSON text that begins with '{', or a path of a JSON file; overrides are
 * "group.key=value", later ones win. ENCDIFF_ERROR_NOT_FOUND when it is none of these; ENCDIFF_ERROR_FORMAT for text
 * that is not JSON.
 */
encdiff_status ed_config_resolve(ed_env *env, const char *source, const char *const *overrides, int count,
                                 ed_config *config);
/*
 * What keys must fulfil together; ed_config_read() has called it. Call it again after changing fields in C. The second
 * is what training the autoencoder needs besides, and what a model that is only to be used does not: something to
 * train, and LPIPS weights (`lpips_weights`, NULL or "": none) if perceptual_weight is above 0.
 */
encdiff_status ed_config_check(ed_env *env, const ed_config *config);
encdiff_status ed_config_check_autoencoder_training(ed_env *env, const ed_config *config, const char *lpips_weights);

/* Presets, in the order of lib/model/meson.build. NULL when index is out of range. */
int ed_preset_count(void);
const char *ed_preset_name(int index);
const char *ed_preset_description(int index);
const char *ed_preset_json(int index); /* configs/NAME.json: what differs from the defaults */
int ed_preset_find(const char *name);  /* -1 when there is none */

/* Derived numbers. */
int ed_config_latent_channels(const ed_config *config); /* 3 for pixel space and averages, else embed_dim */
int ed_config_factor(const ed_config *config);          /* resolution / latent size */
int ed_config_latent_size(const ed_config *config);     /* height = width of a latent */
double ed_config_autoencoder_learning_rate(const ed_config *config); /* scaled by the batch when scale_lr */

#endif
