/* encdiff swap, traverse, interpolate: images with other concepts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "concepts.h"
#include "inputs.h"
#include "pictures.h"

/* ---------------------------------------------------------------- swap */

typedef struct swap_args {
    const char *model, *a, *b, *concepts, *output, *npy;
    input_args input;
    sampling_args sampling;
    int64_t scale;
} swap_args;

static void swap_some(cli *c, encdiff_sampler *sampler, const swap_args *a, const encdiff_image_view *x,
                      const encdiff_image_view *y, const int32_t *concepts, int32_t count, const float *noise)
{
    encdiff_image_view out = images_new(c, x->n, x->height, x->width);
    cli_check(c, encdiff_sampler_swap(sampler, x, y, concepts, count, noise, &out, progress_step, &c->progress));
    picture_swap(c, x, y, &out, a->output, a->scale);
    int64_t shape[] = {out.n, 3, out.height, out.width};
    if (a->npy) array_save(c, a->npy, ENCDIFF_TYPE_F32, out.data, 4, shape);
}

static void run_swap(cli *c, void *arguments)
{
    swap_args *a = arguments;
    int32_t *concepts;
    bool all;
    cli_check_output(c, a->output);
    cli_check_output(c, a->npy);
    encdiff_model *model = cli_load_model(c, a->model);
    int32_t tokens = cli_model_info(c, model).tokens;
    int32_t count = concepts_read(c, "concepts", a->concepts, tokens, &concepts, &all);
    if (all && a->npy) cli_usage(c, "--npy goes with a list of --concepts, not with all");
    inputs from_a = inputs_open(c, model, &(cli_texts){&a->a, 1}, &a->input);
    inputs from_b = inputs_open(c, model, &(cli_texts){&a->b, 1}, &a->input);
    if (from_a.size != from_b.size)
        cli_fail(c, "A has %lld images and B %lld: each of A needs its partner in B", (long long)from_a.size,
                 (long long)from_b.size);
    encdiff_image_view x = inputs_load(c, &from_a, PICTURE_IMAGES / 4, a->a);
    encdiff_image_view y = inputs_load(c, &from_b, PICTURE_IMAGES / 4, a->b);
    const float *noise = sampling_noise(c, model, &a->sampling, x.n);
    encdiff_sampler *sampler = sampling_create(c, model, &a->sampling);
    if (all)
        picture_swap_all(c, sampler, tokens, &x, &y, noise, a->output, a->scale);
    else
        swap_some(c, sampler, a, &x, &y, concepts, count, noise);
    const char *what = all ? "each concept" : cli_format(c, "%s %s", count == 1 ? "concept" : "concepts", a->concepts);
    cli_print(c, "%s: %d images of A with %s of B (%s)\n", a->output, x.n, what, sampling_describe(c, &a->sampling));
    json_string(&c->json, "output", a->output);
    json_integer(&c->json, "images", x.n);
    json_open(&c->json, "concepts", '[');
    for (int32_t i = 0; i < count; i++) json_integer(&c->json, NULL, concepts[i]);
    json_close(&c->json, ']');
    json_string(&c->json, "npy", a->npy);
    sampling_json(c, &a->sampling);
}

static const cli_option swap_options[] = {
    {"concepts", 'c', CLI_TEXT, "K,...|all", NULL, offsetof(swap_args, concepts), 0, 0, true,
     "numbers of the concepts to take from B: rows A, B, swapped; all: a grid with each concept in its own column"},
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(swap_args, output), 0, 0, true, "picture, .png"},
    {"npy", 0, CLI_TEXT, "FILE", NULL, offsetof(swap_args, npy), 0, 0, false,
     "also the swapped images as f32 [n,3,h,w] in [-1, 1]"},
    SAMPLING_OPTIONS(swap_args, sampling),
    INPUT_OPTIONS(swap_args, input),
    SCALE_OPTION(swap_args, scale),
};

const cli_command cmd_swap = {
    .name = "swap",
    .summary = "exchange chosen concepts between images",
    .details =
        "A and B are sources of equally many images: pictures, folders, arrays, .h5 files, procedural:shapes3d,\n"
        "with a range [begin:end] behind them.",
    .example = "encdiff swap run/model.safetensors \"procedural:shapes3d[0:8]\" \"procedural:shapes3d[9000:9008]\" "
               "--concepts 3,7 -o swap.png",
    .arguments = {MODEL_ARGUMENT(swap_args),
                  {"A", false, false, offsetof(swap_args, a), "images that are changed"},
                  {"B", false, false, offsetof(swap_args, b), "images that the concepts come from"}},
    .options = swap_options,
    .option_count = CLI_COUNT(swap_options),
    .size = sizeof(swap_args),
    .run = run_swap,
};

/* ---------------------------------------------------------------- traverse */

#define RANGE_IMAGES 1000

typedef struct traverse_args {
    const char *model, *image, *concepts, *output, *npy, *range, *data;
    bool resize;
    sampling_args sampling;
    int64_t values, scale;
} traverse_args;

static void parse_range(cli *c, const char *range, float *low, float *high)
{
    char *end;
    *low = strtof(range, &end);
    bool good = end != range && *end == ':';
    const char *second = good ? end + 1 : range;
    *high = good ? strtof(second, &end) : 0;
    if (!good || end == second || *end || !isfinite(*low) || !isfinite(*high))
        cli_usage(c, "--range %s: expected LOW:HIGH, such as -2:2", range);
}

/*
 * The range of the codes of some images, of --data or of what the model's configuration names; and, where they have
 * labels, the factor that each concept tells most about.
 */
static void find_ranges(cli *c, encdiff_model *model, const traverse_args *a, float *low, float *high,
                        const char **names)
{
    char named[1024];
    const char *source = a->data;
    if (!source)
        source = json_as_text(json_member(encdiff_model_config_json(model), "data.source"), named, sizeof named);
    if (!*source) cli_usage(c, "the range of the values is missing: --range LOW:HIGH, or --data SOURCE to find it");
    int32_t side = cli_model_info(c, model).height;
    encdiff_dataset *dataset = cli_open_dataset(c, source, a->resize ? side : 0);
    int64_t size = cli_dataset_info(c, dataset).size;
    int64_t count = size < RANGE_IMAGES ? size : RANGE_IMAGES;
    coded_set set = coded_set_make(c, model, cli_subset(c, dataset, count, true, c->common.seed));
    coded_set_ranges(&set, low, high);
    double *information = concept_information(c, &set);
    for (int32_t k = 0; information && k < set.tokens; k++) {
        int32_t factor = concept_factor(information, set.factors, k);
        if (factor >= 0) names[k] = set.factor_names[factor];
    }
    cli_print(c, "ranges of the codes of %lld images of %s\n", (long long)count, source);
}

static void report_traversal(cli *c, const traversal *t)
{
    json_open(&c->json, "concepts", '[');
    cli_print(c, "concept  low      high     change (mean levels of 255 between two values)\n");
    for (int32_t k = 0; k < t->concept_count; k++) {
        cli_print(c, "%7d  %-7.3g  %-7.3g  %-6.2f %s\n", t->concepts[k], (double)t->low[k], (double)t->high[k],
                  t->change[k], t->names && t->names[k] ? t->names[k] : "");
        json_open(&c->json, NULL, '{');
        json_integer(&c->json, "concept", t->concepts[k]);
        json_number(&c->json, "low", (double)t->low[k]);
        json_number(&c->json, "high", (double)t->high[k]);
        json_number(&c->json, "change", t->change[k]);
        json_string(&c->json, "factor", t->names ? t->names[k] : NULL);
        json_close(&c->json, '}');
    }
    json_close(&c->json, ']');
}

static void run_traverse(cli *c, void *arguments)
{
    traverse_args *a = arguments;
    int32_t *concepts;
    bool all;
    cli_check_output(c, a->output);
    cli_check_output(c, a->npy);
    encdiff_model *model = cli_load_model(c, a->model);
    encdiff_model_info info = cli_model_info(c, model);
    int32_t count = concepts_read(c, "concept", a->concepts, info.tokens, &concepts, &all);
    if (!info.has_scalars) cli_fail(c, "%s: has vector tokens, which cannot be traversed", a->model);
    float *low = cli_alloc(c, (size_t)info.tokens, sizeof *low),
          *high = cli_alloc(c, (size_t)info.tokens, sizeof *high);
    const char **names = cli_alloc(c, (size_t)info.tokens, sizeof *names);
    if (a->range) parse_range(c, a->range, &low[0], &high[0]); /* told before any work */
    encdiff_image_view image = inputs_load_one(c, model, a->image, a->resize);
    if (!a->range || a->data) find_ranges(c, model, a, low, high, names);
    if (a->range) parse_range(c, a->range, &low[0], &high[0]);
    traversal t = {.concept_count = count, .concepts = concepts, .values = (int32_t)a->values};
    t.noise = sampling_noise(c, model, &a->sampling, 1);
    float *chosen_low = cli_alloc(c, (size_t)count, sizeof *low),
          *chosen_high = cli_alloc(c, (size_t)count, sizeof *low);
    for (int32_t k = 0; k < count; k++) {
        chosen_low[k] = low[a->range ? 0 : concepts[k]];
        chosen_high[k] = high[a->range ? 0 : concepts[k]];
    }
    const char **chosen_names = cli_alloc(c, (size_t)count, sizeof *names);
    for (int32_t k = 0; k < count; k++) chosen_names[k] = names[concepts[k]];
    t.names = chosen_names;
    t.low = chosen_low;
    t.high = chosen_high;
    run_traversal(c, sampling_create(c, model, &a->sampling), &image, &t);
    picture_traversal(c, &image, &t, a->output, a->scale);
    int64_t shape[] = {count, t.values, 3, image.height, image.width};
    if (a->npy) array_save(c, a->npy, ENCDIFF_TYPE_F32, t.images.data, 5, shape);
    report_traversal(c, &t);
    cli_print(c, "%s\n", a->output);
    json_string(&c->json, "output", a->output);
    json_string(&c->json, "npy", a->npy);
    sampling_json(c, &a->sampling);
}

static const cli_option traverse_options[] = {
    {"concept", 'c', CLI_TEXT, "K,...|all", "all", offsetof(traverse_args, concepts), 0, 0, false,
     "numbers of the concepts to vary, a row each"},
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(traverse_args, output), 0, 0, true, "picture, .png"},
    {"range", 0, CLI_TEXT, "LOW:HIGH", NULL, offsetof(traverse_args, range), 0, 0, false,
     "values of the concept's scalar (default: the range of the codes of 1000 images of --data)"},
    {"data", 'd', CLI_TEXT, "SOURCE", NULL, offsetof(traverse_args, data), 0, 0, false,
     "where those images come from (default: the model's data.source)"},
    {"values", 0, CLI_INT, "N", "8", offsetof(traverse_args, values), 2, 256, false, "values in the range"},
    {"npy", 0, CLI_TEXT, "FILE", NULL, offsetof(traverse_args, npy), 0, 0, false,
     "also the images as f32 [concepts,values,3,h,w] in [-1, 1]"},
    SAMPLING_OPTIONS(traverse_args, sampling),
    RESIZE_OPTION(traverse_args, resize),
    SCALE_OPTION(traverse_args, scale),
};

const cli_command cmd_traverse = {
    .name = "traverse",
    .summary = "vary one concept of an image and keep the others",
    .details = "IMAGE is a picture, or one image of an array, .h5 file or procedural:shapes3d by a range of one.",
    .example = "encdiff traverse run/model.safetensors \"procedural:shapes3d[1234:1235]\" --concept all -o grid.png",
    .arguments = {MODEL_ARGUMENT(traverse_args), {"IMAGE", false, false, offsetof(traverse_args, image), "one image"}},
    .options = traverse_options,
    .option_count = CLI_COUNT(traverse_options),
    .size = sizeof(traverse_args),
    .run = run_traverse,
};

/* ---------------------------------------------------------------- interpolate */

typedef struct interpolate_args {
    const char *model, *a, *b, *output, *npy;
    input_args input;
    sampling_args sampling;
    int64_t values, scale;
} interpolate_args;

static void run_interpolate(cli *c, void *arguments)
{
    interpolate_args *a = arguments;
    cli_check_output(c, a->output);
    cli_check_output(c, a->npy);
    encdiff_model *model = cli_load_model(c, a->model);
    inputs from_a = inputs_open(c, model, &(cli_texts){&a->a, 1}, &a->input);
    inputs from_b = inputs_open(c, model, &(cli_texts){&a->b, 1}, &a->input);
    if (from_a.size != from_b.size)
        cli_fail(c, "A has %lld images and B %lld: each of A needs its partner in B", (long long)from_a.size,
                 (long long)from_b.size);
    encdiff_image_view x = inputs_load(c, &from_a, 64, a->a), y = inputs_load(c, &from_b, 64, a->b);
    const float *noise = sampling_noise(c, model, &a->sampling, 1);
    encdiff_sampler *sampler = sampling_create(c, model, &a->sampling);
    encdiff_image_view out = interpolate_pairs(c, sampler, &x, &y, (int32_t)a->values, noise);
    picture_interpolation(c, &x, &y, &out, a->output, a->scale);
    int64_t shape[] = {x.n, a->values, 3, x.height, x.width};
    if (a->npy) array_save(c, a->npy, ENCDIFF_TYPE_F32, out.data, 5, shape);
    cli_print(c, "%s: %d pairs, %lld images between them (%s)\n", a->output, x.n, (long long)a->values,
              sampling_describe(c, &a->sampling));
    json_string(&c->json, "output", a->output);
    json_integer(&c->json, "pairs", x.n);
    json_string(&c->json, "npy", a->npy);
    sampling_json(c, &a->sampling);
}

static const cli_option interpolate_options[] = {
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(interpolate_args, output), 0, 0, true, "picture, .png"},
    {"values", 0, CLI_INT, "N", "8", offsetof(interpolate_args, values), 2, 256, false,
     "images from A's concepts to B's, both included"},
    {"npy", 0, CLI_TEXT, "FILE", NULL, offsetof(interpolate_args, npy), 0, 0, false,
     "also the images as f32 [pairs,values,3,h,w] in [-1, 1]"},
    SAMPLING_OPTIONS(interpolate_args, sampling),
    INPUT_OPTIONS(interpolate_args, input),
    SCALE_OPTION(interpolate_args, scale),
};

const cli_command cmd_interpolate = {
    .name = "interpolate",
    .summary = "go from one image's concepts to another's",
    .details = "A and B are sources of equally many images. --noise is of one image, [1,c,h,w], and starts every one.",
    .example = "encdiff interpolate run/model.safetensors \"procedural:shapes3d[0:4]\" "
               "\"procedural:shapes3d[9000:9004]\" -o between.png",
    .arguments = {MODEL_ARGUMENT(interpolate_args),
                  {"A", false, false, offsetof(interpolate_args, a), "images to begin with"},
                  {"B", false, false, offsetof(interpolate_args, b), "images to end with"}},
    .options = interpolate_options,
    .option_count = CLI_COUNT(interpolate_options),
    .size = sizeof(interpolate_args),
    .run = run_interpolate,
};
