/*
 * Some updates of encoder and U-Net with given images, timesteps and noise: latents of the frozen autoencoder with the
 * scale of the first batch, L1 loss, AdamW, the moving average with warm-up, running statistics.
 */
#include <stdio.h>

#include "model/place.h"
#include "parity.h"
#include "train/trainer.h"

typedef struct training {
    ed_networks networks;
    ed_team *team;
    ed_infer *infer;
    ed_trainer *trainer;
    int steps;
    int64_t n;                       /* images of a batch */
    int64_t size, channels, latents; /* of images; of latents */
    float *images, *noise;           /* NHWC, all steps */
    float *losses;                   /* [steps] */
    int32_t *timesteps;
} training;

static void free_training(parity *p, training *t)
{
    ed_free(p->env, t->images);
    ed_free(p->env, t->noise);
    ed_free(p->env, t->losses);
    ed_free(p->env, t->timesteps);
    ed_trainer_free(t->trainer);
    ed_infer_free(t->infer);
    ed_team_free(t->team);
    ed_networks_free(&t->networks);
}

static encdiff_status read_config(parity *p, ed_config *config)
{
    ed_json *unet, *first_stage, *encoder;
    ED_TRY(parity_config(p, config));
    ED_TRY(ed_json_group(p->env, p->config, "unet", &unet));
    ED_TRY(ed_json_group(p->env, p->config, "first_stage", &first_stage));
    ED_TRY(ed_json_group(p->env, p->config, "encoder", &encoder));
    ED_TRY(parity_config_unet(p, unet, config));
    ED_TRY(parity_config_autoencoder(p, first_stage, config));
    ED_TRY(parity_config_encoder(p, encoder, config));
    ED_TRY(ed_json_float(p->env, p->config, "lr", 0, 1, &config->train_encdiff.base_learning_rate));
    ED_TRY(ed_json_float(p->env, p->config, "weight_decay", 0, 1, &config->train_encdiff.weight_decay));
    ED_TRY(ed_json_float(p->env, p->config, "beta1", 0, 1, &config->train_encdiff.beta1));
    ED_TRY(ed_json_float(p->env, p->config, "beta2", 0, 1, &config->train_encdiff.beta2));
    ED_TRY(ed_json_float(p->env, p->config, "eps", 0, 1, &config->train_encdiff.eps));
    ED_TRY(ed_json_float(p->env, p->config, "ema_decay", 0, 1, &config->train_encdiff.ema_decay));
    config->train_encdiff.warm_up_steps = 0;
    return ENCDIFF_OK;
}

/* A tensor [steps, n, c, h, w] as NHWC. */
static encdiff_status read_images(parity *p, const char *name, float **out)
{
    const ed_st_tensor *tensor;
    float *outside = NULL;
    ED_TRY(parity_find(p, name, &tensor));
    *out = ed_alloc(p->env, (size_t)tensor->count, sizeof **out);
    if (!*out) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = parity_read(p, name, &outside, NULL);
    const int64_t *d = tensor->dim;
    if (status == ENCDIFF_OK) ed_nchw_to_nhwc(outside, *out, d[0] * d[1], d[2], d[3], d[4]);
    ed_free(p->env, outside);
    return status;
}

static encdiff_status read_timesteps(parity *p, training *t)
{
    float *values = NULL;
    int64_t count = 0;
    encdiff_status status = parity_read(p, "t", &values, &count);
    if (status == ENCDIFF_OK && !(t->timesteps = ed_alloc(p->env, (size_t)count, sizeof *t->timesteps)))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int64_t i = 0; i < count && status == ENCDIFF_OK; i++) t->timesteps[i] = (int32_t)values[i];
    ed_free(p->env, values);
    return status;
}

static encdiff_status create(parity *p, training *t)
{
    const ed_st_tensor *images, *noise;
    ed_config config;
    ED_TRY(parity_find(p, "images", &images));
    ED_TRY(parity_find(p, "noise", &noise));
    t->steps = (int)images->dim[0];
    t->n = images->dim[1];
    t->size = images->dim[3];
    t->channels = noise->dim[2];
    t->latents = noise->dim[3];
    ED_TRY(read_config(p, &config));
    uint32_t sets = 1u << ED_SET_UNET | 1u << ED_SET_ENCODER | 1u << ED_SET_FIRST_STAGE;
    ED_TRY(parity_networks(p, &config, sets, &t->networks));
    ED_TRY(ed_team_create(p->env, p->backend, p->ranks, &t->team));
    ED_TRY(ed_infer_create(t->team, &t->networks, &t->infer));
    ed_trainer_options options = {.stage = ED_STAGE_ENCDIFF,
                                  .batch = t->n,
                                  .learning_rate = config.train_encdiff.base_learning_rate,
                                  .ema = true};
    ED_TRY(ed_trainer_create(t->team, &t->networks, t->infer, NULL, &options, &t->trainer));
    t->losses = ed_alloc(p->env, (size_t)t->steps, sizeof *t->losses);
    if (!t->losses) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ED_TRY(read_images(p, "images", &t->images));
    ED_TRY(read_images(p, "noise", &t->noise));
    return read_timesteps(p, t);
}

static encdiff_status train(training *t)
{
    size_t image = (size_t)(t->n * t->size * t->size * 3),
           latent = (size_t)(t->n * t->channels * t->latents * t->latents);
    for (int i = 0; i < t->steps; i++) {
        ed_given given = {.n = t->n,
                          .images = t->images + (size_t)i * image,
                          .timesteps = t->timesteps + (int64_t)i * t->n,
                          .noise = t->noise + (size_t)i * latent};
        ED_TRY(ed_trainer_step(t->trainer, &given));
        t->losses[i] = (float)t->trainer->report.losses.values[0];
    }
    return ENCDIFF_OK;
}

/*
 * A bias before a batch norm has no gradient but rounding noise, and Adam turns noise into steps of the learning rate:
 * after step i two computations, also two of PyTorch's with different numbers of threads, are up to 2 i lr apart. The
 * norm takes the bias away again, but its running mean m += momentum * (mean - m) has seen it.
 */
static double drift_of_means(const training *t)
{
    double momentum = 0.1, lr = t->networks.config.train_encdiff.base_learning_rate, drift = 0;
    for (int i = 0; i < t->steps; i++) drift += momentum * (2 * i * lr - drift);
    return drift;
}

static encdiff_status compare_trained(parity *p, training *t)
{
    const ed_params *unet = &t->networks.sets[ED_SET_UNET], *encoder = &t->networks.sets[ED_SET_ENCODER];
    double drift = drift_of_means(t);
    ED_TRY(ed_networks_fetch(t->team, &t->networks));
    ED_TRY(parity_compare_scalar(p, "scale_factor", t->networks.scale_factor, FORWARD_BOUND));
    ED_TRY(parity_compare(p, "losses", t->losses, t->steps, FORWARD_BOUND));
    ED_TRY(parity_compare_values(p, unet, unet->values, "final.", "trained", TRAINED_BOUND, drift));
    ED_TRY(parity_compare_values(p, encoder, encoder->values, "final.", "trained", TRAINED_BOUND, drift));
    return parity_compare_values(p, unet, t->networks.averages[ED_SET_UNET], "ema.", "averages", TRAINED_BOUND, 0);
}

encdiff_status parity_train(parity *p)
{
    training t = {0};
    encdiff_status status = create(p, &t);
    if (status == ENCDIFF_OK) status = train(&t);
    if (status == ENCDIFF_OK) status = compare_trained(p, &t);
    free_training(p, &t);
    return status;
}
