/* From concept tokens to images: a sampler, the U-Net that it asks, and the decoder. And back to noise. */
#ifndef ED_GENERATE_H
#define ED_GENERATE_H

#include "diffusion/sampler.h"
#include "model/infer.h"

typedef struct ed_generator_options {
    ed_sampler_options sampler; /* parameterization and elements are filled in */
    bool quantize_denoised;     /* vq: the clean latents predicted in each step go to their nearest entries */
    bool quantize_latents;      /* vq: quantise before decoding */
    bool use_ema;
    int preview_every; /* steps between previews; 0: none */
} ed_generator_options;

typedef struct ed_generator ed_generator;

/* After each step; `preview` is f32 [n, s, s, 3] or NULL. Non-zero stops. */
typedef int (*ed_generate_progress)(void *user, int done, int total, int n, const float *preview);

typedef struct ed_generate_args {
    int n;
    uint64_t first_image;    /* for drawn noise */
    const float *tokens;     /* [n, N, dim] */
    const float *x_T;        /* float[n][c][h][w] or NULL */
    const float *step_noise; /* float[steps][n][c][h][w] or NULL */
    float *latents;          /* out, float[n][c][h][w], not quantised; or NULL */
    float *images;           /* out, f32 [n, s, s, 3]; or NULL */
    float *maps; /* out, float[n][N][map_height][map_width]: attention averaged over layers and steps; or NULL */
    int map_height, map_width;
    ed_generate_progress progress;
    void *user;
} ed_generate_args;

encdiff_status ed_generator_create(ed_infer *infer, ed_team *team, ed_networks *networks,
                                   const ed_generator_options *options, ed_generator **out);
void ed_generator_free(ed_generator *generator);
int ed_generator_step_count(const ed_generator *generator);
encdiff_status ed_generate(ed_generator *generator, const ed_generate_args *args);
/* Images [n, s, s, 3] and their tokens to the noise that deterministic DDIM comes back from; args->latents receives it.
 */
encdiff_status ed_generate_inverse(ed_generator *generator, const float *images, const ed_generate_args *args);
/* Starting noise of images first_image ... of the seed. */
void ed_generator_draw(ed_generator *generator, uint64_t first_image, int n, float *x_T);
/* Attention maps of one U-Net call, averaged over its layers at the given size; `add`: added to what is there. */
encdiff_status ed_attention_maps(ed_infer *infer, ed_team *team, ed_networks *networks, int64_t n,
                                 const float *const inputs[3], float *prediction, int height, int width, bool add,
                                 float *maps);
/* Latents f32 [n, h, w, c] of images as the U-Net sees them, times the scale; and decoded images from such latents. */
encdiff_status ed_latents_of_images(ed_infer *infer, ed_networks *networks, int64_t n, const float *images,
                                    float *latents);
encdiff_status ed_images_of_latents(ed_infer *infer, ed_networks *networks, int64_t n, const float *latents,
                                    float *scratch, bool quantize, float *images);

#endif
