/* encdiff import, export: checkpoints of the published PyTorch code. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "inputs.h"

/* ---------------------------------------------------------------- import */

typedef struct import_args {
    const char *checkpoint, *config, *output;
    cli_texts set;
} import_args;

static const struct {
    int32_t bit;
    const char *name, *key;
} networks[] = {{ENCDIFF_FOUND_UNET, "U-Net", "unet"},
                {ENCDIFF_FOUND_ENCODER, "encoder", "encoder"},
                {ENCDIFF_FOUND_AUTOENCODER, "autoencoder", "autoencoder"},
                {ENCDIFF_FOUND_DISCRIMINATOR, "discriminator", "discriminator"},
                {ENCDIFF_FOUND_AVERAGES, "moving averages", "averages"}};

/* Whether the model has such a network; every checkpoint of training has the averages of a U-Net. */
static bool expected(const encdiff_model_info *info, int32_t bit)
{
    return bit == ENCDIFF_FOUND_UNET || bit == ENCDIFF_FOUND_ENCODER || bit == ENCDIFF_FOUND_AVERAGES ||
           (bit == ENCDIFF_FOUND_AUTOENCODER && info->autoencoder_parameters > 0);
}

static void run_import(cli *c, void *arguments)
{
    import_args *a = arguments;
    encdiff_model *model;
    int32_t found = 0;
    cli_check_output(c, a->output);
    const char *config = cli_resolve_config(c, a->config, &a->set);
    cli_check(c, encdiff_model_import(c->context, a->checkpoint, config, &found, &model));
    cli_own_model(c, model);
    cli_check(c, encdiff_model_save(model, a->output));
    encdiff_model_info info = cli_model_info(c, model);
    const char *has = "", *has_not = "";
    json_string(&c->json, "model", a->output);
    json_integer(&c->json, "steps", info.steps);
    for (size_t i = 0; i < CLI_COUNT(networks); i++) {
        bool here = found & networks[i].bit;
        json_bool(&c->json, networks[i].key, here);
        if (here)
            has = cli_format(c, "%s%s%s", has, *has ? ", " : "", networks[i].name);
        else if (expected(&info, networks[i].bit))
            has_not = cli_format(c, "%s%s%s", has_not, *has_not ? ", " : "", networks[i].name);
    }
    cli_print(c, "%s: %s of %s\n", a->output, has, a->checkpoint);
    if (*has_not) cli_print(c, "not in the checkpoint: %s\n", has_not);
}

static const cli_option import_options[] = {
    {"config", 0, CLI_TEXT, "NAME", "shapes3d-official", offsetof(import_args, config), 0, 0, false,
     "preset or configuration file of the networks in the checkpoint"},
    {"set", 0, CLI_TEXTS, "GROUP.KEY=VALUE", NULL, offsetof(import_args, set), 0, 0, false,
     "change a key of the configuration; may be given again and again"},
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(import_args, output), 0, 0, true, "the model, .safetensors"},
};

const cli_command cmd_import = {
    .name = "import",
    .summary = "make a model of a checkpoint of the published PyTorch code",
    .details =
        "CHECKPOINT is a .ckpt or .pth file, or .safetensors with the same names; nothing in it is run. One of the\n"
        "autoencoder's stage gives a model for `train --autoencoder`, whose other networks are untrained.",
    .example = "encdiff import last.ckpt --config shapes3d-official -o model.safetensors",
    .arguments = {{"CHECKPOINT", false, false, offsetof(import_args, checkpoint), "what the published code wrote"}},
    .options = import_options,
    .option_count = CLI_COUNT(import_options),
    .size = sizeof(import_args),
    .run = run_import,
};

/* ---------------------------------------------------------------- export */

typedef struct export_args {
    const char *model, *output;
} export_args;

static void run_export(cli *c, void *arguments)
{
    export_args *a = arguments;
    cli_check_output(c, a->output);
    encdiff_model *model = cli_load_model(c, a->model);
    cli_check(c, encdiff_model_export(model, a->output));
    cli_print(c, "%s: %s under the published names\n", a->output, a->model);
    json_string(&c->json, "checkpoint", a->output);
}

static const cli_option export_options[] = {
    {"output", 'o', CLI_TEXT, "FILE", NULL, offsetof(export_args, output), 0, 0, true, "the tensors, .safetensors"},
};

const cli_command cmd_export = {
    .name = "export",
    .summary = "write a model for the published PyTorch code",
    .details = "There: model.load_state_dict(safetensors.torch.load_file(FILE), strict=False).",
    .example = "encdiff export model.safetensors -o checkpoint.safetensors",
    .arguments = {MODEL_ARGUMENT(export_args)},
    .options = export_options,
    .option_count = CLI_COUNT(export_options),
    .size = sizeof(export_args),
    .run = run_export,
};
