/* encdiff train, presets, init: from a configuration to a model. */
#include <string.h>

#include "cli.h"
#include "evaluation.h"
#include "training.h"

/* ---------------------------------------------------------------- presets */

typedef struct presets_args {
    const char *name;
    cli_texts set;
} presets_args;

static void list_presets(cli *c)
{
    json_open(&c->json, "presets", '[');
    for (int32_t i = 0; i < encdiff_preset_count(); i++) {
        cli_print(c, "%-20s %s\n", encdiff_preset_name(i), encdiff_preset_description(i));
        json_open(&c->json, NULL, '{');
        json_string(&c->json, "name", encdiff_preset_name(i));
        json_string(&c->json, "description", encdiff_preset_description(i));
        json_close(&c->json, '}');
    }
    json_close(&c->json, ']');
}

static void run_presets(cli *c, void *arguments)
{
    presets_args *a = arguments;
    if (!a->name && a->set.count) cli_usage(c, "--set needs the NAME of a preset");
    if (!a->name) {
        list_presets(c);
        return;
    }
    const char *json = cli_resolve_config(c, a->name, &a->set);
    cli_print(c, "%s\n", json);
    c->json_text = json;
}

#define SET_HELP "change a key of the configuration; may be given again and again"

static const cli_option presets_options[] = {
    {"set", 0, CLI_TEXTS, "GROUP.KEY=VALUE", NULL, offsetof(presets_args, set), 0, 0, false, SET_HELP},
};

const cli_command cmd_presets = {
    .name = "presets",
    .summary = "list the built-in configurations, or print one in full",
    .details = "What is printed for a NAME can be saved, edited and given to `init` and `train`.",
    .example = "encdiff presets shapes3d-tiny --set train_encdiff.batch_size=32 > my.json",
    .arguments = {{"NAME", true, false, offsetof(presets_args, name), "preset, or a configuration file to complete"}},
    .options = presets_options,
    .option_count = CLI_COUNT(presets_options),
    .size = sizeof(presets_args),
    .run = run_presets,
};

/* ---------------------------------------------------------------- init */

typedef struct init_args {
    const char *preset, *output;
    cli_texts set;
} init_args;

static void run_init(cli *c, void *arguments)
{
    init_args *a = arguments;
    encdiff_model *model;
    cli_check_output(c, a->output);
    const char *config = cli_resolve_config(c, a->preset, &a->set);
    uint64_t seed = training_seed(c, config);
    cli_check(c, encdiff_model_create(c->context, config, seed, &model));
    cli_own_model(c, model);
    cli_check(c, encdiff_model_save(model, a->output));
    encdiff_model_info info = cli_model_info(c, model);
    int64_t count = info.autoencoder_parameters + info.encoder_parameters + info.unet_parameters;
    char number[32];
    cli_print(c, "%s: untrained model of %s parameters\n", a->output, text_thousands(count, number));
    json_string(&c->json, "model", a->output);
    json_integer(&c->json, "parameters", count);
    json_integer(&c->json, "seed", (int64_t)seed);
}

static const cli_option init_options[] = {
    {"preset", 'p', CLI_TEXT, "NAME", NULL, offsetof(init_args, preset), 0, 0, true,
     "preset (`encdiff presets` lists them), or a configuration file"},
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(init_args, output), 0, 0, true, "the model, .safetensors"},
    {"set", 0, CLI_TEXTS, "GROUP.KEY=VALUE", NULL, offsetof(init_args, set), 0, 0, false, SET_HELP},
};

const cli_command cmd_init = {
    .name = "init",
    .summary = "write an untrained model",
    .details = "Parameters are distributed as PyTorch's; without --seed the configuration's data.seed is used.",
    .example = "encdiff init --preset shapes3d-official -o model.safetensors",
    .options = init_options,
    .option_count = CLI_COUNT(init_options),
    .size = sizeof(init_args),
    .run = run_init,
};

/* ---------------------------------------------------------------- train */

enum { STAGE_BOTH, STAGE_AUTOENCODER, STAGE_ENCDIFF };

typedef struct train_args {
    const char *config, *data, *out, *autoencoder, *lpips;
    const char *metrics, *best, *score_data, *score_settings;
    int32_t stage;
    int64_t steps, count, evaluate_every, evaluate_epochs, score_count;
    bool resume, overwrite, resize;
    cli_texts set;
} train_args;

static encdiff_dataset *open_data(cli *c, const train_args *a, const char *config)
{
    char named[1024];
    const char *source = a->data;
    if (!source) source = json_as_text(json_member(config, "data.source"), named, sizeof named);
    if (!*source) cli_usage(c, "--data SOURCE is missing: the configuration names no data.source");
    int32_t side = (int32_t)json_as_number(json_member(config, "image.resolution"), 0);
    encdiff_dataset *dataset = cli_open_dataset(c, source, a->resize ? side : 0);
    encdiff_dataset_info info = cli_dataset_info(c, dataset);
    if (info.height != side || info.width != side)
        cli_fail(c, "%s: images are %dx%d, the configuration's are %dx%d (--resize fits them)", info.name, info.width,
                 info.height, side, side);
    return a->count ? cli_subset(c, dataset, a->count, false, 0) : dataset;
}

/* Checkpoints of another run must not be mixed with this one's. */
static void check_folder(cli *c, const training *t, bool overwrite)
{
    static const char *const names[] = {"autoencoder", "encdiff"};
    const bool runs[] = {t->autoencoder_stage, t->encdiff_stage};
    for (int i = 0; i < 2 && !t->resume; i++) {
        if (!runs[i] || training_checkpoint(t->out, names[i]) < 0) continue;
        if (!overwrite)
            cli_fail(c, "%s: holds checkpoints of the stage %s: --resume goes on, --overwrite begins anew", t->out,
                     names[i]);
        training_remove_checkpoints(c, t->out, names[i]);
    }
}

static void report_stage(cli *c, const stage_result *r)
{
    char time[32];
    if (!r->name) return;
    if (r->steps == r->first_step)
        cli_print(c, "%-12s %lld steps, nothing left to do\n", r->name, (long long)r->steps);
    else
        cli_print(c, "%-12s %lld steps of %lld images, loss %.4g, %s (%.0f images/s)\n", r->name, (long long)r->steps,
                  (long long)r->batch, r->loss, text_duration(r->seconds, time), r->images_per_second);
    json_open(&c->json, NULL, '{');
    json_string(&c->json, "stage", r->name);
    json_integer(&c->json, "first_step", r->first_step);
    json_integer(&c->json, "steps", r->steps);
    json_number(&c->json, "loss", r->loss);
    json_number(&c->json, "seconds", r->seconds);
    json_number(&c->json, "images_per_second", r->images_per_second);
    json_close(&c->json, '}');
}

/* A text in the quotes of JSON, kept until the end. */
static const char *quoted(cli *c, const char *value)
{
    text t = {0};
    json_quote(&t, value);
    const char *copy = cli_format(c, "%s", t.data);
    text_free(&t);
    return copy;
}

/* --set, and the options that are keys of the configuration, too. */
static cli_texts overrides(cli *c, const train_args *a)
{
    cli_texts all = {cli_alloc(c, (size_t)a->set.count + 4, sizeof *all.items), a->set.count};
    for (int32_t i = 0; i < a->set.count; i++) all.items[i] = a->set.items[i];
    if (a->evaluate_every || a->evaluate_epochs) { /* both together replace what the configuration says */
        all.items[all.count++] = cli_format(c, "data.evaluate_every=%lld", (long long)a->evaluate_every);
        all.items[all.count++] = cli_format(c, "data.evaluate_every_epochs=%lld", (long long)a->evaluate_epochs);
    }
    if (a->metrics) all.items[all.count++] = cli_format(c, "data.evaluate_metrics=%s", quoted(c, a->metrics));
    if (a->best) all.items[all.count++] = cli_format(c, "data.keep_best=%s", quoted(c, a->best));
    return all;
}

/* What is scored while training: a random part of what is named, or of what is learnt from. */
static void choose_scored(cli *c, const train_args *a, training *t)
{
    bool wanted = training_evaluates(t->config);
    int32_t side = (int32_t)json_as_number(json_member(t->config, "image.resolution"), 0);
    if (!wanted && (a->metrics || a->best || a->score_data || a->score_settings))
        cli_usage(c, "scores while training need --evaluate-every N or --evaluate-every-epochs N");
    if (!wanted || !t->encdiff_stage) return;
    evaluation_check_names(c, a->metrics);
    encdiff_dataset *from = a->score_data ? cli_open_dataset(c, a->score_data, a->resize ? side : 0) : t->dataset;
    int64_t size = cli_dataset_info(c, from).size;
    t->scored = a->score_count < size ? cli_subset(c, from, a->score_count, true, t->seed) : from;
    t->score_settings = a->score_settings;
    t->score_seed = t->seed;
}

static void run_train(cli *c, void *arguments)
{
    train_args *a = arguments;
    stage_result results[2];
    cli_texts set = overrides(c, a);
    if (a->resume && a->overwrite) cli_usage(c, "--resume and --overwrite exclude each other");
    const char *config = training_config(c, a->config, &set, a->steps);
    training t = {.config = config,
                  .out = a->out,
                  .autoencoder = a->autoencoder,
                  .lpips = a->lpips,
                  .seed = training_seed(c, config),
                  .encdiff_stage = a->stage != STAGE_AUTOENCODER,
                  .resume = a->resume};
    bool learnt = training_has_autoencoder(config);
    t.autoencoder_stage = a->stage == STAGE_AUTOENCODER || (a->stage == STAGE_BOTH && learnt && !a->autoencoder);
    if (a->stage == STAGE_AUTOENCODER && !learnt)
        cli_fail(c, "the autoencoder stage has nothing to train: autoencoder.kind has no parameters");
    if (a->stage == STAGE_AUTOENCODER && a->autoencoder) cli_usage(c, "--autoencoder is for the encdiff stage");
    t.dataset = open_data(c, a, config);
    choose_scored(c, a, &t);
    check_folder(c, &t, a->overwrite);
    training_run(c, &t, results);
    json_open(&c->json, "stages", '[');
    for (int i = 0; i < 2; i++) report_stage(c, &results[i]);
    json_close(&c->json, ']');
    training_report_best(c, &t);
    const char *path = cli_format(c, "%s/model.safetensors", a->out);
    json_string(&c->json, "model", path);
    json_raw(&c->json, "config", config);
    cli_print(c, "model        %s\n", path);
}

static const cli_option train_options[] = {
    {"data", 'd', CLI_TEXT, "SOURCE", NULL, offsetof(train_args, data), 0, 0, false,
     "what to learn from: .h5, .npz, .npy, a folder, procedural:shapes3d, with a range [begin:end] behind it (default: "
     "the configuration's data.source)"},
    {"out", 'o', CLI_TEXT, "DIR", NULL, offsetof(train_args, out), 0, 0, true,
     "folder of model, checkpoints, loss curves and pictures; made where absent"},
    {"stage", 0, CLI_CHOICE, "both|autoencoder|encdiff", "both", offsetof(train_args, stage), 0, 0, false,
     "what to train; both leaves out an autoencoder without parameters"},
    {"steps", 0, CLI_INT, "N", NULL, offsetof(train_args, steps), 1, 1e9, false,
     "steps of a stage in all (default: the configuration's)"},
    {"resume", 0, CLI_FLAG, NULL, NULL, offsetof(train_args, resume), 0, 0, false,
     "go on from the newest checkpoint in DIR exactly as if training had not stopped"},
    {"overwrite", 0, CLI_FLAG, NULL, NULL, offsetof(train_args, overwrite), 0, 0, false,
     "remove the checkpoints that are in DIR and begin anew"},
    {"set", 0, CLI_TEXTS, "GROUP.KEY=VALUE", NULL, offsetof(train_args, set), 0, 0, false, SET_HELP},
    {"autoencoder", 0, CLI_TEXT, "MODEL", NULL, offsetof(train_args, autoencoder), 0, 0, false,
     "take the trained autoencoder from this model (default: DIR/model.safetensors)"},
    {"lpips", 0, CLI_TEXT, "FILE", NULL, offsetof(train_args, lpips), 0, 0, false,
     "VGG16 and LPIPS weights for the perceptual loss"},
    {"resize", 0, CLI_FLAG, NULL, NULL, offsetof(train_args, resize), 0, 0, false,
     "resize the images to the configuration's resolution (Pillow's bicubic)"},
    {"count", 'n', CLI_INT, "N", NULL, offsetof(train_args, count), 1, 1e12, false, "learn from the first N images"},
    {"evaluate-every", 0, CLI_INT, "N", NULL, offsetof(train_args, evaluate_every), 1, 1e9, false,
     "score the model every N steps of the encdiff stage and after the last (default: the configuration's)"},
    {"evaluate-every-epochs", 0, CLI_INT, "N", NULL, offsetof(train_args, evaluate_epochs), 1, 1e9, false,
     "the same every N passes over the data; with --evaluate-every, at both"},
    {"evaluate-metrics", 0, CLI_TEXT, "NAME,...", NULL, offsetof(train_args, metrics), 0, 0, false,
     "which metrics (default: all that labels allow; `evaluate --help` lists them)"},
    {"evaluate-data", 0, CLI_TEXT, "SOURCE", NULL, offsetof(train_args, score_data), 0, 0, false,
     "labelled images that are scored (default: those that are learnt from)"},
    {"evaluate-count", 0, CLI_INT, "N", "15000", offsetof(train_args, score_count), 1, 1e12, false,
     "how many of them, drawn by the seed"},
    {"evaluate-settings", 0, CLI_TEXT, "JSON", NULL, offsetof(train_args, score_settings), 0, 0, false,
     "of single metrics, as in `evaluate`"},
    {"best", 0, CLI_TEXT, "SCORE,...", NULL, offsetof(train_args, best), 0, 0, false,
     "keep DIR/best-SCORE.safetensors, the checkpoint that is best by each score: factor_vae.eval,mse"},
};

const cli_command cmd_train = {
    .name = "train",
    .summary = "train a model: the autoencoder, then encoder and U-Net",
    .details =
        "DIR/model.safetensors is written at the end of each stage; autoencoder.csv and encdiff.csv hold the loss\n"
        "curves, encdiff-scores.csv what --evaluate-every found. Checkpoints, of which the two newest are kept, let\n"
        "--resume go on after a crash or Ctrl-C.\n"
        "Without --seed the configuration's data.seed is used.",
    .example = "encdiff train shapes3d-tiny --data shapes3d.h5 --out run --set train_encdiff.batch_size=32",
    .arguments = {{"CONFIG", false, false, offsetof(train_args, config), "a preset's name or a JSON file"}},
    .options = train_options,
    .option_count = CLI_COUNT(train_options),
    .size = sizeof(train_args),
    .run = run_train,
};
