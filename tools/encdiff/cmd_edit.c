/* encdiff swap, traverse, attention: what the concepts do. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "inputs.h"
#include "pictures.h"

/* "all", or numbers separated by commas, checked against the model. Returns how many; *all: every one, by "all". */
static int32_t read_concepts(cli *c, const char *option, const char *list, int32_t tokens, int32_t **concepts,
                             bool *all)
{
    *all = strcmp(list, "all") == 0;
    if (!*all) {
        int32_t count = options_integers(c, option, list, concepts);
        for (int32_t i = 0; i < count; i++)
            if ((*concepts)[i] >= tokens)
                cli_fail(c, "--%s %s: concept %d: the model has 0 .. %d", option, list, (*concepts)[i], tokens - 1);
        return count;
    }
    *concepts = cli_alloc(c, (size_t)tokens, sizeof **concepts);
    for (int32_t i = 0; i < tokens; i++) (*concepts)[i] = i;
    return tokens;
}

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
    int32_t count = read_concepts(c, "concepts", a->concepts, tokens, &concepts, &all);
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

#define RANGE_IMAGES 256

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

/* The range of the codes of some images: of --data, or of what the model's configuration names. */
static void find_ranges(cli *c, encdiff_model *model, const traverse_args *a, float *low, float *high)
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
    concept_ranges(c, model, cli_subset(c, dataset, count, true, c->common.seed), low, high);
    cli_print(c, "ranges of the codes of %lld images of %s\n", (long long)count, source);
}

static void report_traversal(cli *c, const traversal *t)
{
    json_open(&c->json, "concepts", '[');
    cli_print(c, "concept  low      high     change (mean levels of 255 between two values)\n");
    for (int32_t k = 0; k < t->concept_count; k++) {
        cli_print(c, "%7d  %-7.3g  %-7.3g  %.2f\n", t->concepts[k], (double)t->low[k], (double)t->high[k],
                  t->change[k]);
        json_open(&c->json, NULL, '{');
        json_integer(&c->json, "concept", t->concepts[k]);
        json_number(&c->json, "low", (double)t->low[k]);
        json_number(&c->json, "high", (double)t->high[k]);
        json_number(&c->json, "change", t->change[k]);
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
    int32_t count = read_concepts(c, "concept", a->concepts, info.tokens, &concepts, &all);
    if (!info.has_scalars) cli_fail(c, "%s: has vector tokens, which cannot be traversed", a->model);
    float *low = cli_alloc(c, (size_t)info.tokens, sizeof *low),
          *high = cli_alloc(c, (size_t)info.tokens, sizeof *high);
    if (a->range) parse_range(c, a->range, &low[0], &high[0]);
    encdiff_image_view image = inputs_load_one(c, model, a->image, a->resize);
    if (!a->range) find_ranges(c, model, a, low, high);
    traversal t = {.concept_count = count, .concepts = concepts, .values = (int32_t)a->values};
    t.noise = sampling_noise(c, model, &a->sampling, 1);
    float *chosen_low = cli_alloc(c, (size_t)count, sizeof *low),
          *chosen_high = cli_alloc(c, (size_t)count, sizeof *low);
    for (int32_t k = 0; k < count; k++) {
        chosen_low[k] = low[a->range ? 0 : concepts[k]];
        chosen_high[k] = high[a->range ? 0 : concepts[k]];
    }
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
     "values of the concept's scalar (default: the range of the codes of 256 images of --data)"},
    {"data", 'd', CLI_TEXT, "SOURCE", NULL, offsetof(traverse_args, data), 0, 0, false,
     "where those images come from (default: the model's data.source)"},
    {"values", 0, CLI_INT, "N", "8", offsetof(traverse_args, values), 2, 256, false, "values in the range"},
    {"npy", 0, CLI_TEXT, "FILE", NULL, offsetof(traverse_args, npy), 0, 0, false,
     "also the images as f32 [concepts,values,3,h,w] in [-1, 1]"},
    SAMPLING_OPTIONS(traverse_args, sampling),
    {"resize", 0, CLI_FLAG, NULL, NULL, offsetof(traverse_args, resize), 0, 0, false,
     "resize the images to the model's resolution (Pillow's bicubic)"},
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

/* ---------------------------------------------------------------- attention */

typedef struct attention_args {
    const char *model, *output, *npy;
    cli_texts sources;
    input_args input;
    sampling_args sampling;
    int64_t scale;
} attention_args;

/* Black, red, yellow, white from the least to the largest of the map; planes of a CHW image in [-1, 1]. */
static void heat(const float *map, size_t pixels, float *out)
{
    float least = map[0], most = map[0];
    for (size_t i = 1; i < pixels; i++) {
        least = fminf(least, map[i]);
        most = fmaxf(most, map[i]);
    }
    for (size_t i = 0; i < pixels; i++)
        for (size_t plane = 0; plane < 3; plane++) {
            float level = 3 * (map[i] - least) / fmaxf(most - least, 1e-20f) - (float)plane;
            out[plane * pixels + i] = 2 * fminf(fmaxf(level, 0), 1) - 1;
        }
}

static void picture_maps(cli *c, const encdiff_image_view *images, const encdiff_image_view *sampled, const float *maps,
                         int32_t tokens, const attention_args *a)
{
    size_t pixels = (size_t)images->height * (size_t)images->width;
    grid g = grid_new(c, images->n, tokens + 2, images->height, images->width);
    float *drawn = cli_alloc(c, 3 * pixels, sizeof *drawn);
    g.column_labels[0] = "input";
    g.column_labels[1] = "sampled";
    for (int32_t k = 0; k < tokens; k++) g.column_labels[k + 2] = cli_format(c, "%d", k);
    for (int32_t i = 0; i < images->n; i++) {
        grid_put(&g, i, 0, image_at(images, i));
        grid_put(&g, i, 1, image_at(sampled, i));
        for (int32_t k = 0; k < tokens; k++) {
            const float *map = maps + ((size_t)i * (size_t)tokens + (size_t)k) * pixels;
            heat(map, pixels, drawn);
            grid_put(&g, i, k + 2, drawn);
        }
    }
    grid_write(c, &g, a->output, a->scale);
}

/* Mean of each map: the share of all attention that the token gets. */
static void report_shares(cli *c, const float *maps, int32_t n, int32_t tokens, size_t pixels)
{
    json_open(&c->json, "share", '[');
    cli_print(c, "share of the attention, by token:");
    for (int32_t k = 0; k < tokens; k++) {
        double sum = 0;
        for (int32_t i = 0; i < n; i++)
            for (size_t p = 0; p < pixels; p++)
                sum += (double)maps[((size_t)i * (size_t)tokens + (size_t)k) * pixels + p];
        double share = sum / (double)pixels / n;
        cli_print(c, " %.3f", share);
        json_number(&c->json, NULL, share);
    }
    cli_print(c, "\n");
    json_close(&c->json, ']');
}

static void run_attention(cli *c, void *arguments)
{
    attention_args *a = arguments;
    cli_check_output(c, a->output);
    cli_check_output(c, a->npy);
    encdiff_model *model = cli_load_model(c, a->model);
    encdiff_model_info info = cli_model_info(c, model);
    inputs in = inputs_open(c, model, &a->sources, &a->input);
    encdiff_image_view images = inputs_load(c, &in, 256, a->sources.items[0]);
    encdiff_image_view sampled = images_new(c, images.n, images.height, images.width);
    size_t n = (size_t)images.n, tokens = (size_t)info.tokens, pixels = (size_t)info.height * (size_t)info.width;
    float *codes = cli_alloc(c, n * tokens, (size_t)info.token_dim * sizeof *codes);
    float *maps = cli_alloc(c, n * tokens, pixels * sizeof *maps);
    if (a->sampling.raw_weights) cli_check(c, encdiff_model_use_ema(model, ENCDIFF_OFF));
    cli_check(c, encdiff_model_encode(model, &images, NULL, codes));
    const float *noise = sampling_noise(c, model, &a->sampling, images.n);
    encdiff_sampler *sampler = sampling_create(c, model, &a->sampling);
    cli_check(c, encdiff_sampler_attention(sampler, images.n, codes, noise, info.height, info.width, maps, &sampled,
                                           progress_step, &c->progress));
    picture_maps(c, &images, &sampled, maps, info.tokens, a);
    int64_t shape[] = {images.n, info.tokens, info.height, info.width};
    if (a->npy) array_save(c, a->npy, ENCDIFF_TYPE_F32, maps, 4, shape);
    report_shares(c, maps, images.n, info.tokens, pixels);
    cli_print(c, "%s: each map from its least to its largest, averaged over the steps (%s)\n", a->output,
              sampling_describe(c, &a->sampling));
    json_string(&c->json, "output", a->output);
    json_string(&c->json, "npy", a->npy);
    sampling_json(c, &a->sampling);
}

static const cli_option attention_options[] = {
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(attention_args, output), 0, 0, true,
     "picture, .png: input, sampled image, and a map for each token"},
    {"npy", 0, CLI_TEXT, "FILE", NULL, offsetof(attention_args, npy), 0, 0, false,
     "also the maps as f32 [n,tokens,h,w]; the tokens of a pixel sum to 1"},
    SAMPLING_OPTIONS(attention_args, sampling),
    INPUT_OPTIONS(attention_args, input),
    SCALE_OPTION(attention_args, scale),
};

const cli_command cmd_attention = {
    .name = "attention",
    .summary = "show where in the image each concept token acts",
    .details = CLI_INPUT_DETAILS,
    .example = "encdiff attention run/model.safetensors \"procedural:shapes3d[0:4]\" -o maps.png",
    .arguments = {MODEL_ARGUMENT(attention_args), INPUTS_ARGUMENT(attention_args)},
    .options = attention_options,
    .option_count = CLI_COUNT(attention_options),
    .size = sizeof(attention_args),
    .run = run_attention,
};
