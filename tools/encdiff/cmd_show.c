/* encdiff attention, denoise, scatter: how the concepts work inside the model. */
#include <string.h>

#include "cli.h"
#include "plots.h"

/* ---------------------------------------------------------------- attention */

typedef struct attention_args {
    const char *model, *output, *npy;
    cli_texts sources;
    input_args input;
    sampling_args sampling;
    int64_t scale;
    bool plain;
} attention_args;

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
    encdiff_image_view sampled;
    cli_check_output(c, a->output);
    cli_check_output(c, a->npy);
    encdiff_model *model = cli_load_model(c, a->model);
    encdiff_model_info info = cli_model_info(c, model);
    inputs in = inputs_open(c, model, &a->sources, &a->input);
    encdiff_image_view images = inputs_load(c, &in, 256, a->sources.items[0]);
    if (a->sampling.raw_weights) cli_check(c, encdiff_model_use_ema(model, ENCDIFF_OFF));
    const float *noise = sampling_noise(c, model, &a->sampling, images.n);
    encdiff_sampler *sampler = sampling_create(c, model, &a->sampling);
    float *maps = attention_maps(c, model, sampler, &images, noise, &sampled);
    if (!maps) cli_fail(c, "%s: %s", a->model, encdiff_context_error(c->context));
    plot_attention(c, &images, &sampled, maps, info.tokens, !a->plain, a->output, a->scale);
    int64_t shape[] = {images.n, info.tokens, info.height, info.width};
    if (a->npy) array_save(c, a->npy, ENCDIFF_TYPE_F32, maps, 4, shape);
    report_shares(c, maps, images.n, info.tokens, (size_t)info.height * (size_t)info.width);
    cli_print(c, "%s: each map from its least to its largest, averaged over the steps (%s)\n", a->output,
              sampling_describe(c, &a->sampling));
    json_string(&c->json, "output", a->output);
    json_string(&c->json, "npy", a->npy);
    sampling_json(c, &a->sampling);
}

static const cli_option attention_options[] = {
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(attention_args, output), 0, 0, true,
     "picture, .png: input, sampled image, and a map for each token"},
    {"plain", 0, CLI_FLAG, NULL, NULL, offsetof(attention_args, plain), 0, 0, false,
     "the maps alone, not over the greyed image"},
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

/* ---------------------------------------------------------------- denoise */

typedef struct denoise_args {
    const char *model, *output;
    cli_texts sources;
    input_args input;
    sampling_args sampling;
    int64_t shown, scale;
} denoise_args;

static void run_denoise(cli *c, void *arguments)
{
    denoise_args *a = arguments;
    cli_check_output(c, a->output);
    encdiff_model *model = cli_load_model(c, a->model);
    inputs in = inputs_open(c, model, &a->sources, &a->input);
    encdiff_image_view images = inputs_load(c, &in, 256, a->sources.items[0]);
    const float *noise = sampling_noise(c, model, &a->sampling, images.n);
    plot_denoising(c, model, &a->sampling, &images, noise, (int32_t)a->shown, a->output, a->scale);
    cli_print(c, "%s: what the model expects the image to be after so many steps (%s)\n", a->output,
              sampling_describe(c, &a->sampling));
    json_string(&c->json, "output", a->output);
    json_integer(&c->json, "images", images.n);
    sampling_json(c, &a->sampling);
}

static const cli_option denoise_options[] = {
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(denoise_args, output), 0, 0, true,
     "picture, .png: a row for each image, a column for each moment"},
    {"shown", 0, CLI_INT, "N", "8", offsetof(denoise_args, shown), 1, 64, false, "moments of the steps"},
    SAMPLING_OPTIONS(denoise_args, sampling),
    INPUT_OPTIONS(denoise_args, input),
    SCALE_OPTION(denoise_args, scale),
};

const cli_command cmd_denoise = {
    .name = "denoise",
    .summary = "show how images come out of noise, step by step",
    .details = CLI_INPUT_DETAILS,
    .example = "encdiff denoise run/model.safetensors \"procedural:shapes3d[0:4]\" -o steps.png --steps 100",
    .arguments = {MODEL_ARGUMENT(denoise_args), INPUTS_ARGUMENT(denoise_args)},
    .options = denoise_options,
    .option_count = CLI_COUNT(denoise_options),
    .size = sizeof(denoise_args),
    .run = run_denoise,
};

/* ---------------------------------------------------------------- scatter */

typedef struct scatter_args {
    const char *model, *data, *output, *concepts, *factors;
    int64_t count;
    bool resize, raw_weights;
} scatter_args;

static int32_t read_scattered(cli *c, const char *list, int32_t tokens, int32_t **concepts)
{
    bool every;
    int special = strcmp(list, "best") == 0 ? SCATTER_BEST : strcmp(list, "all") == 0 ? SCATTER_ALL : 0;
    if (!special) return concepts_read(c, "concept", list, tokens, concepts, &every);
    *concepts = cli_alloc(c, 1, sizeof **concepts);
    **concepts = special;
    return 1;
}

/* "all", or names of factors separated by commas. */
static int32_t read_factors(cli *c, const coded_set *set, const char *list, int32_t **factors)
{
    int32_t count = 0;
    bool all = strcmp(list, "all") == 0;
    *factors = cli_alloc(c, (size_t)set->factors, sizeof **factors);
    for (int32_t f = 0; all && f < set->factors; f++) (*factors)[count++] = f;
    while (!all && *list) {
        size_t length = strcspn(list, ",");
        int32_t f = 0;
        for (; f < set->factors; f++)
            if (strlen(set->factor_names[f]) == length && strncmp(set->factor_names[f], list, length) == 0) break;
        const char *names = "";
        for (int32_t k = 0; k < set->factors; k++)
            names = cli_format(c, "%s%s\"%s\"", names, k ? ", " : "", set->factor_names[k]);
        if (f == set->factors) cli_fail(c, "there is no factor \"%.*s\"; there are: %s", (int)length, list, names);
        if (count == set->factors) cli_usage(c, "--factor names more than the %d factors there are", set->factors);
        (*factors)[count++] = f;
        list += length + (list[length] == ',');
    }
    if (!count) cli_usage(c, "--factor names none");
    return count;
}

static void run_scatter(cli *c, void *arguments)
{
    scatter_args *a = arguments;
    int32_t *concepts, *factors;
    cli_check_output(c, a->output);
    encdiff_model *model = cli_load_model(c, a->model);
    if (a->raw_weights) cli_check(c, encdiff_model_use_ema(model, ENCDIFF_OFF));
    encdiff_model_info info = cli_model_info(c, model);
    int32_t concept_count = read_scattered(c, a->concepts, info.tokens, &concepts);
    encdiff_dataset *dataset = cli_open_dataset(c, a->data, a->resize ? info.height : 0);
    int64_t size = cli_dataset_info(c, dataset).size, count = size < a->count ? size : a->count;
    coded_set set = coded_set_make(c, model, cli_subset(c, dataset, count, true, c->common.seed));
    if (!set.factors) cli_fail(c, "%s: has no labels to colour by", a->data);
    int32_t factor_count = read_factors(c, &set, a->factors, &factors);
    double *information = concept_information(c, &set);
    if (concepts[0] == SCATTER_BEST && !information)
        cli_fail(c, "%s: a factor has one value alone, so no concept is best: name some with --concept", a->data);
    plot_scatter(c, &set, information, concepts, concept_count, factors, factor_count, a->output);
    cli_print(c, "%s: two principal components of the tokens of %lld images\n", a->output, (long long)count);
    json_string(&c->json, "output", a->output);
    json_integer(&c->json, "images", count);
}

static const cli_option scatter_options[] = {
    {"data", 'd', CLI_TEXT, "SOURCE", NULL, offsetof(scatter_args, data), 0, 0, true, "a dataset with labels"},
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(scatter_args, output), 0, 0, true, "picture, .png"},
    {"concept", 'c', CLI_TEXT, "K,...|best|all", "best", offsetof(scatter_args, concepts), 0, 0, false,
     "tokens to show; best: the one that tells most about each factor; all: all tokens of an image as one vector"},
    {"factor", 'f', CLI_TEXT, "NAME,...|all", "all", offsetof(scatter_args, factors), 0, 0, false,
     "factors that colour the points, a panel each"},
    {"count", 'n', CLI_INT, "N", "2000", offsetof(scatter_args, count), 3, 1e6, false, "images, drawn by the seed"},
    RAW_WEIGHTS_OPTION(scatter_args, raw_weights),
    RESIZE_OPTION(scatter_args, resize),
};

const cli_command cmd_scatter = {
    .name = "scatter",
    .summary = "plot tokens by their principal components, coloured by factor",
    .details = "Colours go from blue, a factor's first value, to red, its last.",
    .example = "encdiff scatter run/model.safetensors --data procedural:shapes3d -o tokens.png",
    .arguments = {MODEL_ARGUMENT(scatter_args)},
    .options = scatter_options,
    .option_count = CLI_COUNT(scatter_options),
    .size = sizeof(scatter_args),
    .run = run_scatter,
};
