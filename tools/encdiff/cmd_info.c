/* encdiff info: what a model is, or what the library and this machine are. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

typedef struct info_args {
    const char *model;
    bool parameters, config, devices;
    int64_t batch;
} info_args;

/* ---------------------------------------------------------------- library and devices */

static void describe_device(cli *c, int32_t index)
{
    char memory[32];
    encdiff_device_info d = {.struct_size = sizeof d};
    cli_check(c, encdiff_context_get_device(c->context, index, &d));
    const char *size = d.memory_total ? text_bytes((double)d.memory_total, memory) : "";
    cli_print(c, "  %-8s %s%s%s%s%s\n", d.name, d.description, *size ? ", " : "", size,
              d.available ? "" : "; unavailable: ", d.available ? "" : d.reason);
    json_open(&c->json, NULL, '{');
    json_string(&c->json, "name", d.name);
    json_string(&c->json, "description", d.description);
    json_string(&c->json, "kind", d.kind == ENCDIFF_DEVICE_CUDA ? "cuda" : "cpu");
    json_bool(&c->json, "available", d.available);
    json_string(&c->json, "reason", d.reason);
    json_integer(&c->json, "memory_total", (int64_t)d.memory_total);
    json_integer(&c->json, "memory_free", (int64_t)d.memory_free);
    json_close(&c->json, '}');
}

/* The CPU and every GPU, also those that cannot be used. */
static void list_devices(cli *c)
{
    cli_print(c, "devices\n");
    json_open(&c->json, "devices", '[');
    for (int32_t i = 0; i < encdiff_context_device_count(c->context); i++) describe_device(c, i);
    json_close(&c->json, ']');
}

static void describe_library(cli *c)
{
    cli_print(c, "encdiff %s (ABI %d)\n%s\n", encdiff_version(), encdiff_abi_version(), encdiff_build_info());
    json_string(&c->json, "version", encdiff_version());
    json_integer(&c->json, "abi", encdiff_abi_version());
    json_string(&c->json, "build", encdiff_build_info());
    list_devices(c);
}

/* ---------------------------------------------------------------- a model */

static void print_count(cli *c, const char *name, const char *key, int64_t count)
{
    char number[32];
    cli_print(c, "  %-26s %14s\n", name, text_thousands(count, number));
    json_integer(&c->json, key, count);
}

static void describe_memory(cli *c, encdiff_model *model, int64_t batch)
{
    static const struct {
        encdiff_run run;
        const char *name, *key;
    } runs[] = {{ENCDIFF_RUN_ENCODE, "encoding", "encode"},
                {ENCDIFF_RUN_LATENTS, "images to latents", "latents"},
                {ENCDIFF_RUN_DECODE, "latents to images", "decode"},
                {ENCDIFF_RUN_PREDICT, "U-Net", "predict"},
                {ENCDIFF_RUN_TRAIN_AUTOENCODER, "step of the autoencoder", "train_autoencoder"},
                {ENCDIFF_RUN_TRAIN_ENCDIFF, "step of encdiff", "train_encdiff"}};
    cli_print(c, "memory beside the parameters, %lld images\n", (long long)batch);
    json_integer(&c->json, "batch", batch);
    json_open(&c->json, "memory", '{');
    for (size_t i = 0; i < CLI_COUNT(runs); i++) {
        uint64_t bytes = 0;
        char size[32];
        encdiff_status status = encdiff_model_get_memory(model, runs[i].run, (int32_t)batch, &bytes);
        if (status == ENCDIFF_ERROR_UNSUPPORTED) continue; /* this configuration has no such network */
        cli_check(c, status);
        cli_print(c, "  %-26s %14s\n", runs[i].name, text_bytes((double)bytes, size));
        json_integer(&c->json, runs[i].key, (int64_t)bytes);
    }
    json_close(&c->json, '}');
}

static void list_parameters(cli *c, encdiff_model *model)
{
    json_open(&c->json, "list", '[');
    cli_print(c, "list\n");
    for (int32_t i = 0; i < encdiff_model_parameter_count(model); i++) {
        encdiff_parameter_info p = {.struct_size = sizeof p};
        const char *shape = "";
        size_t mark = c->owned_count;
        cli_check(c, encdiff_model_get_parameter(model, i, &p));
        json_open(&c->json, NULL, '{');
        json_string(&c->json, "name", p.name);
        json_bool(&c->json, "trainable", p.trainable);
        json_open(&c->json, "shape", '[');
        for (int32_t k = 0; k < p.rank; k++) {
            shape = cli_format(c, "%s%s%lld", shape, k ? ", " : "", (long long)p.shape[k]);
            json_integer(&c->json, NULL, p.shape[k]);
        }
        json_close(&c->json, ']');
        json_close(&c->json, '}');
        cli_print(c, "  %s [%s]%s\n", p.name, shape, p.trainable ? "" : " (not trained)");
        cli_release_to(c, mark);
    }
    json_close(&c->json, ']');
}

static void describe_model(cli *c, const info_args *a)
{
    encdiff_model *model = cli_load_model(c, a->model);
    encdiff_model_info i = cli_model_info(c, model);
    cli_print(c, "%s\n  images          %d x %d\n  tokens          %d of %d %s\n", a->model, i.width, i.height,
              i.tokens, i.token_dim, i.has_scalars ? "floats, each from a scalar" : "floats (vector tokens)");
    cli_print(c, "  latents         %d x %d x %d, scale %.4g\n  timesteps       %d\n  moving averages %s\n",
              i.latent_channels, i.latent_height, i.latent_width, (double)i.latent_scale, i.timesteps,
              i.has_ema ? "yes" : "no");
    cli_print(c, "  trained         %lld steps\nparameters\n", (long long)i.steps);
    json_string(&c->json, "model", a->model);
    json_integer(&c->json, "height", i.height);
    json_integer(&c->json, "width", i.width);
    json_integer(&c->json, "tokens", i.tokens);
    json_integer(&c->json, "token_dim", i.token_dim);
    json_bool(&c->json, "has_scalars", i.has_scalars);
    json_bool(&c->json, "has_ema", i.has_ema);
    json_open(&c->json, "latent", '[');
    json_integer(&c->json, NULL, i.latent_channels);
    json_integer(&c->json, NULL, i.latent_height);
    json_integer(&c->json, NULL, i.latent_width);
    json_close(&c->json, ']');
    json_number(&c->json, "latent_scale", (double)i.latent_scale);
    json_integer(&c->json, "timesteps", i.timesteps);
    json_integer(&c->json, "steps", i.steps);
    json_open(&c->json, "parameters", '{');
    print_count(c, "U-Net", "unet", i.unet_parameters);
    print_count(c, "concept encoder", "encoder", i.encoder_parameters);
    print_count(c, "autoencoder", "autoencoder", i.autoencoder_parameters);
    json_close(&c->json, '}');
    describe_memory(c, model, a->batch);
    if (a->parameters) list_parameters(c, model);
    if (a->config) cli_print(c, "configuration\n%s\n", encdiff_model_config_json(model));
    json_raw(&c->json, "config", encdiff_model_config_json(model));
}

static void run_info(cli *c, void *arguments)
{
    info_args *a = arguments;
    if (a->devices) list_devices(c);
    if (a->model)
        describe_model(c, a);
    else if (!a->devices)
        describe_library(c);
}

static const cli_option options[] = {
    {"parameters", 0, CLI_FLAG, NULL, NULL, offsetof(info_args, parameters), 0, 0, false,
     "list the parameters under their published names"},
    {"config", 0, CLI_FLAG, NULL, NULL, offsetof(info_args, config), 0, 0, false, "print the configuration"},
    {"devices", 0, CLI_FLAG, NULL, NULL, offsetof(info_args, devices), 0, 0, false,
     "list the devices alone, with the reasons for which one cannot be used"},
    {"batch", 0, CLI_INT, "N", "32", offsetof(info_args, batch), 1, 65536, false, "images of which the memory is told"},
};

const cli_command cmd_info = {
    .name = "info",
    .summary = "what a model is; without MODEL: the library, its build and the devices",
    .example = "encdiff info run/model.safetensors --parameters",
    .arguments = {{"MODEL", true, false, offsetof(info_args, model), "a model file or training checkpoint"}},
    .options = options,
    .option_count = CLI_COUNT(options),
    .size = sizeof(info_args),
    .run = run_info,
};
