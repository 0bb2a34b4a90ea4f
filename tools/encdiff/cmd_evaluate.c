/* encdiff evaluate, metrics: how disentangled codes are. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "evaluation.h"
#include "inputs.h"
#include "report.h"

static void release_scores(cli *c, void *thing)
{
    (void)c;
    encdiff_scores_free(thing);
}

void evaluation_own(cli *c, encdiff_scores *scores) { cli_own(c, scores, release_scores); }

encdiff_metrics_options evaluation_options(cli *c, const metric_args *a)
{
    encdiff_metrics_options options;
    encdiff_metrics_options_init(&options, sizeof options);
    options.metrics = a->metrics;
    options.settings = a->settings;
    options.seed = c->common.seed;
    options.train_samples = a->train;
    options.test_samples = a->test;
    options.batch = (int32_t)a->batch;
    options.bins = (int32_t)a->bins;
    options.prune_threshold = a->prune > 0 ? a->prune : -1;
    return options;
}

void evaluation_print(cli *c, const encdiff_scores *scores)
{
    for (int32_t i = 0; i < encdiff_scores_count(scores); i++)
        cli_print(c, "%-28s %.4g\n", encdiff_scores_name(scores, i), encdiff_scores_value(scores, i));
    c->json_text = encdiff_scores_json(scores);
}

static const char *metric_names(cli *c)
{
    const char *names = "";
    for (int32_t i = 0; i < encdiff_metric_count(); i++)
        names = cli_format(c, "%s%s%s", names, i ? ", " : "", encdiff_metric_name(i));
    return names;
}

/* An unknown name is told before any work, with those that exist. */
static void check_names(cli *c, const char *list)
{
    while (list && *list) {
        int32_t i = 0;
        size_t length = strcspn(list, ",");
        for (; i < encdiff_metric_count(); i++)
            if (strlen(encdiff_metric_name(i)) == length && strncmp(encdiff_metric_name(i), list, length) == 0) break;
        if (i == encdiff_metric_count())
            cli_usage(c, "there is no metric \"%.*s\"; there are: %s", (int)length, list, metric_names(c));
        list += length + (list[length] == ',');
    }
}

/* ---------------------------------------------------------------- evaluate */

typedef struct evaluate_args {
    const char *model, *data, *report;
    int64_t count;
    bool resize, raw_weights;
    metric_args metrics;
} evaluate_args;

static void write_report(cli *c, const evaluate_args *a, encdiff_model *model, const encdiff_dataset_info *data,
                         const encdiff_scores *scores)
{
    report r;
    char number[32];
    report_begin(&r, c, "Evaluation",
                 cli_format(c, "%s on %s images of %s", a->model, text_thousands(data->size, number), data->name));
    report_section(&r, "Scores");
    report_paragraph(&r,
                     "Learnt from %lld and tested on %lld samples or votes of %lld images, drawn from seed %llu; "
                     "codes cut into %lld bins; FactorVAE leaves out codes of a standard deviation below %g.",
                     (long long)a->metrics.train, (long long)a->metrics.test, (long long)a->metrics.batch,
                     (unsigned long long)c->common.seed, (long long)a->metrics.bins, a->metrics.prune);
    report_scores(&r, scores);
    report_section(&r, "Model");
    report_fold(&r, "Configuration", encdiff_model_config_json(model));
    report_write(&r, a->report);
}

static void run_evaluate(cli *c, void *arguments)
{
    evaluate_args *a = arguments;
    encdiff_scores *scores;
    check_names(c, a->metrics.metrics);
    cli_check_output(c, a->report);
    encdiff_model *model = cli_load_model(c, a->model);
    if (a->raw_weights) cli_check(c, encdiff_model_use_ema(model, ENCDIFF_OFF));
    encdiff_dataset *dataset = cli_open_dataset(c, a->data, a->resize ? cli_model_info(c, model).height : 0);
    if (a->count) dataset = cli_subset(c, dataset, a->count, true, c->common.seed);
    encdiff_dataset_info info = cli_dataset_info(c, dataset);
    encdiff_metrics_options options = evaluation_options(c, &a->metrics);
    cli_check(c, encdiff_metrics_from_model(model, dataset, &options, &scores, progress_step, &c->progress));
    evaluation_own(c, scores);
    evaluation_print(c, scores);
    if (a->report) write_report(c, a, model, &info, scores);
    if (a->report) cli_print(c, "%s\n", a->report);
}

static const cli_option evaluate_options[] = {
    {"data", 'd', CLI_TEXT, "SOURCE", NULL, offsetof(evaluate_args, data), 0, 0, true,
     "a dataset with labels, with a range [begin:end] or not"},
    {"count", 'n', CLI_INT, "N", NULL, offsetof(evaluate_args, count), 1, 1e9, false,
     "encode a random subset of N images (default: all)"},
    METRIC_OPTIONS(evaluate_args, metrics),
    {"report", 0, CLI_TEXT, "FILE", NULL, offsetof(evaluate_args, report), 0, 0, false, "a page with all of it, .html"},
    {"resize", 0, CLI_FLAG, NULL, NULL, offsetof(evaluate_args, resize), 0, 0, false,
     "resize the images to the model's resolution (Pillow's bicubic)"},
    {"raw-weights", 0, CLI_FLAG, NULL, NULL, offsetof(evaluate_args, raw_weights), 0, 0, false,
     "the trained weights, not their moving averages"},
};

const cli_command cmd_evaluate = {
    .name = "evaluate",
    .summary = "score how disentangled a model's codes are on a labelled dataset",
    .details =
        "The images are encoded once and the metrics drawn from their codes. Metrics: factor_vae, beta_vae, dci,\n"
        "mig, modularity, explicitness, sap, irs; tad (binary attributes) where it is named.",
    .example = "encdiff evaluate run/model.safetensors --data procedural:shapes3d -n 15000 --metrics factor_vae,mig\n"
               "encdiff evaluate run/model.safetensors --data 3dshapes.h5 --json scores.json --report report.html",
    .arguments = {{"MODEL", false, false, offsetof(evaluate_args, model), "a model file or training checkpoint"}},
    .options = evaluate_options,
    .option_count = CLI_COUNT(evaluate_options),
    .size = sizeof(evaluate_args),
    .run = run_evaluate,
};

/* ---------------------------------------------------------------- metrics */

typedef struct metrics_args {
    const char *codes, *factors, *codes_test, *factors_test;
    metric_args metrics;
} metrics_args;

static encdiff_codes load_codes(cli *c, const char *codes_path, const char *factors_path)
{
    encdiff_array codes = array_load(c, codes_path, ENCDIFF_TYPE_F32, 2, 3, "codes");
    encdiff_array factors = array_load(c, factors_path, ENCDIFF_TYPE_I32, 2, 2, "factors");
    if (codes.shape[0] != factors.shape[0])
        cli_fail(c, "%s has %lld samples and %s %lld", codes_path, (long long)codes.shape[0], factors_path,
                 (long long)factors.shape[0]);
    if (codes.shape[1] > INT32_MAX || codes.shape[2] > INT32_MAX || factors.shape[1] > INT32_MAX)
        cli_fail(c, "%s: an array of this shape holds no codes", codes_path);
    return (encdiff_codes){.codes = codes.data,
                           .factors = factors.data,
                           .n = codes.shape[0],
                           .size = (int32_t)codes.shape[1],
                           .dim = codes.rank == 3 ? (int32_t)codes.shape[2] : 1,
                           .factor_count = (int32_t)factors.shape[1]};
}

static void run_metrics(cli *c, void *arguments)
{
    metrics_args *a = arguments;
    encdiff_scores *scores;
    check_names(c, a->metrics.metrics);
    if (!a->codes_test != !a->factors_test) cli_usage(c, "--codes-test and --factors-test go together");
    encdiff_codes train = load_codes(c, a->codes, a->factors), test;
    if (a->codes_test) test = load_codes(c, a->codes_test, a->factors_test);
    encdiff_metrics_options options = evaluation_options(c, &a->metrics);
    cli_check(c, encdiff_metrics_from_codes(c->context, &train, a->codes_test ? &test : NULL, &options, &scores,
                                            progress_step, &c->progress));
    evaluation_own(c, scores);
    evaluation_print(c, scores);
}

static const cli_option metrics_options[] = {
    {"codes", 0, CLI_TEXT, "FILE", NULL, offsetof(metrics_args, codes), 0, 0, true, "f32 [n,N] or [n,N,dim]"},
    {"factors", 0, CLI_TEXT, "FILE", NULL, offsetof(metrics_args, factors), 0, 0, true, "integers [n,k]"},
    {"codes-test", 0, CLI_TEXT, "FILE", NULL, offsetof(metrics_args, codes_test), 0, 0, false,
     "held-out samples (default: drawn from the others)"},
    {"factors-test", 0, CLI_TEXT, "FILE", NULL, offsetof(metrics_args, factors_test), 0, 0, false, "their factors"},
    METRIC_OPTIONS(metrics_args, metrics),
};

const cli_command cmd_metrics = {
    .name = "metrics",
    .summary = "score anyone's representation; no model is needed",
    .details = "Arrays are .npy, or .npz with one member; file.npz:NAME takes the member NAME. Metrics: factor_vae,\n"
               "beta_vae, dci, mig, modularity, explicitness, sap, irs; tad (binary attributes) where it is named.",
    .example = "encdiff metrics --codes codes.npy --factors labels.npz:labels --metrics dci,mig --json scores.json",
    .options = metrics_options,
    .option_count = CLI_COUNT(metrics_options),
    .size = sizeof(metrics_args),
    .run = run_metrics,
};
