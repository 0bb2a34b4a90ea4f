/* The configuration of a model and its training: the JSON's groups as one struct. Read once, validated, never changed. */
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
typedef enum ed_parameterization { ED_PREDICT_EPS, ED_PREDICT_X0 } ed_parameterization;
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
        int ch, num_res_blocks, z_channels, embed_dim, n_embed; /* vq, kl */
        ed_levels ch_mult;
        float beta;   /* vq: weight of the codebook term in legacy mode, of the commitment term otherwise */
        bool legacy;
        int factor;   /* average: side of the block that becomes one latent pixel */
    } autoencoder;
    struct {
        int d;            /* width */
        int latent_unit;  /* number of concepts */
        int context_dim;  /* size of a token */
    } encoder;
    struct {
        int model_channels, num_res_blocks, num_heads;
        ed_levels channel_mult, attention_resolutions;
        bool use_scale_shift_norm;
        float dropout;
    } unet;
    struct {
        int timesteps;
        ed_schedule_kind beta_schedule;
        double linear_start, linear_end, cosine_s;
        ed_parameterization parameterization;
        ed_config_loss loss_type;
    } diffusion;
    struct {
        int batch_size, accumulate_grad_batches;
        int64_t steps;
        double base_learning_rate; /* multiplied by batch_size x accumulate_grad_batches when scale_lr */
        bool scale_lr;
        double beta1, beta2;
        double pixelloss_weight, perceptual_weight, codebook_weight;
        double kl_weight, logvar_init;
        double disc_weight, disc_factor;
        int64_t disc_start; /* the step from which the generator sees the discriminator */
        bool discriminator; /* false: no adversarial term, no discriminator */
        ed_disc_loss disc_loss;
        int disc_ndf, disc_num_layers;
        double grad_clip; /* 0: none */
        char lpips_weights[1024]; /* file with VGG16 and the linear heads; "" when perceptual_weight is 0 */
    } train_autoencoder;
    struct {
        int batch_size, accumulate_grad_batches;
        int64_t steps;
        double base_learning_rate; /* not scaled by the batch */
        double beta1, beta2, eps, weight_decay;
        int64_t warm_up_steps;
        double f_start;       /* the learning rate's factor at step 0 of the warm-up */
        bool use_ema;
        double ema_decay;
        bool ema_warm_up;     /* decay min(ema_decay, (1 + n) / (10 + n)) */
        ed_ema_scope ema_scope;
        bool scale_by_std;    /* latents times 1 / std of the first batch */
        bool cache_latents;
        double grad_clip;     /* 0: none */
        int micro_batch;      /* images per pass through the U-Net; 0: chosen by the library */
    } train_encdiff;
    struct {
        char source[1024];    /* default of --data: a path or "procedural:shapes3d" */
        int64_t log_every, image_every, checkpoint_every; /* steps; 0: never */
        uint64_t seed;
    } data;
} ed_config;

/* Defaults are the released Shapes3D configuration. Every unknown key, wrong type and impossible value or combination is
 * ENCDIFF_ERROR_CONFIG whose message names the key and what was expected. */
encdiff_status ed_config_read(ed_env *env, const ed_json *json, ed_config *config);
/* The whole configuration, every key present. `pretty`: indented. Appends to `out`. */
encdiff_status ed_config_print(ed_env *env, const ed_config *config, bool pretty, ed_text *out);
/* `source` is a preset's name, JSON text that begins with '{', or a path of a JSON file; overrides are "group.key=value". */
encdiff_status ed_config_resolve(ed_env *env, const char *source, const char *const *overrides, int count, ed_config *config);

int ed_preset_count(void);
const char *ed_preset_name(int index);
const char *ed_preset_description(int index);
const char *ed_preset_json(int index); /* what differs from the defaults */

/* Derived numbers. */
int ed_config_latent_channels(const ed_config *config); /* 3 for pixel space and averages, else embed_dim */
int ed_config_latent_size(const ed_config *config);     /* height = width of a latent */

#endif
