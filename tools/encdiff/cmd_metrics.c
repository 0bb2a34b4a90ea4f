/* encdiff metrics: representations that come as arrays. */
#include "cli.h"
#include "evaluation.h"
#include "inputs.h"

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
    evaluation_check_names(c, a->metrics.metrics);
    if (!a->codes_test != !a->factors_test) cli_usage(c, "--codes-test and --factors-test go together");
    encdiff_codes train = load_codes(c, a->codes, a->factors), test;
    if (a->codes_test) test = load_codes(c, a->codes_test, a->factors_test);
    encdiff_metrics_options options = evaluation_options(c, &a->metrics, NULL);
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
               "beta_vae, dci, mig, modularity, explicitness, sap, irs; tad (binary attributes) where it is named.\n"
               "`encdiff metrics images` compares images.",
    .example = "encdiff metrics --codes codes.npy --factors labels.npz:labels --metrics dci,mig --json scores.json",
    .options = metrics_options,
    .option_count = CLI_COUNT(metrics_options),
    .size = sizeof(metrics_args),
    .run = run_metrics,
};
