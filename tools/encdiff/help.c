/* The help of a command, made from its tables. */
#include <stdio.h>
#include <string.h>

#include "common_options.h"
#include "options.h"

#define WIDTH 100
#define INDENT 28 /* where the explanations stand */

static void append(char *buffer, size_t size, const char *text)
{
    size_t length = strlen(buffer);
    if (length + 1 < size) snprintf(buffer + length, size - length, "%s", text);
}

static void append_argument(char *buffer, size_t size, const cli_argument *a)
{
    append(buffer, size, a->optional ? " [" : " ");
    append(buffer, size, a->name);
    if (a->many) append(buffer, size, "...");
    if (a->optional) append(buffer, size, "]");
}

void options_usage(const cli_command *command, char *buffer, size_t size)
{
    snprintf(buffer, size, "encdiff %s", command->name);
    for (int i = 0; i < CLI_MAX_ARGUMENTS && command->arguments[i].name; i++)
        append_argument(buffer, size, &command->arguments[i]);
    for (size_t i = 0; i < command->option_count; i++) {
        const cli_option *o = &command->options[i];
        char letter[] = " -x ";
        if (!o->required) continue;
        letter[2] = o->letter;
        append(buffer, size, o->letter ? letter : " --");
        if (!o->letter) append(buffer, size, o->name);
        if (!o->letter) append(buffer, size, " ");
        append(buffer, size, o->value);
    }
    append(buffer, size, " [options]");
}

/* Words from column `at`, broken before WIDTH. */
static void print_wrapped(const char *text, int at, int indent)
{
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (at + length > WIDTH && at > indent) {
            printf("\n%*s", indent, "");
            at = indent;
        }
        printf("%.*s", length, text);
        at += length;
        text += length;
        if (*text == ' ') {
            putchar(' ');
            at++;
            text++;
        }
    }
    putchar('\n');
}

static void print_entry(const char *name, const char *help)
{
    int length = printf("  %s  ", name);
    if (length > INDENT) {
        putchar('\n');
        length = 0;
    }
    printf("%*s", INDENT - length, "");
    print_wrapped(help, INDENT, INDENT);
}

static void print_option(const cli_option *o)
{
    char name[128], help[1024];
    char letter[] = "-x, ";
    letter[1] = o->letter;
    snprintf(name, sizeof name, "%s--%s%s%s", o->letter ? letter : "    ", o->name, o->value ? " " : "",
             o->value ? o->value : "");
    snprintf(help, sizeof help, "%s%s%s%s%s", o->help, o->required ? " (required)" : "",
             o->fallback ? " (default: " : "", o->fallback ? o->fallback : "", o->fallback ? ")" : "");
    print_entry(name, help);
}

static void print_arguments(const cli_command *command)
{
    for (int i = 0; i < CLI_MAX_ARGUMENTS && command->arguments[i].name; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", command->arguments[i].name, command->arguments[i].many ? "..." : "");
        print_entry(name, command->arguments[i].help);
    }
    if (command->arguments[0].name) putchar('\n');
}

static void print_example(const char *example)
{
    printf("Example:\n");
    while (*example) {
        int length = (int)strcspn(example, "\n");
        printf("  %.*s\n", length, example);
        example += length + (example[length] == '\n');
    }
}

void options_help(const cli_command *command)
{
    char usage[512];
    options_usage(command, usage, sizeof usage);
    printf("encdiff %s: %s\n\nUsage: %s\n\n", command->name, command->summary, usage);
    print_arguments(command);
    if (command->details) printf("%s\n\n", command->details);
    if (command->option_count) {
        printf("Options:\n");
        for (size_t i = 0; i < command->option_count; i++) print_option(&command->options[i]);
        putchar('\n');
    }
    printf("Options of every command:\n");
    for (size_t i = 0; i < COMMON_OPTION_COUNT; i++) print_option(&common_options[i]);
    putchar('\n');
    print_example(command->example);
}
