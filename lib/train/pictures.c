/*
 * Pictures while training: what the model makes of the first images of the dataset. <stage>-<step>-reconstruction.png
 * has the images above what comes back; the encdiff stage adds <stage>-<step>-swap.png, where column k has concept k of
 * the image in the last row, and <stage>-<step>-sample.png, other noise for the same tokens.
 */
#include <stdio.h>

#include "diffusion/generate.h"
#include "io/grid.h"
#include "io/pixels.h"
#include "train/trainer.h"

#define SHOWN 8   /* images */
#define SWAPPED 4 /* rows of the swap grid */
#define SCALE 2

typedef struct pictures {
    ed_trainer *trainer;
    ed_env *env;
    const char *folder;
    size_t pixels; /* floats of an image */
    int n;
    float *images, *made; /* [n]; [n * concepts] */
    float *tokens, *mixed;
    uint8_t *rgb;
    ed_generator *generator;
} pictures;

static encdiff_status write_grid(pictures *p, const char *what, int count, const ed_grid_options *options)
{
    int side = p->trainer->networks->config.image.resolution;
    char *path = ed_format(p->env, "%s/%s-%08lld-%s.png", p->folder, ed_stage_name(p->trainer->options.stage),
                           (long long)p->trainer->step, what);
    if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_grid_write(p->env, path, p->rgb, count, side, side, options);
    ed_free(p->env, path);
    return status;
}

/* The images in the first row, what was made of them in the second. */
static encdiff_status write_pairs(pictures *p, const char *what, const char *label)
{
    const char *rows[] = {"image", label};
    ed_grid_options options = {.columns = p->n, .scale = SCALE, .row_labels = rows};
    ED_TRY(ed_pixels_to_u8(p->env, p->images, p->n, p->pixels, 0, p->rgb));
    ED_TRY(ed_pixels_to_u8(p->env, p->made, p->n, p->pixels, 0, p->rgb + (size_t)p->n * p->pixels));
    return write_grid(p, what, 2 * p->n, &options);
}

static encdiff_status autoencoder_pictures(pictures *p)
{
    ed_trainer *t = p->trainer;
    const ed_config *c = &t->networks->config;
    size_t z = (size_t)ed_config_latent_size(c);
    float *latents = ed_alloc(p->env, (size_t)p->n * z * z * (size_t)ed_config_latent_channels(c), sizeof *latents);
    if (!latents) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    const float *images = p->images, *input = latents;
    encdiff_status status = ed_infer_run(t->infer, ED_INFER_LATENTS, p->n, &images, &latents);
    if (status == ENCDIFF_OK) status = ed_infer_run(t->infer, ED_INFER_DECODE_QUANTIZED, p->n, &input, &p->made);
    ed_free(p->env, latents);
    return status == ENCDIFF_OK ? write_pairs(p, "reconstruction", "decoded") : status;
}

static encdiff_status generate(pictures *p, int n, const float *tokens, uint64_t first_image, float *images)
{
    ed_generate_args args = {.n = n, .tokens = tokens, .first_image = first_image, .images = images};
    return ed_generate(p->generator, &args);
}

/* One row of the swap grid: the image, then itself with concept k of `other` for each k; noise of image 0 throughout.
 */
static encdiff_status swap_row(pictures *p, int image, int other, float *noise, float *out)
{
    const ed_config *c = &p->trainer->networks->config;
    int concepts = c->encoder.latent_unit;
    size_t dim = (size_t)c->encoder.context_dim, item = (size_t)concepts * dim;
    for (int k = 0; k < concepts; k++) {
        memcpy(p->mixed + (size_t)k * item, p->tokens + (size_t)image * item, item * sizeof(float));
        memcpy(p->mixed + (size_t)k * item + (size_t)k * dim, p->tokens + (size_t)other * item + (size_t)k * dim,
               dim * sizeof(float));
    }
    ed_generate_args args = {.n = concepts, .tokens = p->mixed, .x_T = noise, .images = out};
    return ed_generate(p->generator, &args);
}

/* Rows: images; first column: the image; then one column per concept, taken from the next image. */
static encdiff_status swap_grid(pictures *p)
{
    const ed_config *c = &p->trainer->networks->config;
    int concepts = c->encoder.latent_unit, rows = ED_MIN(p->n - 1, SWAPPED);
    size_t z = (size_t)ed_config_latent_size(c), item = z * z * (size_t)ed_config_latent_channels(c);
    float *noise = ed_alloc(p->env, (size_t)concepts * item, sizeof *noise);
    if (!noise) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_generator_draw(p->generator, 0, 1, noise);
    for (int k = 1; k < concepts; k++) memcpy(noise + (size_t)k * item, noise, item * sizeof *noise);
    encdiff_status status = ENCDIFF_OK;
    for (int r = 0; r < rows && status == ENCDIFF_OK; r++) {
        uint8_t *row = p->rgb + (size_t)r * (size_t)(concepts + 2) * p->pixels;
        status = swap_row(p, r, r + 1, noise, p->made);
        if (status == ENCDIFF_OK)
            status = ed_pixels_to_u8(p->env, p->images + (size_t)r * p->pixels, 2, p->pixels, 0, row);
        if (status == ENCDIFF_OK)
            status = ed_pixels_to_u8(p->env, p->made, concepts, p->pixels, 0, row + 2 * p->pixels);
    }
    ed_free(p->env, noise);
    ED_TRY(status);
    char texts[256][12];
    const char *labels[258] = {"image", "donor"};
    for (int k = 0; k < concepts && k < 256; k++) {
        snprintf(texts[k], sizeof texts[k], "%d", k);
        labels[k + 2] = texts[k];
    }
    ed_grid_options options = {
        .columns = concepts + 2, .scale = SCALE, .column_labels = concepts <= 256 ? labels : NULL};
    return write_grid(p, "swap", rows * (concepts + 2), &options);
}

static encdiff_status encdiff_pictures(pictures *p)
{
    ed_trainer *t = p->trainer;
    const float *images = p->images;
    ed_infer_use_ema(t->infer, t->networks->averages[ED_SET_UNET] != NULL);
    ED_TRY(ed_infer_run(t->infer, ED_INFER_ENCODE, p->n, &images, (float *[]){NULL, p->tokens}));
    ED_TRY(generate(p, p->n, p->tokens, 0, p->made));
    ED_TRY(write_pairs(p, "reconstruction", "sampled"));
    ED_TRY(generate(p, p->n, p->tokens, (uint64_t)p->n, p->made));
    ED_TRY(write_pairs(p, "sample", "other noise"));
    return p->n > 1 ? swap_grid(p) : ENCDIFF_OK;
}

static encdiff_status prepare(pictures *p)
{
    ed_trainer *t = p->trainer;
    const ed_config *c = &t->networks->config;
    ed_dataset_info info;
    int64_t indices[SHOWN];
    ed_dataset_get_info(t->dataset, &info);
    p->n = (int)ED_MIN(info.size, SHOWN);
    int concepts = c->encoder.latent_unit, most = ED_MAX(p->n, concepts);
    size_t item = (size_t)concepts * (size_t)c->encoder.context_dim, side = (size_t)c->image.resolution;
    p->pixels = side * side * 3;
    p->images = ed_alloc(p->env, (size_t)p->n * p->pixels, sizeof(float));
    p->made = ed_alloc(p->env, (size_t)most * p->pixels, sizeof(float));
    p->tokens = ed_alloc(p->env, (size_t)p->n * item, sizeof(float));
    p->mixed = ed_alloc(p->env, (size_t)concepts * item, sizeof(float));
    p->rgb = ed_alloc(p->env, (size_t)ED_MAX(2 * p->n, SWAPPED * (concepts + 2)) * p->pixels, 1);
    if (!p->images || !p->made || !p->tokens || !p->mixed || !p->rgb) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    /* Spread over the dataset: neighbours in a file often differ in one factor only. */
    for (int i = 0; i < p->n; i++)
        indices[i] = (int64_t)ed_permute(0, ED_RANDOM_DATA, 0, (uint64_t)i, (uint64_t)info.size);
    ED_TRY(ed_dataset_read_f32(p->env, t->dataset, p->n, indices, p->images));
    if (t->options.stage == ED_STAGE_AUTOENCODER) return ENCDIFF_OK;
    ed_generator_options options = {.sampler = {.method = ED_SAMPLER_DDIM,
                                                .steps = c->train_encdiff.ddim_steps,
                                                .eta = c->train_encdiff.ddim_eta,
                                                .seed = t->options.seed},
                                    .quantize_latents = true,
                                    .use_ema = t->networks->averages[ED_SET_UNET] != NULL};
    return ed_generator_create(t->infer, t->team, t->networks, &options, &p->generator);
}

encdiff_status ed_trainer_pictures(ed_trainer *t, const char *folder)
{
    pictures p = {.trainer = t, .env = t->env, .folder = folder};
    if (!t->dataset) return ENCDIFF_OK;
    encdiff_status status = prepare(&p);
    if (status == ENCDIFF_OK)
        status = t->options.stage == ED_STAGE_AUTOENCODER ? autoencoder_pictures(&p) : encdiff_pictures(&p);
    ed_generator_free(p.generator);
    ed_free(t->env, p.images);
    ed_free(t->env, p.made);
    ed_free(t->env, p.tokens);
    ed_free(t->env, p.mixed);
    ed_free(t->env, p.rgb);
    return status;
}
