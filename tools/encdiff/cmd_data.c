/* encdiff data: what a source of images holds, pictures of it, and files made of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "inputs.h"
#include "pictures.h"

/* ---------------------------------------------------------------- info */

typedef struct info_args {
    cli_texts sources;
} info_args;

static void describe_factors(cli *c, const encdiff_dataset *dataset, int32_t factors)
{
    json_open(&c->json, "factors", '[');
    for (int32_t k = 0; k < factors; k++) {
        const char *name = encdiff_dataset_factor_name(dataset, k);
        int32_t size = encdiff_dataset_factor_size(dataset, k);
        cli_print(c, "%s %s (%d)", k ? "," : "", name, size);
        json_open(&c->json, NULL, '{');
        json_string(&c->json, "name", name);
        json_integer(&c->json, "size", size);
        json_close(&c->json, '}');
    }
    json_close(&c->json, ']');
}

static void describe_source(cli *c, const char *source)
{
    char number[32];
    encdiff_dataset *dataset = cli_open_dataset(c, source, 0);
    encdiff_dataset_info info = cli_dataset_info(c, dataset);
    cli_print(c, "%s\n  name        %s\n  format      %s\n  images      %s\n  resolution  %d x %d\n  factors    ",
              source, info.name, info.format, text_thousands(info.size, number), info.width, info.height);
    json_open(&c->json, NULL, '{');
    json_string(&c->json, "source", source);
    json_string(&c->json, "name", info.name);
    json_string(&c->json, "format", info.format);
    json_integer(&c->json, "images", info.size);
    json_integer(&c->json, "height", info.height);
    json_integer(&c->json, "width", info.width);
    describe_factors(c, dataset, info.factors);
    json_bool(&c->json, "complete", info.complete);
    json_close(&c->json, '}');
    cli_print(c, info.factors ? "\n" : " none\n");
    if (info.complete) cli_print(c, "  complete    every combination of the factors once\n");
}

static void run_info(cli *c, void *arguments)
{
    info_args *a = arguments;
    json_open(&c->json, "sources", '[');
    for (int32_t i = 0; i < a->sources.count; i++) describe_source(c, a->sources.items[i]);
    json_close(&c->json, ']');
}

#define SOURCE_HELP "pictures, a folder, an array, an .h5 file, or procedural:shapes3d; with a range [begin:end] or not"

const cli_command cmd_data_info = {
    .name = "data info",
    .summary = "name, format, size, resolution and factors of a dataset",
    .example = "encdiff data info procedural:shapes3d 3dshapes.h5",
    .arguments = {{"SOURCE", false, true, offsetof(info_args, sources), SOURCE_HELP}},
    .size = sizeof(info_args),
    .run = run_info,
};

/* ---------------------------------------------------------------- what the others share */

typedef struct data_args {
    const char *source, *output, *crop, *filter, *split;
    int64_t count, scale, height, width, columns, compression;
    uint64_t shuffle;
} data_args;

#define COUNT_OPTION(fallback, help)                                                                                   \
    {                                                                                                                  \
        "count", 'n', CLI_INT, "N", fallback, offsetof(data_args, count), 1, 1e12, false, help                         \
    }
#define SHUFFLE_OPTION                                                                                                 \
    {                                                                                                                  \
        "shuffle", 0, CLI_UINT, "SEED", NULL, offsetof(data_args, shuffle), 0, 0, false,                               \
            "in an order drawn from SEED, so that --count takes a random subset"                                       \
    }
#define OUTPUT_OPTION(help)                                                                                            \
    {                                                                                                                  \
        "output", 'o', CLI_TEXT, "FILE", NULL, offsetof(data_args, output), 0, 0, true, help                           \
    }
#define SIZE_OPTIONS                                                                                                   \
    {"height", 0, CLI_INT, "N", NULL, offsetof(data_args, height), 1, 16384, false, "resize to this height"},          \
        {"width", 0,                                                                                                   \
         CLI_INT, "N",                                                                                                 \
         NULL,    offsetof(data_args, width),                                                                          \
         1,       16384,                                                                                               \
         false,   "resize to this width (default: the height, where that is given)"},                                  \
        {"crop",   0,                                                                                                  \
         CLI_TEXT, "NAME",                                                                                             \
         NULL,     offsetof(data_args, crop),                                                                          \
         0,        0,                                                                                                  \
         false,    "before resizing: centre, or d2c (128 pixels of CelebA's aligned pictures)"},                       \
        {"filter", 0,                                                                                                  \
         CLI_TEXT, "NAME",                                                                                             \
         NULL,     offsetof(data_args, filter),                                                                        \
         0,        0,                                                                                                  \
         false,    "of resizing, as Pillow's: bicubic (default), bilinear, lanczos, box"},                             \
    {                                                                                                                  \
        "split", 0, CLI_TEXT, "NAME", NULL, offsetof(data_args, split), 0, 0, false,                                   \
            "train, valid or test of a set that is published so"                                                       \
    }

static encdiff_dataset *open_source(cli *c, const data_args *a)
{
    encdiff_dataset *dataset;
    encdiff_dataset_options options;
    encdiff_dataset_options_init(&options, sizeof options);
    options.height = (int32_t)(a->height ? a->height : a->width);
    options.width = (int32_t)(a->width ? a->width : a->height);
    options.crop = a->crop;
    options.filter = a->filter;
    options.split = a->split;
    cli_check(c, encdiff_dataset_open(c->context, a->source, &options, &dataset));
    return cli_own_dataset(c, dataset);
}

/* ---------------------------------------------------------------- render, convert */

static void save(cli *c, const data_args *a)
{
    char number[32], time[32];
    cli_check_output(c, a->output);
    encdiff_dataset *dataset = open_source(c, a);
    dataset = cli_subset(c, dataset, a->count, options_given(c, "shuffle"), a->shuffle);
    encdiff_dataset_info info = cli_dataset_info(c, dataset);
    double start = progress_now();
    encdiff_dataset_save_options options;
    encdiff_dataset_save_options_init(&options, sizeof options);
    options.compression = options_given(c, "compression") ? (int32_t)(a->compression ? a->compression : -1) : 0;
    cli_check(c, encdiff_dataset_save_with(dataset, a->output, &options, progress_step, &c->progress));
    double seconds = progress_now() - start;
    cli_print(c, "%s: %s images of %dx%d with %d factors, %s (%.0f images/s)\n", a->output,
              text_thousands(info.size, number), info.width, info.height, info.factors, text_duration(seconds, time),
              (double)info.size / seconds);
    json_string(&c->json, "output", a->output);
    json_integer(&c->json, "images", info.size);
    json_integer(&c->json, "height", info.height);
    json_integer(&c->json, "width", info.width);
    json_integer(&c->json, "factors", info.factors);
    json_number(&c->json, "seconds", seconds);
}

static void run_render(cli *c, void *arguments)
{
    data_args *a = arguments;
    if (strncmp(a->source, "procedural:", 11) != 0)
        cli_usage(c, "%s is no procedural set (procedural:shapes3d); `encdiff data convert` writes other sources",
                  a->source);
    save(c, a);
}

static void run_convert(cli *c, void *arguments) { save(c, arguments); }

static const cli_option save_options[] = {
    OUTPUT_OPTION(".h5: the layout of 3dshapes.h5; .npz: the same arrays"),
    COUNT_OPTION(NULL, "only N images: the first ones, or with --shuffle any (default: all)"),
    SHUFFLE_OPTION,
    SIZE_OPTIONS,
    {"compression", 0, CLI_INT, "N", NULL, offsetof(data_args, compression), 0, 9, false,
     "0: none, 1: fast .. 9: small (default: .h5 4, .npz 0)"},
};

const cli_command cmd_data_render = {
    .name = "data render",
    .summary = "write a procedural set to a file",
    .example = "encdiff data render procedural:shapes3d -n 20000 --shuffle 1 -o shapes3d.h5\n"
               "encdiff data render \"procedural:shapes3d[0:1000]\" -o first.npz",
    .arguments = {{"SOURCE", false, false, offsetof(data_args, source), "procedural:shapes3d, with a range or not"}},
    .options = save_options,
    .option_count = CLI_COUNT(save_options),
    .size = sizeof(data_args),
    .run = run_render,
};

const cli_command cmd_data_convert = {
    .name = "data convert",
    .summary = "write any source of images as .h5 or .npz",
    .details = "A folder of pictures becomes one file, which is read faster; labels go along where there are any.",
    .example = "encdiff data convert photos/ --height 64 --crop centre -o photos.h5\n"
               "encdiff data convert celeba/ --split train --crop d2c --height 64 -o celeba64.h5",
    .arguments = {{"SOURCE", false, false, offsetof(data_args, source), SOURCE_HELP}},
    .options = save_options,
    .option_count = CLI_COUNT(save_options),
    .size = sizeof(data_args),
    .run = run_convert,
};

/* ---------------------------------------------------------------- view */

static void run_view(cli *c, void *arguments)
{
    data_args *a = arguments;
    cli_check_output(c, a->output);
    encdiff_dataset *dataset = open_source(c, a);
    int64_t size = cli_dataset_info(c, dataset).size;
    int64_t count = !options_given(c, "count") && size < a->count ? size : a->count;
    dataset = cli_subset(c, dataset, count, options_given(c, "shuffle"), a->shuffle);
    encdiff_dataset_info info = cli_dataset_info(c, dataset);
    encdiff_image_view images = images_new(c, (int32_t)count, info.height, info.width);
    cli_check(c, encdiff_dataset_read(dataset, NULL, &images));
    encdiff_grid_options options;
    encdiff_grid_options_init(&options, sizeof options);
    options.columns = (int32_t)a->columns;
    options.scale = (int32_t)a->scale;
    cli_check(c, encdiff_image_write_grid(c->context, a->output, &images, &options));
    cli_print(c, "%s: %lld of %lld images\n", a->output, (long long)count, (long long)size);
    json_string(&c->json, "output", a->output);
    json_integer(&c->json, "images", count);
}

static const cli_option view_options[] = {
    OUTPUT_OPTION("picture, .png"),
    {"count", 'n', CLI_INT, "N", "64", offsetof(data_args, count), 1, PICTURE_IMAGES, false, "how many images"},
    SHUFFLE_OPTION,
    SIZE_OPTIONS,
    {"columns", 0, CLI_INT, "N", NULL, offsetof(data_args, columns), 1, 256, false,
     "images in a row (default: about as many as rows)"},
    {"scale", 0, CLI_INT, "N", "1", offsetof(data_args, scale), 1, 16, false, "pixels of the picture for a pixel"},
};

const cli_command cmd_data_view = {
    .name = "data view",
    .summary = "draw images of a dataset as a grid",
    .example = "encdiff data view procedural:shapes3d --shuffle 1 -o scenes.png",
    .arguments = {{"SOURCE", false, false, offsetof(data_args, source), SOURCE_HELP}},
    .options = view_options,
    .option_count = CLI_COUNT(view_options),
    .size = sizeof(data_args),
    .run = run_view,
};
