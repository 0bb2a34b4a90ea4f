/*
 * The `encdiff` command line: a program on the public headers alone.
 *
 *   main.c        the table of commands, the context
 *   interrupts.h  Ctrl-C
 *   options.h     arguments declared in tables, and the help made of them
 *   text.h        growing text, files written whole or not at all
 *   json.h        what --json writes; reading the library's own JSON
 *   progress.h    the bar on a terminal
 *   inputs.h      sources of images
 *   pictures.h    samplers, grids, and the pictures made of them
 *   concepts.h    codes of images, and what the concepts are about
 *   plots.h       attention, tokens as points, heat maps, denoising
 *   gallery.h     the pictures of a model, on a page
 *   training.h    the two stages
 *   report.h      self-contained pages
 *   cmd_*.c       one command, or one family, a file
 *
 * A command returns when all went well. What fails ends the program at once: cli_check() and the like print the
 * sentence, free what cli_own() was given, and exit with the status that the kind of failure has. So no command needs
 * a path for clean-up, and every file is written in one piece at the end.
 */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <encdiff/encdiff.h>

#include "json.h"
#include "options.h"
#include "progress.h"
#include "text.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

typedef struct cli_owned {
    void *thing;
    void (*release)(struct cli *c, void *thing);
} cli_owned;

/* One run of the program. */
typedef struct cli {
    const cli_command *command;
    cli_common common; /* options that every command has */
    uint64_t given;    /* bit i: option i of the command was on the command line */
    encdiff_context *context;
    progress progress;
    json_writer json;      /* an open object; written after the command when --json is given */
    const char *json_text; /* instead of it, where the library made the text */
    cli_owned *owned;
    size_t owned_count, owned_capacity;
} cli;

/* Ends the program unless status is ENCDIFF_OK: with the context's message, or quietly where it was interrupted. */
void cli_check(cli *c, encdiff_status status);
/* Ends the program: something failed. */
_Noreturn void cli_fail(cli *c, const char *format, ...) ENCDIFF_FORMAT(2, 3);
/* Ends the program: the command line cannot be understood. */
_Noreturn void cli_usage(cli *c, const char *format, ...) ENCDIFF_FORMAT(2, 3);
_Noreturn void cli_exit(cli *c, int status);

/* Keeps a thing until the end of the program. */
void cli_own(cli *c, void *thing, void (*release)(cli *c, void *thing));
/* Gives back what was kept since owned_count was `mark`, for loops. */
void cli_release_to(cli *c, size_t mark);
/* Zeroed memory kept until the end. */
void *cli_alloc(cli *c, size_t count, size_t size);
/* A formatted text kept until the end. */
char *cli_format(cli *c, const char *format, ...) ENCDIFF_FORMAT(2, 3);

/* Results, on stdout, unless that is where the JSON goes. */
void cli_print(cli *c, const char *format, ...) ENCDIFF_FORMAT(2, 3);
/* A remark, on stderr, that the bar does not run into. */
void cli_note(cli *c, const char *format, ...) ENCDIFF_FORMAT(2, 3);

/* Handles that live until the end of the program. */
encdiff_model *cli_own_model(cli *c, encdiff_model *model);
encdiff_model *cli_load_model(cli *c, const char *path);
encdiff_model_info cli_model_info(cli *c, encdiff_model *model);
encdiff_dataset *cli_open_dataset(cli *c, const char *source, int32_t side); /* side: resize to it, or 0 */
encdiff_dataset *cli_own_dataset(cli *c, encdiff_dataset *dataset);
encdiff_dataset_info cli_dataset_info(cli *c, const encdiff_dataset *dataset);
/* `count` images of the dataset in an order drawn from `seed`, or, not `shuffled`, the first ones; 0: all. */
encdiff_dataset *cli_subset(cli *c, encdiff_dataset *dataset, int64_t count, bool shuffled, uint64_t seed);
/* JSON that the library made, kept until the end. */
const char *cli_own_json(cli *c, char *json);
const char *cli_resolve_config(cli *c, const char *config, const cli_texts *overrides);

/* Before long work: ends the program where a file could not be written at `path` later. NULL is fine. */
void cli_check_output(cli *c, const char *path);
/* Writes a file whole or not at all. */
void cli_write_file(cli *c, const char *path, const text *content);

/* The commands. */
extern const cli_command cmd_quickstart, cmd_presets, cmd_init, cmd_train, cmd_encode, cmd_reconstruct, cmd_swap,
    cmd_traverse, cmd_interpolate, cmd_edit, cmd_attention, cmd_denoise, cmd_scatter, cmd_invert, cmd_evaluate,
    cmd_metrics, cmd_metrics_images, cmd_data_info, cmd_data_render, cmd_data_convert, cmd_data_view, cmd_import,
    cmd_export, cmd_info, cmd_bench;

#endif
