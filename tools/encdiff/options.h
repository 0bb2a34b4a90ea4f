/* options: the arguments of a command as tables, from which they are parsed and the help is printed. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cli;

/* The type of an option, and of the field that it fills. */
typedef enum cli_type {
    CLI_FLAG,  /* bool */
    CLI_TEXT,  /* const char * */
    CLI_TEXTS, /* cli_texts: may be given again and again */
    CLI_INT,   /* int64_t in [low, high] */
    CLI_UINT,  /* uint64_t */
    CLI_REAL,  /* double in [low, high] */
    CLI_CHOICE /* int32_t: which of the names in `value`, separated by bars */
} cli_type;

typedef struct cli_texts {
    const char **items;
    int32_t count;
} cli_texts;

typedef struct cli_option {
    const char *name; /* without dashes */
    char letter;      /* 0: none */
    cli_type type;
    const char *value;    /* how the help calls it: "FILE", "ddim|ddpm" */
    const char *fallback; /* the default, read like a given value; NULL: zero */
    size_t offset;        /* of the field in the command's arguments */
    double low, high;     /* CLI_INT, CLI_REAL; both 0: any */
    bool required;
    const char *help;
} cli_option;

/* What stands without a dash: text, or, as the last one, any number of texts. */
typedef struct cli_argument {
    const char *name;
    bool optional, many;
    size_t offset;
    const char *help;
} cli_argument;

#define CLI_MAX_ARGUMENTS 4

typedef struct cli_command {
    const char *name;    /* "encode", "data info" */
    const char *summary; /* one line */
    const char *details; /* further lines of the help, or NULL */
    const char *example; /* one or more lines, without the indentation */
    cli_argument arguments[CLI_MAX_ARGUMENTS];
    const cli_option *options;
    size_t option_count;
    size_t size; /* of the struct that `run` gets */
    void (*run)(struct cli *c, void *arguments);
} cli_command;

/* Options that every command has. */
typedef struct cli_common {
    const char *device, *json;
    int64_t threads;
    int32_t precision; /* as in encdiff_precision, less 1 */
    uint64_t seed;
    bool no_cuda_graphs, verbose, quiet, help;
} cli_common;

/* Fills `arguments` and c->common; ends the program where the command line is wrong. --help is only noted. */
void options_parse(struct cli *c, int argc, char **argv, void *arguments);
void options_help(const cli_command *command);
/* "Usage: encdiff encode MODEL INPUT... -o FILE [options]" */
void options_usage(const cli_command *command, char *buffer, size_t size);
/* Whether the option was on the command line. */
bool options_given(const struct cli *c, const char *name);

/* Whole numbers separated by commas, "3,7"; ends the program where they are not. Returns how many. */
int32_t options_integers(struct cli *c, const char *option, const char *list, int32_t **numbers);
/* The nearest of the names, or NULL where none is near: for "did you mean". */
const char *options_nearest(const char *word, const char *const *names, size_t count);

#define CLI_COUNT(array) (sizeof(array) / sizeof(array)[0])

/* The paragraph on sources of images. */
#define CLI_INPUT_DETAILS                                                                                              \
    "INPUT is a picture, a folder of pictures, an .npy or .npz array, an .h5 file, or procedural:shapes3d;\n"          \
    "\"[begin:end]\" after it takes a range of its images (3dshapes.h5[0:64])."

#endif
