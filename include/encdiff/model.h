/*
 * The model: concept encoder, autoencoder and denoising U-Net, with the configuration that shapes them.
 */
#ifndef ENCDIFF_MODEL_H
#define ENCDIFF_MODEL_H

#include <encdiff/context.h>
#include <encdiff/image.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The networks of one configuration and their parameters.
 *
 * Thread-safety: that of its context. For another thread make an encdiff_model_share() on that thread's context.
 */
typedef struct encdiff_model encdiff_model;

/* Configuration. */

/* How many presets are built in. */
ENCDIFF_API int32_t encdiff_preset_count(void);

/* Name of a preset, "shapes3d-official"; NULL when index is out of range. */
ENCDIFF_API const char *encdiff_preset_name(int32_t index);

/* One line that says what the preset is for; NULL when index is out of range. */
ENCDIFF_API const char *encdiff_preset_description(int32_t index);

/**
 * Complete a configuration: read it, apply overrides, fill in defaults, validate.
 *
 * config     name of a preset, JSON text (begins with '{'), or path of a JSON file
 * overrides  count texts "group.key=value", value in JSON or a bare word; later ones win. NULL when count is 0
 * json       out, every key with its value; release with encdiff_context_release()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_NOT_FOUND when it is neither preset nor file; ENCDIFF_ERROR_IO;
 * ENCDIFF_ERROR_FORMAT for text that is not JSON; ENCDIFF_ERROR_CONFIG for a key that is unknown or a value that is
 * impossible, which the message names.
 */
ENCDIFF_API encdiff_status encdiff_config_resolve(encdiff_context *context, const char *config,
                                                  const char *const *overrides, int32_t count, char **json);

/* Life and files. */

/**
 * Create an untrained model.
 *
 * config  as for encdiff_config_resolve()
 * seed    of the initial parameters, which are distributed as PyTorch's
 * model   out, to be freed with encdiff_model_free()
 *
 * Returns ENCDIFF_OK or what encdiff_config_resolve() returns.
 */
ENCDIFF_API encdiff_status encdiff_model_create(encdiff_context *context, const char *config, uint64_t seed,
                                                encdiff_model **model);

/**
 * Load a model file or a training checkpoint. The header is read, and every tensor is there with its shape; the values
 * of a network are read by the first call that needs them, so that a program that only encodes neither waits for the
 * U-Net nor has memory for it. Until then the file stays open: it may be deleted or replaced by another, not be written
 * into. Saving, sharing and training read all.
 *
 * path   .safetensors file with the configuration in its metadata
 * model  out, to be freed with encdiff_model_free()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_NOT_FOUND; ENCDIFF_ERROR_IO; ENCDIFF_ERROR_FORMAT for a malformed or truncated
 * file, a missing tensor or one of another shape; ENCDIFF_ERROR_CONFIG. A call that is the first to need a network also
 * returns ENCDIFF_ERROR_NUMERIC where a parameter is NaN or infinite, and ENCDIFF_ERROR_IO.
 */
ENCDIFF_API encdiff_status encdiff_model_load(encdiff_context *context, const char *path, encdiff_model **model);

/* The same from size bytes of memory, which may be freed afterwards: all is read at once, ENCDIFF_ERROR_NUMERIC too. */
ENCDIFF_API encdiff_status encdiff_model_load_memory(encdiff_context *context, const void *data, size_t size,
                                                     encdiff_model **model);

/* What a checkpoint of the published code had: the bits of *found. */
enum {
    ENCDIFF_FOUND_UNET = 1,
    ENCDIFF_FOUND_ENCODER = 2,
    ENCDIFF_FOUND_AUTOENCODER = 4,
    ENCDIFF_FOUND_DISCRIMINATOR = 8,
    ENCDIFF_FOUND_AVERAGES = 16 /* moving averages of the U-Net */
};

/**
 * A model from a checkpoint of the published PyTorch code.
 *
 * path    what torch.save() or Lightning wrote (.ckpt, .pth), or the same tensors as .safetensors: of both stages, or
 * of the autoencoder's alone, whose names have no "first_stage_model." before them. Nothing in it is run. config  as
 * for encdiff_model_create(): checkpoints hold no configuration found   out, may be NULL: ENCDIFF_FOUND_* of the
 * networks that were there. Others have initial values. model   out, to be freed with encdiff_model_free()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_CONFIG; ENCDIFF_ERROR_NOT_FOUND; ENCDIFF_ERROR_IO; ENCDIFF_ERROR_FORMAT for a
 * malformed file, a missing tensor or one that is not as the configuration needs it; ENCDIFF_ERROR_UNSUPPORTED for
 * Python objects that are no tensors; ENCDIFF_ERROR_NUMERIC for NaN parameters.
 */
ENCDIFF_API encdiff_status encdiff_model_import(encdiff_context *context, const char *path, const char *config,
                                                int32_t *found, encdiff_model **model);

/**
 * Write a model for the published PyTorch code, as .safetensors: load_state_dict(load_file(path), strict=False) takes
 * every tensor. Averages of the U-Net have its names for them; an average of the encoder, which it has none for, is
 * left out with a warning in the log.
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_IO.
 */
ENCDIFF_API encdiff_status encdiff_model_export(encdiff_model *model, const char *path);

/**
 * Save the model: parameters under their published names, moving averages, configuration. The file is replaced only
 * when all is written.
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_IO.
 */
ENCDIFF_API encdiff_status encdiff_model_save(encdiff_model *model, const char *path);

/* The same into memory: data out, size bytes, released with encdiff_context_release(). Returns ENCDIFF_OK. */
ENCDIFF_API encdiff_status encdiff_model_save_memory(encdiff_model *model, void **data, size_t *size);

/**
 * Use the same weights, read-only, on another context, so that another thread can work with them.
 *
 * context  on the same device; the call counts as a use of both contexts
 * shared   out, to be freed with encdiff_model_free(). Neither model can be trained or written while both exist
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_STATE while a trainer holds the model; ENCDIFF_ERROR_UNSUPPORTED when the devices
 * differ.
 */
ENCDIFF_API encdiff_status encdiff_model_share(encdiff_model *model, encdiff_context *context, encdiff_model **shared);

/* Give up the caller's hold on the model. NULL is allowed. */
ENCDIFF_API void encdiff_model_free(encdiff_model *model);

/* What it is. */

typedef struct encdiff_model_info {
    size_t struct_size;
    int32_t height; /* pixels */
    int32_t width;
    int32_t tokens;          /* concept tokens of an image */
    int32_t token_dim;       /* floats of a token */
    int32_t has_scalars;     /* 1: each token comes from one scalar; 0: vector tokens */
    int32_t has_ema;         /* 1: moving averages are held */
    int32_t latent_channels; /* of the space that diffusion works in */
    int32_t latent_height;
    int32_t latent_width;
    int32_t timesteps;  /* of the noise schedule, usually 1000 */
    float latent_scale; /* latents of the autoencoder are multiplied by it; set by the first batch of training */
    int32_t reserved;
    int64_t steps;                  /* training steps of the encdiff stage so far */
    int64_t autoencoder_parameters; /* numbers, without moving averages and discriminator */
    int64_t encoder_parameters;
    int64_t unet_parameters;
} encdiff_model_info;

/* Describe the model; set struct_size first. Returns ENCDIFF_OK. */
ENCDIFF_API encdiff_status encdiff_model_get_info(const encdiff_model *model, encdiff_model_info *info);

/* The complete configuration as JSON. Belongs to the model. */
ENCDIFF_API const char *encdiff_model_config_json(const encdiff_model *model);

typedef enum encdiff_run {
    ENCDIFF_RUN_ENCODE = 1,            /* images to tokens */
    ENCDIFF_RUN_LATENTS = 2,           /* images to latents */
    ENCDIFF_RUN_DECODE = 3,            /* latents to images */
    ENCDIFF_RUN_PREDICT = 4,           /* one call of the U-Net */
    ENCDIFF_RUN_TRAIN_AUTOENCODER = 5, /* one training step */
    ENCDIFF_RUN_TRAIN_ENCDIFF = 6
} encdiff_run;

/**
 * Memory that a run would need beside the parameters, without taking it.
 *
 * run    what is run
 * n      images
 * bytes  out
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_UNSUPPORTED when the configuration has no such network.
 */
ENCDIFF_API encdiff_status encdiff_model_get_memory(encdiff_model *model, encdiff_run run, int32_t n, uint64_t *bytes);

/**
 * The plan of a run as JSON: operators in order with shapes, FLOPs, bytes, and where each intermediate lies in memory.
 *
 * json  out, release with encdiff_context_release()
 *
 * Returns as encdiff_model_get_memory().
 */
ENCDIFF_API encdiff_status encdiff_model_get_plan(encdiff_model *model, encdiff_run run, int32_t n, char **json);

/* Parameters. */

typedef struct encdiff_parameter_info {
    size_t struct_size;
    const char *name; /* as published ("model.diffusion_model.out.2.weight"; "ema." before moving averages) */
    int32_t rank;
    int32_t trainable; /* 0: a statistic, such as a running mean, or a moving average */
    int64_t shape[8];  /* PyTorch's layout: convolutions [out][in][height][width], linear [out][in] */
    int64_t count;     /* product of shape */
} encdiff_parameter_info;

/* How many parameters the model has, statistics and moving averages included. */
ENCDIFF_API int32_t encdiff_model_parameter_count(const encdiff_model *model);

/**
 * Describe a parameter; set struct_size first. The name belongs to the model. Order is fixed for a configuration.
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT when index is not in 0 .. count-1.
 */
ENCDIFF_API encdiff_status encdiff_model_get_parameter(const encdiff_model *model, int32_t index,
                                                       encdiff_parameter_info *info);

/**
 * Copy a parameter out.
 *
 * name    as listed
 * values  out, float[count]
 * count   numbers in values
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_NOT_FOUND for the name; ENCDIFF_ERROR_SHAPE when count is not the parameter's.
 */
ENCDIFF_API encdiff_status encdiff_model_read_parameter(encdiff_model *model, const char *name, int64_t count,
                                                        float *values);

/**
 * Replace a parameter.
 *
 * values  float[count]
 *
 * Returns as encdiff_model_read_parameter(); ENCDIFF_ERROR_NUMERIC for NaN or infinity; ENCDIFF_ERROR_STATE when the
 * weights are shared. On failure the parameter is as before.
 */
ENCDIFF_API encdiff_status encdiff_model_write_parameter(encdiff_model *model, const char *name, int64_t count,
                                                         const float *values);

/**
 * Choose between trained weights and their moving averages for everything but training steps.
 *
 * use_ema  ENCDIFF_DEFAULT: averages where the model holds them
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_STATE for ENCDIFF_ON when the model holds none.
 */
ENCDIFF_API encdiff_status encdiff_model_use_ema(encdiff_model *model, encdiff_switch use_ema);

/* Running the networks. */

/**
 * Encode images to concept scalars and to concept tokens.
 *
 * images   n images at the model's resolution, any format
 * scalars  out, float[n][tokens], or NULL
 * tokens   out, float[n][tokens][token_dim], or NULL
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_SHAPE when a size differs from the model's or n is 0; ENCDIFF_ERROR_NUMERIC for NaN
 * pixels; ENCDIFF_ERROR_UNSUPPORTED for scalars of a model with vector tokens; ENCDIFF_CANCELLED.
 * Uses the running statistics of training (BatchNorm in evaluation mode). Yang et al. 2024, section 3.2.
 */
ENCDIFF_API encdiff_status encdiff_model_encode(encdiff_model *model, const encdiff_image_view *images, float *scalars,
                                                float *tokens);

/**
 * Map concept scalars to concept tokens, the second half of encoding.
 *
 * scalars  float[n][tokens]
 * tokens   out, float[n][tokens][token_dim]
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_UNSUPPORTED for a model with vector tokens; ENCDIFF_ERROR_NUMERIC.
 */
ENCDIFF_API encdiff_status encdiff_model_tokens_from_scalars(encdiff_model *model, int32_t n, const float *scalars,
                                                             float *tokens);

/**
 * Map images to the latents that diffusion works on, multiplied by latent_scale.
 *
 * images   n images at the model's resolution
 * latents  out, float[n][latent_channels][latent_height][latent_width]
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_SHAPE; ENCDIFF_ERROR_NUMERIC for NaN pixels; ENCDIFF_CANCELLED.
 * VQ: before quantisation. KL: the mean. Without an autoencoder: the pixels. Rombach et al. 2022, section 3.1.
 */
ENCDIFF_API encdiff_status encdiff_model_latents_from_images(encdiff_model *model, const encdiff_image_view *images,
                                                             float *latents);

/**
 * Map latents back to images.
 *
 * latents   float[n][latent_channels][latent_height][latent_width], multiplied by latent_scale
 * quantize  VQ: replace each vector by the nearest of the codebook first; ENCDIFF_DEFAULT is ENCDIFF_ON
 * images    out, n images at the model's resolution
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_SHAPE; ENCDIFF_ERROR_NUMERIC; ENCDIFF_CANCELLED.
 */
ENCDIFF_API encdiff_status encdiff_model_images_from_latents(encdiff_model *model, const float *latents,
                                                             encdiff_switch quantize, encdiff_image_view *images);

/**
 * Call the U-Net once.
 *
 * latents    float[n][latent_channels][latent_height][latent_width], noised
 * timesteps  int32_t[n], 0 .. model's timesteps - 1
 * tokens     float[n][tokens][token_dim]
 * noise      out, as latents: the predicted noise, or what else diffusion.parameterization names: clean latents for
 *            "x0"; sqrt(a) noise - sqrt(1 - a) clean latents for "v", a the schedule's cumulative product
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT for a timestep out of range; ENCDIFF_CANCELLED.
 * Ho et al. 2020, algorithm 1; Yang et al. 2024.
 */
ENCDIFF_API encdiff_status encdiff_model_predict_noise(encdiff_model *model, int32_t n, const float *latents,
                                                       const int32_t *timesteps, const float *tokens, float *noise);

/**
 * Where each concept token acts in the image, in one call of the U-Net.
 *
 * n, latents, timesteps, tokens  as for encdiff_model_predict_noise()
 * height, width                  size of a map; layers are resized to it bilinearly
 * maps                           out, float[n][tokens][height][width], attention averaged over layers and heads, so
 *                                that the tokens of a pixel sum to 1
 *
 * Returns as encdiff_model_predict_noise(); ENCDIFF_ERROR_UNSUPPORTED for a model without cross attention.
 */
ENCDIFF_API encdiff_status encdiff_model_attention(encdiff_model *model, int32_t n, const float *latents,
                                                   const int32_t *timesteps, const float *tokens, int32_t height,
                                                   int32_t width, float *maps);

#ifdef __cplusplus
}
#endif
#endif
