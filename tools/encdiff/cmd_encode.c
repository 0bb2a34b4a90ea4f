/* encdiff encode, reconstruct, invert: images to codes and noise, and back. */
#include <string.h>

#include "cli.h"
#include "inputs.h"
#include "pictures.h"

/* ---------------------------------------------------------------- encode */

#define ENCODE_BATCH 64

typedef struct encode_args {
    const char *model, *output;
    cli_texts sources;
    bool tokens, raw_weights;
    input_args input;
} encode_args;

/* All codes of the inputs, `item` floats for each image. */
static float *encode_all(cli *c, encdiff_model *model, const inputs *in, bool tokens, size_t item)
{
    float *codes = cli_alloc(c, (size_t)in->size, item * sizeof *codes);
    for (int64_t at = 0; at < in->size; at += ENCODE_BATCH) {
        size_t mark = c->owned_count; /* what a batch takes is given back after it */
        int32_t n = (int32_t)(in->size - at < ENCODE_BATCH ? in->size - at : ENCODE_BATCH);
        encdiff_image_view images = inputs_read(c, in, at, n);
        float *to = codes + (size_t)at * item;
        cli_check(c, encdiff_model_encode(model, &images, tokens ? NULL : to, tokens ? to : NULL));
        cli_release_to(c, mark);
        progress_show(&c->progress, "encoding", at + n, in->size);
    }
    return codes;
}

static void run_encode(cli *c, void *arguments)
{
    encode_args *a = arguments;
    cli_check_output(c, a->output);
    encdiff_model *model = cli_load_model(c, a->model);
    if (a->raw_weights) cli_check(c, encdiff_model_use_ema(model, ENCDIFF_OFF));
    encdiff_model_info info = cli_model_info(c, model);
    if (!a->tokens && !info.has_scalars)
        cli_fail(c, "%s: has vector tokens and no scalars: --tokens writes the tokens", a->model);
    inputs in = inputs_open(c, model, &a->sources, &a->input);
    size_t item = (size_t)info.tokens * (size_t)(a->tokens ? info.token_dim : 1);
    double start = progress_now();
    float *codes = encode_all(c, model, &in, a->tokens, item);
    double seconds = progress_now() - start;
    int64_t shape[] = {in.size, info.tokens, info.token_dim};
    array_save(c, a->output, ENCDIFF_TYPE_F32, codes, a->tokens ? 3 : 2, shape);
    if (a->tokens)
        cli_print(c, "%s: tokens [%lld, %d, %d]", a->output, (long long)in.size, info.tokens, info.token_dim);
    else
        cli_print(c, "%s: codes [%lld, %d]", a->output, (long long)in.size, info.tokens);
    cli_print(c, ", %.0f images/s\n", (double)in.size / seconds);
    json_string(&c->json, "output", a->output);
    json_open(&c->json, "shape", '[');
    for (int i = 0; i < (a->tokens ? 3 : 2); i++) json_integer(&c->json, NULL, shape[i]);
    json_close(&c->json, ']');
    json_number(&c->json, "seconds", seconds);
}

static const cli_option encode_options[] = {
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(encode_args, output), 0, 0, true, "the codes, .npy"},
    {"tokens", 't', CLI_FLAG, NULL, NULL, offsetof(encode_args, tokens), 0, 0, false,
     "concept tokens [n,N,dim] in place of scalars [n,N]"},
    RAW_WEIGHTS_OPTION(encode_args, raw_weights),
    INPUT_OPTIONS(encode_args, input),
};

const cli_command cmd_encode = {
    .name = "encode",
    .summary = "encode images to concept scalars or tokens",
    .details = CLI_INPUT_DETAILS,
    .example = "encdiff encode run/model.safetensors \"procedural:shapes3d[0:1000]\" -o codes.npy",
    .arguments = {MODEL_ARGUMENT(encode_args), INPUTS_ARGUMENT(encode_args)},
    .options = encode_options,
    .option_count = CLI_COUNT(encode_options),
    .size = sizeof(encode_args),
    .run = run_encode,
};

/* ---------------------------------------------------------------- reconstruct */

typedef struct reconstruct_args {
    const char *model, *output, *npy;
    cli_texts sources;
    input_args input;
    sampling_args sampling;
    int64_t scale;
} reconstruct_args;

static void save_images(cli *c, const char *path, const encdiff_image_view *v)
{
    int64_t shape[] = {v->n, 3, v->height, v->width};
    array_save(c, path, ENCDIFF_TYPE_F32, v->data, 4, shape);
}

static void report_scores(cli *c, const image_scores *s)
{
    json_number(&c->json, "mse", s->mse);
    json_number(&c->json, "psnr", s->psnr);
}

static void run_reconstruct(cli *c, void *arguments)
{
    reconstruct_args *a = arguments;
    cli_check_output(c, a->output);
    cli_check_output(c, a->npy);
    encdiff_model *model = cli_load_model(c, a->model);
    inputs in = inputs_open(c, model, &a->sources, &a->input);
    encdiff_image_view images = inputs_load(c, &in, PICTURE_IMAGES, a->sources.items[0]);
    encdiff_image_view out = images_new(c, images.n, images.height, images.width);
    const float *noise = sampling_noise(c, model, &a->sampling, images.n);
    encdiff_sampler *sampler = sampling_create(c, model, &a->sampling);
    double start = progress_now();
    cli_check(c, encdiff_sampler_reconstruct(sampler, &images, noise, &out, progress_step, &c->progress));
    double seconds = progress_now() - start;
    image_scores s = compare_images(c, &images, &out);
    picture_reconstruction(c, &images, &out, a->output, a->scale);
    if (a->npy) save_images(c, a->npy, &out);
    char time[32];
    cli_print(c, "%d images, %s: MSE %.6g, PSNR %.2f dB (pixels in [-1, 1]), %s\n", images.n,
              sampling_describe(c, &a->sampling), s.mse, s.psnr, text_duration(seconds, time));
    cli_print(c, "%s\n", a->output);
    json_integer(&c->json, "images", images.n);
    report_scores(c, &s);
    json_number(&c->json, "seconds", seconds);
    sampling_json(c, &a->sampling);
    json_string(&c->json, "output", a->output);
    json_string(&c->json, "npy", a->npy);
}

static const cli_option reconstruct_options[] = {
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(reconstruct_args, output), 0, 0, true,
     "picture, .png: the images and below them their reconstructions"},
    {"npy", 0, CLI_TEXT, "FILE", NULL, offsetof(reconstruct_args, npy), 0, 0, false,
     "also the reconstructions as f32 [n,3,h,w] in [-1, 1]"},
    SAMPLING_OPTIONS(reconstruct_args, sampling),
    INPUT_OPTIONS(reconstruct_args, input),
    SCALE_OPTION(reconstruct_args, scale),
};

const cli_command cmd_reconstruct = {
    .name = "reconstruct",
    .summary = "encode images and sample them back from their concept tokens",
    .details = CLI_INPUT_DETAILS,
    .example = "encdiff reconstruct run/model.safetensors \"procedural:shapes3d[0:16]\" -o grid.png --steps 100",
    .arguments = {MODEL_ARGUMENT(reconstruct_args), INPUTS_ARGUMENT(reconstruct_args)},
    .options = reconstruct_options,
    .option_count = CLI_COUNT(reconstruct_options),
    .size = sizeof(reconstruct_args),
    .run = run_reconstruct,
};

/* ---------------------------------------------------------------- invert */

typedef struct invert_args {
    const char *model, *output;
    cli_texts sources;
    input_args input;
    int64_t steps;
    bool raw_weights;
} invert_args;

static void run_invert(cli *c, void *arguments)
{
    invert_args *a = arguments;
    cli_check_output(c, a->output);
    encdiff_model *model = cli_load_model(c, a->model);
    encdiff_model_info info = cli_model_info(c, model);
    inputs in = inputs_open(c, model, &a->sources, &a->input);
    encdiff_image_view images = inputs_load(c, &in, PICTURE_IMAGES, a->sources.items[0]);
    int64_t shape[] = {images.n, info.latent_channels, info.latent_height, info.latent_width};
    float *noise = cli_alloc(c, (size_t)(shape[0] * shape[1]), (size_t)(shape[2] * shape[3]) * sizeof *noise);
    sampling_args sampling = {.steps = a->steps, .raw_weights = a->raw_weights};
    encdiff_sampler *sampler = sampling_create(c, model, &sampling);
    cli_check(c, encdiff_sampler_invert(sampler, &images, NULL, noise, progress_step, &c->progress));
    encdiff_image_view back = images_new(c, images.n, images.height, images.width);
    cli_check(c, encdiff_sampler_reconstruct(sampler, &images, noise, &back, progress_step, &c->progress));
    image_scores s = compare_images(c, &images, &back);
    array_save(c, a->output, ENCDIFF_TYPE_F32, noise, 4, shape);
    cli_print(c, "%s: noise [%lld, %lld, %lld, %lld]\n", a->output, (long long)shape[0], (long long)shape[1],
              (long long)shape[2], (long long)shape[3]);
    cli_print(c, "sampled back from it (%s): MSE %.6g, PSNR %.2f dB\n", sampling_describe(c, &sampling), s.mse, s.psnr);
    json_string(&c->json, "output", a->output);
    json_integer(&c->json, "images", images.n);
    report_scores(c, &s);
    sampling_json(c, &sampling);
}

static const cli_option invert_options[] = {
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(invert_args, output), 0, 0, true,
     "the noise, .npy [n,c,h,w]; `reconstruct --noise` and the others start from it"},
    {"steps", 0, CLI_INT, "N", NULL, offsetof(invert_args, steps), 1, 1e6, false,
     "calls of the U-Net for an image (default: 50)"},
    RAW_WEIGHTS_OPTION(invert_args, raw_weights),
    INPUT_OPTIONS(invert_args, input),
};

const cli_command cmd_invert = {
    .name = "invert",
    .summary = "find the noise from which deterministic DDIM comes back to an image",
    .details = CLI_INPUT_DETAILS,
    .example = "encdiff invert run/model.safetensors photo.png -o noise.npy --steps 200\n"
               "encdiff reconstruct run/model.safetensors photo.png --noise noise.npy --steps 200 -o same.png",
    .arguments = {MODEL_ARGUMENT(invert_args), INPUTS_ARGUMENT(invert_args)},
    .options = invert_options,
    .option_count = CLI_COUNT(invert_options),
    .size = sizeof(invert_args),
    .run = run_invert,
};
