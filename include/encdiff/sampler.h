/*
 * Sampling: from noise and concept tokens to images, and the edits that are made of it.
 */
#ifndef ENCDIFF_SAMPLER_H
#define ENCDIFF_SAMPLER_H

#include <encdiff/context.h>
#include <encdiff/image.h>
#include <encdiff/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A diffusion sampler with its options on one model.
 *
 * Thread-safety: that of its context.
 */
typedef struct encdiff_sampler encdiff_sampler;

typedef enum encdiff_sampler_method {
    ENCDIFF_SAMPLER_DDIM = 1,         /* Song et al. 2021, eq. 12 */
    ENCDIFF_SAMPLER_DDPM = 2,         /* Ho et al. 2020, algorithm 2; every timestep */
    ENCDIFF_SAMPLER_PLMS = 3,         /* Liu et al. 2022, arXiv 2202.09778, linear multistep */
    ENCDIFF_SAMPLER_DPM_SOLVER_PP = 4 /* Lu et al. 2022, arXiv 2211.01095, 2M */
} encdiff_sampler_method;

typedef struct encdiff_sampler_options {
    size_t struct_size;
    int32_t method;            /* encdiff_sampler_method; 0: ENCDIFF_SAMPLER_DDIM */
    int32_t steps;             /* calls of the U-Net; 0: 50, for DDPM all timesteps. A number that does not divide the
                                  model's timesteps makes more: every (timesteps / steps)-th is taken, as published */
    double eta;                /* DDIM: 0 deterministic .. 1 as much noise as DDPM */
    uint64_t seed;             /* of noise that is not given */
    int32_t quantize_denoised; /* encdiff_switch: VQ, quantise the clean latents predicted in each step; default off */
    int32_t quantize_latents;  /* encdiff_switch: VQ, quantise before decoding; default on */
    int32_t use_ema;           /* encdiff_switch; default: as encdiff_model_use_ema() */
    int32_t preview_every;     /* steps between previews in encdiff_progress_info; 0: none */
} encdiff_sampler_options;

/* Set every option to its default; struct_size is sizeof(encdiff_sampler_options) as the caller compiled it. */
ENCDIFF_API void encdiff_sampler_options_init(encdiff_sampler_options *options, size_t struct_size);

/**
 * Make a sampler.
 *
 * options  NULL for defaults
 * sampler  out, to be freed with encdiff_sampler_free()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT for steps or eta out of range; ENCDIFF_ERROR_STATE for averages that the
 * model does not hold.
 */
ENCDIFF_API encdiff_status encdiff_sampler_create(encdiff_model *model, const encdiff_sampler_options *options,
                                                  encdiff_sampler **sampler);

/*
 * How many steps the sampler really takes, which is how many rows step_noise has: 6 of 1000 timesteps are 7. 0 for
 * NULL.
 */
ENCDIFF_API int32_t encdiff_sampler_step_count(const encdiff_sampler *sampler);

/* Free the sampler. NULL is allowed. */
ENCDIFF_API void encdiff_sampler_free(encdiff_sampler *sampler);

/*
 * Below, x_T is the starting noise, float[n][latent_channels][latent_height][latent_width], or NULL to draw it from the
 * seed; progress may be NULL. Every function may return ENCDIFF_ERROR_SHAPE for views of other sizes than the model's
 * or of a number that does not fit; ENCDIFF_ERROR_NUMERIC for NaN inputs; ENCDIFF_CANCELLED. Others are listed.
 */

/**
 * Sample images with given concept tokens.
 *
 * tokens      float[n][tokens][token_dim]
 * x_T         starting noise, or NULL
 * step_noise  float[steps taken][n][latent_channels][latent_height][latent_width], noise of each step in the order
 *             taken, or NULL to draw it; not read by deterministic samplers
 * latents     out, as x_T: the final latents, not quantised; or NULL
 * images      out, n images at the model's resolution; or NULL
 *
 * Returns ENCDIFF_OK or as above.
 */
ENCDIFF_API encdiff_status encdiff_sampler_sample(encdiff_sampler *sampler, int32_t n, const float *tokens,
                                                  const float *x_T, const float *step_noise, float *latents,
                                                  encdiff_image_view *images, encdiff_progress progress, void *user);

/**
 * Encode images to tokens and sample from them.
 *
 * images         n images at the model's resolution
 * reconstructed  out, n images
 *
 * Returns ENCDIFF_OK or as above.
 */
ENCDIFF_API encdiff_status encdiff_sampler_reconstruct(encdiff_sampler *sampler, const encdiff_image_view *images,
                                                       const float *x_T, encdiff_image_view *reconstructed,
                                                       encdiff_progress progress, void *user);

/**
 * Exchange chosen concepts: each image of a is sampled with those concepts taken from the image of b at its place.
 *
 * a, b      n images each
 * concepts  int32_t[count], numbers of tokens
 * swapped   out, n images
 *
 * Returns ENCDIFF_OK or as above; ENCDIFF_ERROR_ARGUMENT for a concept that the model does not have.
 */
ENCDIFF_API encdiff_status encdiff_sampler_swap(encdiff_sampler *sampler, const encdiff_image_view *a,
                                                const encdiff_image_view *b, const int32_t *concepts, int32_t count,
                                                const float *x_T, encdiff_image_view *swapped,
                                                encdiff_progress progress, void *user);

/**
 * Vary one concept of an image and keep the others.
 *
 * image    one image
 * concept_index  number of the token
 * values   float[count], scalars that the concept takes
 * x_T      noise of one latent, used for every value; or NULL
 * varied   out, count images
 *
 * Returns ENCDIFF_OK or as above; ENCDIFF_ERROR_ARGUMENT for a concept that the model does not have;
 * ENCDIFF_ERROR_UNSUPPORTED for a model with vector tokens.
 */
ENCDIFF_API encdiff_status encdiff_sampler_traverse(encdiff_sampler *sampler, const encdiff_image_view *image,
                                                    int32_t concept_index, const float *values, int32_t count,
                                                    const float *x_T, encdiff_image_view *varied,
                                                    encdiff_progress progress, void *user);

/**
 * Interpolate the concepts of two images, linearly in the scalars (vector tokens: in the tokens).
 *
 * a, b          one image each
 * weights       float[count], 0 gives a and 1 gives b
 * x_T           noise of one latent, used for every weight; or NULL
 * interpolated  out, count images
 *
 * Returns ENCDIFF_OK or as above.
 */
ENCDIFF_API encdiff_status encdiff_sampler_interpolate(encdiff_sampler *sampler, const encdiff_image_view *a,
                                                       const encdiff_image_view *b, const float *weights, int32_t count,
                                                       const float *x_T, encdiff_image_view *interpolated,
                                                       encdiff_progress progress, void *user);

/**
 * Find the noise from which deterministic DDIM comes back to the images.
 *
 * images  n images
 * tokens  float[n][tokens][token_dim], or NULL to encode the images
 * x_T     out, float[n][latent_channels][latent_height][latent_width]
 *
 * Returns ENCDIFF_OK or as above; ENCDIFF_ERROR_UNSUPPORTED when the sampler is not DDIM with eta 0.
 * Song et al. 2021, section 4.3: the sampler's ODE, integrated backwards.
 */
ENCDIFF_API encdiff_status encdiff_sampler_invert(encdiff_sampler *sampler, const encdiff_image_view *images,
                                                  const float *tokens, float *x_T, encdiff_progress progress,
                                                  void *user);

/**
 * Where each concept token acts, averaged over the steps of sampling.
 *
 * tokens         float[n][tokens][token_dim]
 * height, width  size of a map
 * maps           out, float[n][tokens][height][width], as encdiff_model_attention()
 * images         out, the n images that were sampled on the way; or NULL
 *
 * Returns ENCDIFF_OK or as above; ENCDIFF_ERROR_UNSUPPORTED for a model without cross attention.
 */
ENCDIFF_API encdiff_status encdiff_sampler_attention(encdiff_sampler *sampler, int32_t n, const float *tokens,
                                                     const float *x_T, int32_t height, int32_t width, float *maps,
                                                     encdiff_image_view *images, encdiff_progress progress, void *user);

#ifdef __cplusplus
}
#endif
#endif
