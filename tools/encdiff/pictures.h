/* pictures: samplers, grids of images, and the pictures that commands and the quickstart make of them. */
#ifndef CLI_PICTURES_H
#define CLI_PICTURES_H

#include "cli.h"
#include "inputs.h"

/* ---- sampling */

typedef struct sampling_args {
    int32_t method; /* encdiff_sampler_method - 1 */
    int64_t steps;
    double eta;
    const char *noise;
    bool raw_weights;
    int32_t preview_every; /* no option of its own */
} sampling_args;

#define SAMPLING_OPTIONS(type, field)                                                                                  \
    {"sampler", 0, CLI_CHOICE, "ddim|ddpm|plms|dpm", "ddim", offsetof(type, field.method),                             \
     0,         0, false,      "how to sample"},                                                                       \
        {"steps", 0,                                                                                                   \
         CLI_INT, "N",                                                                                                 \
         NULL,    offsetof(type, field.steps),                                                                         \
         1,       1e6,                                                                                                 \
         false,   "calls of the U-Net for an image (default: 50; ddpm: every timestep)"},                              \
        {"eta",    0,                                                                                                  \
         CLI_REAL, "X",                                                                                                \
         "0",      offsetof(type, field.eta),                                                                          \
         0,        1,                                                                                                  \
         false,    "ddim: 0 deterministic .. 1 as much noise as ddpm"},                                                \
        {"noise",  0,                                                                                                  \
         CLI_TEXT, "FILE",                                                                                             \
         NULL,     offsetof(type, field.noise),                                                                        \
         0,        0,                                                                                                  \
         false,    "start from this noise, .npy [n,c,h,w] as `invert` writes it (default: drawn from the seed)"},      \
        RAW_WEIGHTS_OPTION(type, field.raw_weights)

encdiff_sampler *sampling_create(cli *c, encdiff_model *model, const sampling_args *args);
/* --noise for n latents, or NULL. */
const float *sampling_noise(cli *c, encdiff_model *model, const sampling_args *args, int64_t n);
/* "ddim, 50 steps, eta 0" */
const char *sampling_describe(cli *c, const sampling_args *args);
void sampling_json(cli *c, const sampling_args *args);

/* ---- grids */

typedef struct grid {
    encdiff_image_view images; /* white where nothing was put */
    int32_t rows, columns;
    const char **row_labels, **column_labels; /* entries NULL: none */
} grid;

grid grid_new(cli *c, int32_t rows, int32_t columns, int32_t height, int32_t width);
/* One image, float CHW. */
void grid_put(grid *g, int32_t row, int32_t column, const float *pixels);
void grid_write(cli *c, const grid *g, const char *path, int64_t scale);

/* ---- pictures. Pairs of images stand below each other, up to PICTURE_COLUMNS in a row. */

#define PICTURE_COLUMNS 16
#define PICTURE_IMAGES 4096 /* more make no picture */
#define SCALE_OPTION(type, field)                                                                                      \
    {                                                                                                                  \
        "scale", 0, CLI_INT, "N", "2", offsetof(type, field), 1, 16, false, "pixels of the picture for a pixel"        \
    }

typedef struct image_scores {
    double mse, psnr;
} image_scores;

image_scores compare_images(cli *c, const encdiff_image_view *reference, const encdiff_image_view *images);

void picture_reconstruction(cli *c, const encdiff_image_view *images, const encdiff_image_view *reconstructed,
                            const char *path, int64_t scale);
/* Rows a, b, swapped. */
void picture_swap(cli *c, const encdiff_image_view *a, const encdiff_image_view *b, const encdiff_image_view *swapped,
                  const char *path, int64_t scale);
/* Rows: images; columns: a, its reconstruction, b, and a with each concept of b. */
void picture_swap_all(cli *c, encdiff_sampler *sampler, int32_t concepts, const encdiff_image_view *a,
                      const encdiff_image_view *b, const float *noise, const char *path, int64_t scale);

typedef struct traversal {
    int32_t concept_count;
    const int32_t *concepts;  /* [concept_count] */
    const float *low, *high;  /* [concept_count] */
    const char *const *names; /* [concept_count], what each is about, entries may be NULL; or NULL */
    int32_t values;
    const float *noise;
    encdiff_image_view images; /* out: [concept_count][values] */
    double *change;            /* out, [concept_count]: mean |difference| between neighbours, in pixel levels 0..255 */
} traversal;

void run_traversal(cli *c, encdiff_sampler *sampler, const encdiff_image_view *image, traversal *t);
void picture_traversal(cli *c, const encdiff_image_view *image, const traversal *t, const char *path, int64_t scale);

/* `values` images from each of a to its partner in b: [a->n][values]. */
encdiff_image_view interpolate_pairs(cli *c, encdiff_sampler *sampler, const encdiff_image_view *a,
                                     const encdiff_image_view *b, int32_t values, const float *noise);
void picture_interpolation(cli *c, const encdiff_image_view *a, const encdiff_image_view *b,
                           const encdiff_image_view *between, const char *path, int64_t scale);

#endif
