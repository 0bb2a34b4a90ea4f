/* encdiff edit: images inverted to their noise, and sampled from it again with other concepts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "concepts.h"
#include "inputs.h"
#include "pictures.h"

typedef struct edit_args {
    const char *model, *images, *from, *concepts, *output, *npy;
    cli_texts set;
    input_args input;
    int64_t steps, scale;
    bool raw_weights;
} edit_args;

/* What the command works on: codes of the images, and their noise. */
typedef struct edit {
    cli *c;
    const edit_args *args;
    encdiff_model *model;
    encdiff_model_info info;
    encdiff_image_view images;
    float *scalars, *tokens, *noise;
} edit;

static void apply_set(edit *e, const char *option)
{
    char *end;
    long concept_index = strtol(option, &end, 10);
    bool good = end != option && *end == '=';
    const char *number = good ? end + 1 : option;
    float value = good ? strtof(number, &end) : 0;
    if (!good || end == number || *end || !isfinite(value))
        cli_usage(e->c, "--set %s: expected CONCEPT=VALUE, such as 3=-1.5", option);
    if (concept_index < 0 || concept_index >= e->info.tokens)
        cli_fail(e->c, "--set %s: the model has the concepts 0 .. %d", option, e->info.tokens - 1);
    for (int32_t i = 0; i < e->images.n; i++) e->scalars[i * e->info.tokens + concept_index] = value;
}

/* The chosen concepts of --from, of each image's partner. */
static void apply_from(edit *e)
{
    cli *c = e->c;
    int32_t *concepts;
    bool all;
    size_t tokens = (size_t)e->info.tokens, dim = (size_t)e->info.token_dim, n = (size_t)e->images.n;
    int32_t count = concepts_read(c, "concepts", e->args->concepts, e->info.tokens, &concepts, &all);
    inputs in = inputs_open(c, e->model, &(cli_texts){(const char **)&e->args->from, 1}, &e->args->input);
    if (in.size != e->images.n)
        cli_fail(c, "%s has %lld images for %d that are edited", e->args->from, (long long)in.size, e->images.n);
    encdiff_image_view others = inputs_load(c, &in, PICTURE_IMAGES, e->args->from);
    float *theirs = cli_alloc(c, n * tokens, dim * sizeof *theirs);
    cli_check(c, encdiff_model_encode(e->model, &others, NULL, theirs));
    for (size_t i = 0; i < n; i++)
        for (int32_t k = 0; k < count; k++) {
            size_t at = (i * tokens + (size_t)concepts[k]) * dim;
            memcpy(e->tokens + at, theirs + at, dim * sizeof *theirs);
        }
}

static void change(edit *e)
{
    if (e->args->set.count && !e->info.has_scalars)
        cli_fail(e->c, "%s: has vector tokens, which --set cannot name; --from takes them from another image",
                 e->args->model);
    for (int32_t i = 0; i < e->args->set.count; i++) apply_set(e, e->args->set.items[i]);
    if (e->args->set.count)
        cli_check(e->c, encdiff_model_tokens_from_scalars(e->model, e->images.n, e->scalars, e->tokens));
    if (e->args->from) apply_from(e);
}

/* Codes and noise of the images; what is sampled from both unchanged. */
static encdiff_image_view invert(edit *e, encdiff_sampler *sampler)
{
    cli *c = e->c;
    size_t n = (size_t)e->images.n, tokens = n * (size_t)e->info.tokens;
    size_t latent = (size_t)e->info.latent_channels * (size_t)e->info.latent_height * (size_t)e->info.latent_width;
    encdiff_image_view back = images_new(c, e->images.n, e->images.height, e->images.width);
    e->scalars = e->info.has_scalars ? cli_alloc(c, tokens, sizeof *e->scalars) : NULL;
    e->tokens = cli_alloc(c, tokens, (size_t)e->info.token_dim * sizeof *e->tokens);
    e->noise = cli_alloc(c, n, latent * sizeof *e->noise);
    cli_check(c, encdiff_model_encode(e->model, &e->images, e->scalars, e->tokens));
    cli_check(c, encdiff_sampler_invert(sampler, &e->images, e->tokens, e->noise, progress_step, &c->progress));
    cli_check(c, encdiff_sampler_sample(sampler, e->images.n, e->tokens, e->noise, NULL, NULL, &back, progress_step,
                                        &c->progress));
    return back;
}

static void draw(const edit *e, const encdiff_image_view *back, const encdiff_image_view *edited)
{
    static const char *const labels[] = {"input", "same", "edited"};
    const encdiff_image_view *rows[] = {&e->images, back, edited};
    grid g = grid_new(e->c, e->images.n, 3, e->images.height, e->images.width);
    for (int32_t k = 0; k < 3; k++) {
        g.column_labels[k] = labels[k];
        for (int32_t i = 0; i < e->images.n; i++) grid_put(&g, i, k, image_at(rows[k], i));
    }
    grid_write(e->c, &g, e->args->output, e->args->scale);
}

static void run_edit(cli *c, void *arguments)
{
    edit_args *a = arguments;
    edit e = {.c = c, .args = a};
    if (!a->set.count && !a->from) cli_usage(c, "nothing is edited: --set CONCEPT=VALUE, or --from B --concepts K,...");
    if (!a->from != !a->concepts) cli_usage(c, "--from and --concepts go together");
    cli_check_output(c, a->output);
    cli_check_output(c, a->npy);
    e.model = cli_load_model(c, a->model);
    e.info = cli_model_info(c, e.model);
    inputs in = inputs_open(c, e.model, &(cli_texts){&a->images, 1}, &a->input);
    e.images = inputs_load(c, &in, 256, a->images);
    sampling_args sampling = {.steps = a->steps, .raw_weights = a->raw_weights};
    if (a->raw_weights) cli_check(c, encdiff_model_use_ema(e.model, ENCDIFF_OFF));
    encdiff_sampler *sampler = sampling_create(c, e.model, &sampling);
    encdiff_image_view back = invert(&e, sampler), edited = images_new(c, back.n, back.height, back.width);
    change(&e);
    cli_check(c, encdiff_sampler_sample(sampler, back.n, e.tokens, e.noise, NULL, NULL, &edited, progress_step,
                                        &c->progress));
    draw(&e, &back, &edited);
    int64_t shape[] = {edited.n, 3, edited.height, edited.width};
    if (a->npy) array_save(c, a->npy, ENCDIFF_TYPE_F32, edited.data, 4, shape);
    image_scores same = compare_images(c, &e.images, &back), other = compare_images(c, &e.images, &edited);
    cli_print(c, "%s: PSNR %.2f dB with the same concepts, %.2f dB with others (%s)\n", a->output, same.psnr,
              other.psnr, sampling_describe(c, &sampling));
    json_string(&c->json, "output", a->output);
    json_integer(&c->json, "images", edited.n);
    json_number(&c->json, "mse_same", same.mse);
    json_number(&c->json, "mse_edited", other.mse);
    json_string(&c->json, "npy", a->npy);
    sampling_json(c, &sampling);
}

static const cli_option edit_options[] = {
    {"set", 0, CLI_TEXTS, "CONCEPT=VALUE", NULL, offsetof(edit_args, set), 0, 0, false,
     "give a concept's scalar this value; may be given again and again"},
    {"from", 0, CLI_TEXT, "B", NULL, offsetof(edit_args, from), 0, 0, false,
     "as many images, of which --concepts are taken"},
    {"concepts", 'c', CLI_TEXT, "K,...|all", NULL, offsetof(edit_args, concepts), 0, 0, false,
     "numbers of the concepts to take from B"},
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(edit_args, output), 0, 0, true,
     "picture, .png: input, sampled again with the same concepts, edited"},
    {"npy", 0, CLI_TEXT, "FILE", NULL, offsetof(edit_args, npy), 0, 0, false,
     "also the edited images as f32 [n,3,h,w] in [-1, 1]"},
    {"steps", 0, CLI_INT, "N", "50", offsetof(edit_args, steps), 1, 1e6, false,
     "calls of the U-Net there, and back again, by deterministic DDIM"},
    RAW_WEIGHTS_OPTION(edit_args, raw_weights),
    INPUT_OPTIONS(edit_args, input),
    SCALE_OPTION(edit_args, scale),
};

const cli_command cmd_edit = {
    .name = "edit",
    .summary = "change concepts of images and keep everything else, by DDIM inversion",
    .details =
        "The images are inverted to the noise that leads back to them, and sampled from it with other concepts, so\n"
        "that what no concept tells (texture, noise of the camera) stays. More steps come back more exactly.",
    .example = "encdiff edit run/model.safetensors \"procedural:shapes3d[0:4]\" --set 3=-2 -o edited.png",
    .arguments = {MODEL_ARGUMENT(edit_args), {"IMAGES", false, false, offsetof(edit_args, images), "what is edited"}},
    .options = edit_options,
    .option_count = CLI_COUNT(edit_options),
    .size = sizeof(edit_args),
    .run = run_edit,
};
