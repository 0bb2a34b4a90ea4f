/* What every command uses: ends, memory, handles, output. */
#define _GNU_SOURCE
#include "cli.h"
#include "interrupts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------- the end */

void cli_release_to(cli *c, size_t mark)
{
    while (c->owned_count > mark) {
        cli_owned *o = &c->owned[--c->owned_count];
        o->release(c, o->thing);
    }
}

/* Handles before the context, the newest first. */
static void release_all(cli *c)
{
    cli_release_to(c, 0);
    free(c->owned);
    text_free(&c->json.text);
    encdiff_context_free(c->context);
    free(c);
}

static int write_json(cli *c)
{
    text whole = {0};
    if (!c->json_text) json_close(&c->json, '}');
    text_add(&whole, "%s", c->json_text ? c->json_text : c->json.text.data);
    if (whole.data[whole.length - 1] != '\n') text_add(&whole, "\n");
    int error = 0;
    if (strcmp(c->common.json, "-") == 0)
        fputs(whole.data, stdout);
    else
        error = text_write_file(&whole, c->common.json);
    text_free(&whole);
    if (error) fprintf(stderr, "encdiff: %s: cannot be written: %s\n", c->common.json, strerror(error));
    return error ? CLI_FAILED : CLI_OK;
}

_Noreturn void cli_exit(cli *c, int status)
{
    progress_clear(&c->progress);
    if (status == CLI_OK && c->common.json && !c->common.help) status = write_json(c);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == CLI_OK) {
        fprintf(stderr, "encdiff: standard output cannot be written: %s\n", strerror(errno));
        status = CLI_FAILED;
    }
    interrupts_end();
    release_all(c);
    exit(status);
}

void cli_check(cli *c, encdiff_status status)
{
    if (status == ENCDIFF_OK) return;
    progress_clear(&c->progress);
    if (status == ENCDIFF_CANCELLED) {
        fprintf(stderr, "encdiff: interrupted\n");
        cli_exit(c, CLI_INTERRUPTED);
    }
    const char *message = encdiff_context_error(c->context);
    fprintf(stderr, "encdiff: %s\n", *message ? message : encdiff_status_name(status));
    cli_exit(c, CLI_FAILED);
}

_Noreturn void cli_fail(cli *c, const char *format, ...)
{
    va_list list;
    progress_clear(&c->progress);
    fputs("encdiff: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    cli_exit(c, CLI_FAILED);
}

_Noreturn void cli_usage(cli *c, const char *format, ...)
{
    char usage[512];
    va_list list;
    fprintf(stderr, "encdiff %s: ", c->command->name);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    options_usage(c->command, usage, sizeof usage);
    fprintf(stderr, "\nUsage: %s\nTry 'encdiff %s --help'.\n", usage, c->command->name);
    cli_exit(c, CLI_USAGE);
}

/* ---------------------------------------------------------------- what lives until the end */

void cli_own(cli *c, void *thing, void (*release)(cli *c, void *thing))
{
    if (c->owned_count == c->owned_capacity) {
        size_t capacity = 2 * c->owned_capacity + 16;
        cli_owned *owned = realloc(c->owned, capacity * sizeof *owned);
        if (!owned) cli_fail(c, "out of memory");
        c->owned = owned;
        c->owned_capacity = capacity;
    }
    c->owned[c->owned_count++] = (cli_owned){thing, release};
}

static void release_memory(cli *c, void *thing)
{
    (void)c;
    free(thing);
}

void *cli_alloc(cli *c, size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory) cli_fail(c, "out of memory: %zu times %zu bytes", count, size);
    cli_own(c, memory, release_memory);
    return memory;
}

char *cli_format(cli *c, const char *format, ...)
{
    va_list list, again;
    va_start(list, format);
    va_copy(again, list);
    int length = vsnprintf(NULL, 0, format, list);
    va_end(list);
    char *made = cli_alloc(c, (size_t)length + 1, 1);
    vsnprintf(made, (size_t)length + 1, format, again);
    va_end(again);
    return made;
}

static void release_json(cli *c, void *thing) { encdiff_context_release(c->context, thing); }

const char *cli_own_json(cli *c, char *json)
{
    cli_own(c, json, release_json);
    return json;
}

/* ---------------------------------------------------------------- output */

void cli_print(cli *c, const char *format, ...)
{
    va_list list;
    if (c->common.json && strcmp(c->common.json, "-") == 0) return;
    progress_clear(&c->progress);
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    fflush(stdout);
}

void cli_note(cli *c, const char *format, ...)
{
    va_list list;
    progress_clear(&c->progress);
    fputs("encdiff: ", stderr);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

void cli_check_output(cli *c, const char *path)
{
    struct stat info;
    if (!path) return;
    if (!*path) cli_fail(c, "an output file has an empty name");
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) cli_fail(c, "%s: cannot be written: it is a folder", path);
        if (access(path, W_OK) != 0) cli_fail(c, "%s: cannot be written: %s", path, strerror(errno));
    }
    const char *slash = strrchr(path, '/');
    const char *folder = !slash ? "." : slash == path ? "/" : cli_format(c, "%.*s", (int)(slash - path), path);
    if (stat(folder, &info) != 0) cli_fail(c, "%s: cannot be written: %s: %s", path, folder, strerror(errno));
    if (!S_ISDIR(info.st_mode)) cli_fail(c, "%s: cannot be written: %s is no folder", path, folder);
    if (access(folder, W_OK) != 0) cli_fail(c, "%s: cannot be written: %s: %s", path, folder, strerror(errno));
}

void cli_write_file(cli *c, const char *path, const text *content)
{
    int error = text_write_file(content, path);
    if (error) cli_fail(c, "%s: cannot be written: %s", path, strerror(error));
}

/* ---------------------------------------------------------------- handles */

static void release_model(cli *c, void *thing)
{
    (void)c;
    encdiff_model_free(thing);
}

static void release_dataset(cli *c, void *thing)
{
    (void)c;
    encdiff_dataset_free(thing);
}

encdiff_model *cli_own_model(cli *c, encdiff_model *model)
{
    cli_own(c, model, release_model);
    return model;
}

encdiff_model *cli_load_model(cli *c, const char *path)
{
    encdiff_model *model;
    cli_check(c, encdiff_model_load(c->context, path, &model));
    return cli_own_model(c, model);
}

encdiff_model_info cli_model_info(cli *c, encdiff_model *model)
{
    encdiff_model_info info = {.struct_size = sizeof info};
    cli_check(c, encdiff_model_get_info(model, &info));
    return info;
}

encdiff_dataset *cli_own_dataset(cli *c, encdiff_dataset *dataset)
{
    cli_own(c, dataset, release_dataset);
    return dataset;
}

encdiff_dataset *cli_open_dataset(cli *c, const char *source, int32_t side)
{
    encdiff_dataset *dataset;
    encdiff_dataset_options options;
    encdiff_dataset_options_init(&options, sizeof options);
    options.height = options.width = side;
    cli_check(c, encdiff_dataset_open(c->context, source, &options, &dataset));
    return cli_own_dataset(c, dataset);
}

encdiff_dataset_info cli_dataset_info(cli *c, const encdiff_dataset *dataset)
{
    encdiff_dataset_info info = {.struct_size = sizeof info};
    cli_check(c, encdiff_dataset_get_info(dataset, &info));
    return info;
}

encdiff_dataset *cli_subset(cli *c, encdiff_dataset *dataset, int64_t count, bool shuffled, uint64_t seed)
{
    encdiff_dataset *out = dataset;
    encdiff_dataset_info info = cli_dataset_info(c, dataset);
    if (count > info.size)
        cli_fail(c, "%s: %lld images are asked for and there are %lld", info.name, (long long)count,
                 (long long)info.size);
    if (shuffled) {
        cli_check(c, encdiff_dataset_shuffle(dataset, seed, &out));
        dataset = cli_own_dataset(c, out);
    }
    if (count == 0 || count == info.size) return dataset;
    cli_check(c, encdiff_dataset_slice(dataset, 0, count, &out));
    return cli_own_dataset(c, out);
}

const char *cli_resolve_config(cli *c, const char *config, const cli_texts *overrides)
{
    char *json;
    cli_check(c, encdiff_config_resolve(c->context, config, overrides ? overrides->items : NULL,
                                        overrides ? overrides->count : 0, &json));
    return cli_own_json(c, json);
}
