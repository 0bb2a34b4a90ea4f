/* encdiff evaluate: how disentangled a model's codes are, and how good what it samples. */
#include <string.h>

#include "cli.h"
#include "evaluation.h"
#include "gallery.h"
#include "inputs.h"
#include "plots.h"
#include "report.h"
#include "training.h"

typedef struct evaluate_args {
    const char *model, *data, *report, *out;
    int64_t count, reconstructions, sampler_steps, pictures;
    bool resize, raw_weights, vector_tokens;
    metric_args metrics;
    weight_args weights;
} evaluate_args;

/* What is evaluated, and with what result. */
typedef struct evaluation {
    cli *c;
    const evaluate_args *args;
    encdiff_model *model;
    encdiff_dataset *dataset;
    encdiff_dataset_info data;
    const char **factor_names;
    encdiff_scores *scores;
    gallery gallery; /* folder NULL: no pictures were drawn */
    double seconds;
} evaluation;

static const char *in_folder(const evaluation *e, const char *name)
{
    return cli_format(e->c, "%s/%s", e->args->out, name);
}

/* ---------------------------------------------------------------- matrices */

static const struct {
    const char *member, *file, *title, *caption;
} matrices[] = {
    {"dci.importance", "dci-importance.png", "DCI: importance of concepts for factors",
     "How much each concept (row) tells the boosted trees about each factor (column). One dark cell in a row: the "
     "concept is about that factor alone."},
    {"mutual_information", "mutual-information.png", "mutual information of concepts and factors, nats",
     "Mutual information of each concept (row), cut into bins, and each factor (column), in nats."},
};

static void draw_matrices(const evaluation *e)
{
    for (size_t i = 0; i < CLI_COUNT(matrices); i++) {
        const char *path = in_folder(e, matrices[i].file);
        if (plot_scores_matrix(e->c, encdiff_scores_json(e->scores), matrices[i].member, matrices[i].title,
                               e->factor_names, path))
            cli_print(e->c, "%s\n", path);
    }
}

static void add_matrices(const evaluation *e, report *r)
{
    for (size_t i = 0; i < CLI_COUNT(matrices); i++) {
        int32_t rows, columns;
        const double *values = matrix_from_json(e->c, encdiff_scores_json(e->scores), matrices[i].member, &rows,
                                                &columns);
        if (values) report_matrix(r, values, rows, columns, "concept", e->factor_names, matrices[i].caption);
    }
}

/* ---------------------------------------------------------------- the page */

/* Large numbers above everything, of scores that are there. */
static void add_figures(const evaluation *e, report *r)
{
    static const struct {
        const char *score, *name, *settings, *unit;
    } figures[] = {
        {"factor_vae.eval", "FactorVAE score", "1 is perfect", ""},
        {"dci.disentanglement", "DCI disentanglement", "boosted trees; 1 is perfect", ""},
        {"mig", "mutual information gap", "1 is perfect", ""},
        {"psnr", "reconstruction PSNR", "sampled from the concepts", " dB"},
        {"fid", "FID of reconstructions", "0 is perfect", ""},
    };
    double value;
    char time[32], number[32];
    report_figures_begin(r);
    for (size_t i = 0; i < CLI_COUNT(figures); i++)
        if (encdiff_scores_find(e->scores, figures[i].score, &value) == ENCDIFF_OK)
            report_figure(r, cli_format(e->c, "%.3g%s", value, figures[i].unit), figures[i].name, figures[i].settings);
    report_figure(r, text_duration(e->seconds, time), "for the evaluation",
                  cli_format(e->c, "%s images encoded", text_thousands(e->data.size, number)));
    report_figures_end(r);
}

/* Logs beside the model, as `train` leaves them. */
static void add_training(const evaluation *e, report *r)
{
    const char *model = e->args->model, *slash = strrchr(model, '/');
    const char *folder = slash ? cli_format(e->c, "%.*s", (int)(slash - model + 1), model) : "";
    encdiff_model_info info = cli_model_info(e->c, e->model);
    char number[32];
    report_section(r, "Training");
    report_paragraph(r, "%s steps of encoder and U-Net.", text_thousands(info.steps, number));
    report_curve(r, cli_format(e->c, "%sautoencoder.csv", folder),
                 "Autoencoder: the loss of each logged step, and its running mean (logarithmic axis).");
    report_curve(r, cli_format(e->c, "%sencdiff.csv", folder),
                 "Encoder and U-Net: the loss of each logged step, and its running mean (logarithmic axis).");
    report_score_curves(r, cli_format(e->c, "%sencdiff-scores.csv", folder), "Scores while training.");
}

static void write_report(const evaluation *e, const char *path)
{
    report r;
    char number[32];
    const evaluate_args *a = e->args;
    report_begin(
        &r, e->c, "Evaluation",
        cli_format(e->c, "%s on %s images of %s", a->model, text_thousands(e->data.size, number), e->data.name));
    add_figures(e, &r);
    report_section(&r, "Scores");
    report_paragraph(&r,
                     "Learnt from %lld and tested on %lld samples or votes of %lld images, drawn from seed %llu; "
                     "codes cut into %lld bins; FactorVAE leaves out codes of a standard deviation below %g.",
                     (long long)a->metrics.train, (long long)a->metrics.test, (long long)a->metrics.batch,
                     (unsigned long long)e->c->common.seed, (long long)a->metrics.bins, a->metrics.prune);
    report_scores(&r, e->scores);
    add_matrices(e, &r);
    gallery pictures = e->gallery;
    if (pictures.folder) gallery_add(&pictures, &r);
    add_training(e, &r);
    report_section(&r, "Time");
    report_timing(&r, e->scores);
    report_section(&r, "Model");
    report_fold(&r, "Configuration", encdiff_model_config_json(e->model));
    report_write(&r, path);
    cli_print(e->c, "%s\n", path);
}

/* ---------------------------------------------------------------- the command */

static void name_factors(evaluation *e)
{
    e->factor_names = cli_alloc(e->c, (size_t)e->data.factors + 1, sizeof *e->factor_names);
    for (int32_t f = 0; f < e->data.factors; f++) e->factor_names[f] = encdiff_dataset_factor_name(e->dataset, f);
}

static void write_scores(const evaluation *e)
{
    text content = {0};
    text_add(&content, "%s\n", encdiff_scores_json(e->scores));
    cli_write_file(e->c, in_folder(e, "scores.json"), &content);
    text_free(&content);
    cli_print(e->c, "%s\n", in_folder(e, "scores.json"));
}

static void score(evaluation *e)
{
    const evaluate_args *a = e->args;
    encdiff_metrics_options options = evaluation_options(e->c, &a->metrics, &a->weights);
    options.reconstructions = (int32_t)a->reconstructions;
    options.sampler_steps = (int32_t)a->sampler_steps;
    options.vector_tokens = a->vector_tokens ? ENCDIFF_ON : ENCDIFF_DEFAULT;
    cli_check(e->c,
              encdiff_metrics_from_model(e->model, e->dataset, &options, &e->scores, progress_step, &e->c->progress));
    evaluation_own(e->c, e->scores);
    evaluation_print(e->c, e->scores);
}

static void draw_gallery(evaluation *e)
{
    e->gallery = (gallery){.c = e->c,
                           .model = e->model,
                           .dataset = e->dataset,
                           .folder = e->args->out,
                           .images = (int32_t)e->args->pictures,
                           .sampling = {.steps = e->args->sampler_steps}};
    gallery_draw(&e->gallery);
}

static void run_evaluate(cli *c, void *arguments)
{
    evaluate_args *a = arguments;
    evaluation e = {.c = c, .args = a};
    double start = progress_now();
    evaluation_check_names(c, a->metrics.metrics);
    if (a->weights.lpips_heads && !a->weights.lpips) cli_usage(c, "--lpips-heads goes with --lpips");
    cli_check_output(c, a->report);
    e.model = cli_load_model(c, a->model);
    if (a->raw_weights) cli_check(c, encdiff_model_use_ema(e.model, ENCDIFF_OFF));
    e.dataset = cli_open_dataset(c, a->data, a->resize ? cli_model_info(c, e.model).height : 0);
    if (a->count) e.dataset = cli_subset(c, e.dataset, a->count, true, c->common.seed);
    e.data = cli_dataset_info(c, e.dataset);
    name_factors(&e);
    score(&e);
    if (a->out) {
        training_make_folder(c, a->out);
        write_scores(&e);
        draw_matrices(&e);
        if (a->pictures) draw_gallery(&e);
        e.seconds = progress_now() - start;
        write_report(&e, in_folder(&e, "report.html"));
    }
    e.seconds = progress_now() - start;
    if (a->report) write_report(&e, a->report);
}

static const cli_option evaluate_options[] = {
    {"data", 'd', CLI_TEXT, "SOURCE", NULL, offsetof(evaluate_args, data), 0, 0, true,
     "a dataset with labels, with a range [begin:end] or not"},
    {"out", 'o', CLI_TEXT, "DIR", NULL, offsetof(evaluate_args, out), 0, 0, false,
     "folder of scores.json, heat maps, pictures and report.html; made where absent"},
    {"pictures", 0, CLI_INT, "N", "6", offsetof(evaluate_args, pictures), 0, 64, false,
     "rows of the pictures in it: reconstructions, swaps, traversal, attention, tokens; 0: none"},
    {"report", 0, CLI_TEXT, "FILE", NULL, offsetof(evaluate_args, report), 0, 0, false,
     "the page, .html, in another place, or alone without pictures"},
    {"count", 'n', CLI_INT, "N", NULL, offsetof(evaluate_args, count), 1, 1e9, false,
     "encode a random subset of N images (default: all)"},
    METRIC_OPTIONS(evaluate_args, metrics),
    {"vector-tokens", 0, CLI_FLAG, NULL, NULL, offsetof(evaluate_args, vector_tokens), 0, 0, false,
     "score each token's first principal component instead of its scalar"},
    {"reconstructions", 0, CLI_INT, "N", NULL, offsetof(evaluate_args, reconstructions), 1, 1e9, false,
     "images sampled back for mse, psnr, ssim, lpips, fid (default: 64 where one of them is named, else none)"},
    {"sampler-steps", 0, CLI_INT, "N", NULL, offsetof(evaluate_args, sampler_steps), 1, 1e6, false,
     "calls of the U-Net for a sampled image, by deterministic DDIM (default: 50)"},
    WEIGHT_OPTIONS(evaluate_args, weights),
    RESIZE_OPTION(evaluate_args, resize),
    RAW_WEIGHTS_OPTION(evaluate_args, raw_weights),
};

const cli_command cmd_evaluate = {
    .name = "evaluate",
    .summary = "score how disentangled a model's codes are on a labelled dataset",
    .details =
        "The images are encoded once and the metrics drawn from their codes. Metrics: factor_vae, beta_vae, dci,\n"
        "mig, modularity, explicitness, sap, irs; where they are named: tad (binary attributes), and mse, psnr, ssim,\n"
        "lpips and fid of images that are sampled back from their tokens.",
    .example =
        "encdiff evaluate run/model.safetensors --data procedural:shapes3d -n 15000 --metrics factor_vae,mig\n"
        "encdiff evaluate run/model.safetensors --data 3dshapes.h5 --reconstructions 64 --repeats 3 --out scores",
    .arguments = {MODEL_ARGUMENT(evaluate_args)},
    .options = evaluate_options,
    .option_count = CLI_COUNT(evaluate_options),
    .size = sizeof(evaluate_args),
    .run = run_evaluate,
};
