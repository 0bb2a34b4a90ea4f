/* encdiff bench: the time of every operator, and the plan of a run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { RUN_COUNT = 6 };

typedef struct bench_args {
    const char *config, *operators;
    cli_texts set;
    bool plan;
    int32_t run;
    int64_t batch;
    double seconds;
} bench_args;

/* ---------------------------------------------------------------- timing */

typedef struct row {
    char run[32], name[48], shape[160];
    double count, seconds, flops, bytes;
} row;

static int slower_first(const void *a, const void *b)
{
    const row *x = a, *y = b;
    double tx = x->count * x->seconds, ty = y->count * y->seconds;
    return (tx < ty) - (tx > ty);
}

static size_t read_rows(cli *c, const char *json, row **rows)
{
    size_t count = 0, i = 0;
    for (const char *item = json_first(json); item; item = json_next(item)) count++;
    *rows = cli_alloc(c, count, sizeof **rows);
    for (const char *item = json_first(json); item; item = json_next(item), i++) {
        row *r = &(*rows)[i];
        json_as_text(json_member(item, "run"), r->run, sizeof r->run);
        json_as_text(json_member(item, "operator"), r->name, sizeof r->name);
        json_as_text(json_member(item, "shape"), r->shape, sizeof r->shape);
        r->count = json_as_number(json_member(item, "count"), 1);
        r->seconds = json_as_number(json_member(item, "seconds"), 0);
        r->flops = json_as_number(json_member(item, "flops"), 0);
        r->bytes = json_as_number(json_member(item, "bytes"), 0);
    }
    qsort(*rows, count, sizeof **rows, slower_first);
    return count;
}

static void print_rows(cli *c, const row *rows, size_t count)
{
    double total = 0;
    cli_print(c, "%-18s %-24s %6s %10s %10s %9s %8s  %s\n", "run", "operator", "count", "ms each", "ms in all",
              "GFLOP/s", "GB/s", "input shapes");
    for (size_t i = 0; i < count; i++) {
        const row *r = &rows[i];
        double seconds = r->seconds > 0 ? r->seconds : 1e-12;
        total += r->count * r->seconds;
        cli_print(c, "%-18s %-24s %6.0f %10.4f %10.3f %9.1f %8.1f  %s\n", r->run, r->name, r->count, 1e3 * r->seconds,
                  1e3 * r->count * r->seconds, 1e-9 * r->flops / seconds, 1e-9 * r->bytes / seconds, r->shape);
    }
    cli_print(c, "%zu cases, %.1f ms in all, on one thread\n", count, 1e3 * total);
}

static void time_operators(cli *c, const bench_args *a, const char *config)
{
    char *json;
    row *rows;
    encdiff_bench_options options;
    encdiff_bench_options_init(&options, sizeof options);
    options.config = config;
    options.operators = a->operators;
    options.batch = (int32_t)a->batch;
    options.seconds = a->seconds;
    cli_check(c, encdiff_context_bench(c->context, &options, &json, progress_step, &c->progress));
    c->json_text = cli_own_json(c, json);
    size_t count = read_rows(c, json, &rows);
    print_rows(c, rows, count);
}

/* ---------------------------------------------------------------- the plan */

/* "8 x 32 x 32 x 64 @ 4096" of the first output, or what there is. */
static const char *describe_value(const char *values, char *buffer, size_t size)
{
    char shape[96];
    const char *first = json_first(values);
    snprintf(buffer, size, "-");
    if (!first) return buffer;
    json_as_text(json_member(first, "shape"), shape, sizeof shape);
    snprintf(buffer, size, "%s at %.0f", shape, json_as_number(json_member(first, "offset"), -1));
    return buffer;
}

static void print_graph(cli *c, const char *graph)
{
    char arena[32], lower[32];
    int index = 0;
    cli_print(c, "arena %s, at least %s\n%5s %-24s %10s %10s  %s\n",
              text_bytes(json_as_number(json_member(graph, "arena"), 0), arena),
              text_bytes(json_as_number(json_member(graph, "lower_bound"), 0), lower), "", "operator", "MFLOP", "kB",
              "output and where it lies in the arena");
    for (const char *op = json_first(json_member(graph, "operators")); op; op = json_next(op)) {
        char name[48], output[160];
        json_as_text(json_member(op, "operator"), name, sizeof name);
        cli_print(c, "%5d %-24s %10.3f %10.1f  %s\n", index++, name, 1e-6 * json_as_number(json_member(op, "flops"), 0),
                  1e-3 * json_as_number(json_member(op, "bytes"), 0),
                  describe_value(json_member(op, "outputs"), output, sizeof output));
    }
}

static void print_plan(cli *c, const bench_args *a, const char *config)
{
    encdiff_model *model;
    char *json;
    cli_check(c, encdiff_model_create(c->context, config, c->common.seed, &model));
    cli_own_model(c, model);
    cli_check(c, encdiff_model_get_plan(model, (encdiff_run)(a->run + 1), (int32_t)a->batch, &json));
    c->json_text = cli_own_json(c, json);
    cli_print(c, "%.0f threads, each %.0f images at once\n", json_as_number(json_member(json, "ranks"), 0),
              json_as_number(json_member(json, "images"), 0));
    for (const char *graph = json_first(json_member(json, "graphs")); graph; graph = json_next(graph))
        print_graph(c, graph);
}

/* ---------------------------------------------------------------- */

static void run_bench(cli *c, void *arguments)
{
    bench_args *a = arguments;
    if (!a->plan && options_given(c, "run")) cli_usage(c, "--run goes with --plan");
    if (a->plan && a->operators) cli_usage(c, "--operators does not go with --plan");
    const char *config = cli_resolve_config(c, a->config, &a->set);
    if (a->plan)
        print_plan(c, a, config);
    else
        time_operators(c, a, config);
}

static const cli_option options[] = {
    {"config", 0, CLI_TEXT, "NAME", "shapes3d-official", offsetof(bench_args, config), 0, 0, false,
     "preset or configuration file whose networks give the shapes"},
    {"set", 0, CLI_TEXTS, "GROUP.KEY=VALUE", NULL, offsetof(bench_args, set), 0, 0, false,
     "change a key of the configuration; may be given again and again"},
    {"operators", 0, CLI_TEXT, "NAME,...", NULL, offsetof(bench_args, operators), 0, 0, false, "only these"},
    {"batch", 0, CLI_INT, "N", "32", offsetof(bench_args, batch), 1, 65536, false, "images"},
    {"seconds", 0, CLI_REAL, "X", "0.2", offsetof(bench_args, seconds), 0.0001, 1e4, false, "time for each case"},
    {"plan", 0, CLI_FLAG, NULL, NULL, offsetof(bench_args, plan), 0, 0, false,
     "print the operators of a run with cost and place in memory, and run nothing"},
    {"run", 0, CLI_CHOICE, "encode|latents|decode|predict|train_autoencoder|train_encdiff", "train_encdiff",
     offsetof(bench_args, run), 0, 0, false, "of which the plan is printed"},
};

const cli_command cmd_bench = {
    .name = "bench",
    .summary = "time every operator at a configuration's shapes, or print a memory plan",
    .example = "encdiff bench --config shapes3d-official --batch 8\n"
               "encdiff bench --config shapes3d-tiny --plan --run predict --batch 4",
    .options = options,
    .option_count = CLI_COUNT(options),
    .size = sizeof(bench_args),
    .run = run_bench,
};
