/* The program: which command, and the context that it works on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "interrupts.h"

static const cli_command *const commands[] = {
    &cmd_quickstart,  &cmd_presets,        &cmd_init,      &cmd_train,       &cmd_encode,
    &cmd_reconstruct, &cmd_swap,           &cmd_traverse,  &cmd_interpolate, &cmd_edit,
    &cmd_invert,      &cmd_attention,      &cmd_denoise,   &cmd_scatter,     &cmd_evaluate,
    &cmd_metrics,     &cmd_metrics_images, &cmd_data_info, &cmd_data_render, &cmd_data_convert,
    &cmd_data_view,   &cmd_import,         &cmd_export,    &cmd_info,        &cmd_bench,
};

/* ---------------------------------------------------------------- the context */

static void print_log(encdiff_log_level level, const char *message, void *user)
{
    cli *c = user;
    static const char *const names[] = {"", "", "warning: ", "", ""};
    cli_note(c, "%s%s", names[level], message);
}

static void create_context(cli *c)
{
    encdiff_context_options options;
    encdiff_context_options_init(&options, sizeof options);
    options.device = c->common.device;
    options.threads = (int32_t)c->common.threads;
    options.precision = c->common.precision + 1;
    options.cuda_graphs = c->common.no_cuda_graphs ? ENCDIFF_OFF : ENCDIFF_DEFAULT;
    options.log_level = c->common.verbose ? ENCDIFF_LOG_INFO : ENCDIFF_LOG_WARNING;
    options.log = print_log;
    options.log_user = c;
    encdiff_status status = encdiff_context_create(&options, &c->context);
    if (status == ENCDIFF_ERROR_ARGUMENT) cli_exit(c, CLI_USAGE); /* the reason has gone to the log */
    if (status != ENCDIFF_OK) cli_exit(c, CLI_FAILED);
}

/* ---------------------------------------------------------------- help */

static void print_program_help(FILE *to)
{
    fprintf(to, "encdiff: disentangled encoding of images with concept tokens and a latent diffusion model\n\n"
                "Usage: encdiff COMMAND [arguments] [options]\n\nCommands:\n");
    for (size_t i = 0; i < CLI_COUNT(commands); i++)
        fprintf(to, "  %-16s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to, "\n'encdiff COMMAND --help' explains a command, 'encdiff --version' names the release.\n"
                "Start with: encdiff quickstart\n");
}

static void print_family_help(FILE *to, const char *family)
{
    size_t length = strlen(family);
    fprintf(to, "Usage: encdiff %s COMMAND [arguments] [options]\n\nCommands:\n", family);
    for (size_t i = 0; i < CLI_COUNT(commands); i++)
        if (strncmp(commands[i]->name, family, length) == 0 && commands[i]->name[length] == ' ')
            fprintf(to, "  %-16s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to, "\n'encdiff %s COMMAND --help' explains a command.\n", family);
}

static void print_version(void) { printf("encdiff %s\n%s\n", encdiff_version(), encdiff_build_info()); }

/* ---------------------------------------------------------------- choosing the command */

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

/* How many words of the command line are the command's name; 0: it is another one. */
static int matches(const cli_command *command, int count, char **words)
{
    const char *space = strchr(command->name, ' ');
    if (count < 1) return 0;
    if (!space) return strcmp(command->name, words[0]) == 0;
    size_t length = (size_t)(space - command->name);
    bool family = strlen(words[0]) == length && strncmp(command->name, words[0], length) == 0;
    return family && count > 1 && strcmp(space + 1, words[1]) == 0 ? 2 : 0;
}

static bool is_family(const char *word)
{
    size_t length = strlen(word);
    for (size_t i = 0; i < CLI_COUNT(commands); i++)
        if (strncmp(commands[i]->name, word, length) == 0 && commands[i]->name[length] == ' ') return true;
    return false;
}

static int refuse_family(int count, char **words)
{
    if (count > 1 && is_help(words[1])) {
        print_family_help(stdout, words[0]);
        return CLI_OK;
    }
    if (count > 1) fprintf(stderr, "encdiff %s: there is no command \"%s\"\n\n", words[0], words[1]);
    print_family_help(stderr, words[0]);
    return CLI_USAGE;
}

static int refuse_command(const char *word)
{
    const char *names[CLI_COUNT(commands)];
    for (size_t i = 0; i < CLI_COUNT(commands); i++) names[i] = commands[i]->name;
    const char *near = options_nearest(word, names, CLI_COUNT(names));
    fprintf(stderr, "encdiff: there is no command \"%s\"%s%s%s\n", word, near ? "; did you mean " : "",
            near ? near : "", near ? "?" : "");
    fprintf(stderr, "Try 'encdiff --help'.\n");
    return CLI_USAGE;
}

static int run_command(const cli_command *command, int count, char **words)
{
    cli *c = calloc(1, sizeof *c);
    if (!c) return CLI_FAILED;
    c->command = command;
    void *arguments = cli_alloc(c, 1, command->size ? command->size : 1);
    options_parse(c, count, words, arguments);
    if (c->common.help) {
        options_help(command);
        cli_exit(c, CLI_OK);
    }
    progress_start(&c->progress, c->common.quiet);
    if (c->common.json && strcmp(c->common.json, "-") != 0) cli_check_output(c, c->common.json);
    interrupts_block();
    create_context(c);
    interrupts_begin(c->context);
    json_open(&c->json, NULL, '{');
    command->run(c, arguments);
    cli_exit(c, CLI_OK);
}

int main(int argc, char **argv)
{
    int count = argc - 1;
    char **words = argv + 1;
    if (count > 1 && strcmp(words[0], "help") == 0) { /* encdiff help train */
        words[0] = words[1];
        words[1] = count > 2 && is_family(words[0]) ? words[2] : "--help";
        if (count > 2) words[2] = "--help";
    }
    if (count < 1) {
        print_program_help(stderr);
        return CLI_USAGE;
    }
    for (int used = 2; used >= 1; used--) /* "metrics images" before "metrics" */
        for (size_t i = 0; i < CLI_COUNT(commands); i++)
            if (matches(commands[i], count, words) == used) return run_command(commands[i], count - used, words + used);
    if (is_help(words[0])) {
        print_program_help(stdout);
        return CLI_OK;
    }
    if (strcmp(words[0], "--version") == 0 || strcmp(words[0], "version") == 0) {
        print_version();
        return CLI_OK;
    }
    return is_family(words[0]) ? refuse_family(count, words) : refuse_command(words[0]);
}
