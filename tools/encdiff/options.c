/* Parsing. The help is in help.c. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "common_options.h"

#define MAX_THREADS 256

const cli_option common_options[COMMON_OPTION_COUNT] = {
    {"device", 0, CLI_TEXT, "NAME", "cpu", offsetof(cli_common, device), 0, 0, false, "cpu, cuda, cuda:N or auto"},
    {"threads", 0, CLI_INT, "N", NULL, offsetof(cli_common, threads), 1, MAX_THREADS, false,
     "worker threads (default: one for each processor)"},
    {"precision", 0, CLI_CHOICE, "f32|bf16|tf32", "f32", offsetof(cli_common, precision), 0, 0, false,
     "of activations; bf16 takes half of the memory; tf32: f32 with a GPU's faster products"},
    {"no-cuda-graphs", 0, CLI_FLAG, NULL, NULL, offsetof(cli_common, no_cuda_graphs), 0, 0, false,
     "on a GPU: start each operator by itself, in place of recorded runs"},
    {"seed", 0, CLI_UINT, "N", "0", offsetof(cli_common, seed), 0, 0, false, "of everything that is random"},
    {"json", 0, CLI_TEXT, "FILE", NULL, offsetof(cli_common, json), 0, 0, false,
     "write the results as JSON; -: to stdout, in place of the text"},
    {"verbose", 'v', CLI_FLAG, NULL, NULL, offsetof(cli_common, verbose), 0, 0, false, "also print what is being done"},
    {"quiet", 'q', CLI_FLAG, NULL, NULL, offsetof(cli_common, quiet), 0, 0, false, "no progress bar"},
    {"help", 'h', CLI_FLAG, NULL, NULL, offsetof(cli_common, help), 0, 0, false, "print this help"},
};

/* ---------------------------------------------------------------- values */

static bool parse_integer(const char *given, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(given, &end, 10);
    *out = value;
    return end != given && !*end && errno == 0;
}

static bool parse_unsigned(const char *given, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(given, &end, 10);
    *out = value;
    return end != given && !*end && errno == 0 && !strchr(given, '-');
}

static bool parse_real(const char *given, double *out)
{
    char *end;
    *out = strtod(given, &end);
    return end != given && !*end && isfinite(*out);
}

static bool parse_choice(const char *given, const char *names, int32_t *out)
{
    size_t length = strlen(given);
    *out = 0;
    for (const char *name = names; *name; (*out)++) {
        size_t n = strcspn(name, "|");
        if (n == length && strncmp(name, given, n) == 0) return true;
        name += n + (name[n] == '|');
    }
    return false;
}

static bool in_range(const cli_option *o, double value)
{
    return (o->low >= o->high && o->low <= 0) || (value >= o->low && value <= o->high);
}

static void add_text(cli *c, cli_texts *list, const char *value)
{
    const char **items = cli_alloc(c, (size_t)list->count + 1, sizeof *items);
    if (list->count) memcpy(items, list->items, (size_t)list->count * sizeof *items);
    items[list->count++] = value;
    list->items = items;
}

static _Noreturn void refuse(cli *c, const cli_option *o, const char *value)
{
    if (o->type == CLI_CHOICE) cli_usage(c, "--%s %s: expected one of %s", o->name, value, o->value);
    if (o->type == CLI_UINT) cli_usage(c, "--%s %s: expected a whole number from 0", o->name, value);
    const char *kind = o->type == CLI_INT ? "a whole number" : "a number";
    if (o->low >= o->high) cli_usage(c, "--%s %s: expected %s", o->name, value, kind);
    cli_usage(c, "--%s %s: expected %s from %.10g to %.10g", o->name, value, kind, o->low, o->high);
}

static void set(cli *c, const cli_option *o, void *base, const char *value)
{
    void *field = (char *)base + o->offset;
    bool good = true;
    switch (o->type) {
    case CLI_FLAG: *(bool *)field = true; break;
    case CLI_TEXT: *(const char **)field = value; break;
    case CLI_TEXTS: add_text(c, field, value); break;
    case CLI_INT: good = parse_integer(value, field) && in_range(o, (double)*(int64_t *)field); break;
    case CLI_UINT: good = parse_unsigned(value, field); break;
    case CLI_REAL: good = parse_real(value, field) && in_range(o, *(double *)field); break;
    case CLI_CHOICE: good = parse_choice(value, o->value, field); break;
    }
    if (!good) refuse(c, o, value);
}

/* ---------------------------------------------------------------- options */

typedef struct parser {
    cli *c;
    int argc, at;
    char **argv;
    void *arguments;
    int position; /* of the next argument without a dash */
} parser;

static const cli_option *find(const cli_option *options, size_t count, const char *name, size_t length, char letter)
{
    for (size_t i = 0; i < count; i++)
        if (name ? strlen(options[i].name) == length && strncmp(options[i].name, name, length) == 0
                 : options[i].letter == letter)
            return &options[i];
    return NULL;
}

/* The option of the command, or of every command; *base is where its field is. */
static const cli_option *look_up(parser *p, const char *name, size_t length, char letter, void **base)
{
    const cli_command *command = p->c->command;
    const cli_option *o = find(command->options, command->option_count, name, length, letter);
    *base = p->arguments;
    if (o) {
        p->c->given |= (uint64_t)1 << (o - command->options);
        return o;
    }
    o = find(common_options, COMMON_OPTION_COUNT, name, length, letter);
    *base = &p->c->common;
    if (o) p->c->given |= (uint64_t)1 << (63 - (o - common_options));
    return o;
}

bool options_given(const cli *c, const char *name)
{
    const cli_command *command = c->command;
    const cli_option *o = find(command->options, command->option_count, name, strlen(name), 0);
    if (o) return c->given >> (o - command->options) & 1;
    o = find(common_options, COMMON_OPTION_COUNT, name, strlen(name), 0);
    return o && (c->given >> (63 - (o - common_options)) & 1);
}

static _Noreturn void unknown(parser *p, const char *argument)
{
    const char *names[64];
    const cli_command *command = p->c->command;
    size_t count = 0, length = strcspn(argument, "=");
    for (size_t i = 0; i < command->option_count && count < 48; i++) names[count++] = command->options[i].name;
    for (size_t i = 0; i < COMMON_OPTION_COUNT; i++) names[count++] = common_options[i].name;
    char *word = cli_format(p->c, "%.*s", (int)length, argument);
    const char *near = strncmp(word, "--", 2) == 0 ? options_nearest(word + 2, names, count) : NULL;
    if (near) cli_usage(p->c, "unknown option %s; did you mean --%s?", word, near);
    cli_usage(p->c, "unknown option %s", word);
}

/* The value of an option: what is attached to it, or the next argument. */
static const char *take_value(parser *p, const char *shown, const cli_option *o, const char *attached)
{
    if (o->type == CLI_FLAG) {
        if (attached) cli_usage(p->c, "%s takes no value", shown);
        return NULL;
    }
    if (attached) return attached;
    const char *next = p->at + 1 < p->argc ? p->argv[p->at + 1] : NULL;
    if (!next || strncmp(next, "--", 2) == 0) cli_usage(p->c, "%s needs a value: %s %s", shown, shown, o->value);
    p->at++;
    return next;
}

static void parse_long(parser *p, const char *argument)
{
    void *base;
    size_t length = strcspn(argument + 2, "=");
    const cli_option *o = look_up(p, argument + 2, length, 0, &base);
    if (!o) unknown(p, argument);
    const char *attached = argument[2 + length] ? argument + 2 + length + 1 : NULL;
    char *shown = cli_format(p->c, "--%s", o->name);
    set(p->c, o, base, take_value(p, shown, o, attached));
}

/* -o FILE, -oFILE, or flags together (-vq). */
static void parse_short(parser *p, const char *argument)
{
    for (const char *letter = argument + 1; *letter; letter++) {
        void *base;
        char shown[3] = {'-', *letter, 0};
        const cli_option *o = look_up(p, NULL, 0, *letter, &base);
        if (!o) unknown(p, shown);
        const char *attached = o->type != CLI_FLAG && letter[1] ? letter + 1 : NULL;
        set(p->c, o, base, take_value(p, shown, o, attached));
        if (o->type != CLI_FLAG) return;
    }
}

static void parse_position(parser *p, const char *argument)
{
    const cli_argument *a = p->position < CLI_MAX_ARGUMENTS ? &p->c->command->arguments[p->position] : NULL;
    if (!a || !a->name) cli_usage(p->c, "unexpected argument \"%s\"", argument);
    void *field = (char *)p->arguments + a->offset;
    if (a->many)
        add_text(p->c, field, argument);
    else
        *(const char **)field = argument;
    if (!a->many) p->position++;
}

/* ---------------------------------------------------------------- the whole line */

static void set_defaults(cli *c, void *arguments)
{
    const cli_command *command = c->command;
    for (size_t i = 0; i < COMMON_OPTION_COUNT; i++)
        if (common_options[i].fallback) set(c, &common_options[i], &c->common, common_options[i].fallback);
    for (size_t i = 0; i < command->option_count; i++)
        if (command->options[i].fallback) set(c, &command->options[i], arguments, command->options[i].fallback);
}

static bool is_missing(const parser *p, int i)
{
    const cli_argument *a = &p->c->command->arguments[i];
    if (!a->name || a->optional || i < p->position) return false;
    return !a->many || ((const cli_texts *)(const void *)((const char *)p->arguments + a->offset))->count == 0;
}

static void check_complete(const parser *p)
{
    const cli_command *command = p->c->command;
    for (int i = 0; i < CLI_MAX_ARGUMENTS; i++)
        if (is_missing(p, i))
            cli_usage(p->c, "%s is missing: %s", command->arguments[i].name, command->arguments[i].help);
    for (size_t i = 0; i < command->option_count; i++) {
        const cli_option *o = &command->options[i];
        if (o->required && !(p->c->given >> i & 1))
            cli_usage(p->c, "--%s %s is missing: %s", o->name, o->value, o->help);
    }
}

void options_parse(cli *c, int argc, char **argv, void *arguments)
{
    parser p = {.c = c, .argc = argc, .argv = argv, .arguments = arguments};
    bool only_arguments = false;
    set_defaults(c, arguments);
    for (p.at = 0; p.at < argc && !c->common.help; p.at++) {
        const char *argument = argv[p.at];
        if (only_arguments || argument[0] != '-' || !argument[1])
            parse_position(&p, argument);
        else if (strcmp(argument, "--") == 0)
            only_arguments = true;
        else if (argument[1] == '-')
            parse_long(&p, argument);
        else
            parse_short(&p, argument);
    }
    if (!c->common.help) check_complete(&p);
}

/* ---------------------------------------------------------------- lists and near names */

int32_t options_integers(cli *c, const char *option, const char *list, int32_t **numbers)
{
    int32_t count = 0;
    *numbers = cli_alloc(c, strlen(list) / 2 + 1, sizeof **numbers);
    for (const char *at = list;; at++) {
        char *end;
        errno = 0;
        long value = strtol(at, &end, 10);
        if (end == at || errno || value < 0 || value > 1000000 || (*end && *end != ','))
            cli_usage(c, "--%s %s: expected whole numbers separated by commas, such as 3,7", option, list);
        (*numbers)[count++] = (int32_t)value;
        if (!*end) return count;
        at = end;
    }
}

/* How many letters must be changed, added or left out (Levenshtein); words longer than the row are far. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], n = strlen(b);
    if (n >= CLI_COUNT(row)) return SIZE_MAX;
    for (size_t k = 0; k <= n; k++) row[k] = k;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t k = 1; k <= n; k++) {
            size_t change = diagonal + (a[i - 1] != b[k - 1]);
            diagonal = row[k];
            size_t step = (row[k] < row[k - 1] ? row[k] : row[k - 1]) + 1;
            row[k] = change < step ? change : step;
        }
    }
    return row[n];
}

const char *options_nearest(const char *word, const char *const *names, size_t count)
{
    const char *best = NULL;
    size_t least = 3;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, names[i]);
        if (d < least && d < strlen(names[i])) {
            least = d;
            best = names[i];
        }
    }
    return best;
}
