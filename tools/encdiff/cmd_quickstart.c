/* encdiff quickstart: from nothing to a trained model, pictures of what it learnt, and a page that explains them. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "concepts.h"
#include "evaluation.h"
#include "inputs.h"
#include "pictures.h"
#include "report.h"
#include "training.h"

#define SOURCE "procedural:shapes3d"
#define HELD_OUT 20000   /* scenes that training never sees */
#define SCORED 15000     /* of them, encoded for the FactorVAE score */
#define RECONSTRUCTED 64 /* of them, for the PSNR; the first 16 are in the picture */
#define SWAPPED 6        /* pairs */
#define TRAVERSED_VALUES 8
#define RANGE_IMAGES 1000
#define SPLIT_SEED 1

typedef struct quickstart_args {
    const char *out, *preset;
    int64_t steps;
    bool overwrite;
    cli_texts set;
} quickstart_args;

typedef struct quickstart {
    cli *c;
    const quickstart_args *args;
    const char *config;
    encdiff_dataset *train, *held_out;
    encdiff_dataset_info all, held;
    encdiff_model *model;
    encdiff_model_info info;
    stage_result stages[2];
    sampling_args sampling;
    encdiff_sampler *sampler;
    image_scores reconstruction;
    encdiff_scores *scores;
    double factor_vae;
    traversal traversal;
    int step, steps; /* of the headings */
    double start, seconds;
} quickstart;

/* ---------------------------------------------------------------- headings and files */

static const char *in_folder(quickstart *q, const char *name) { return cli_format(q->c, "%s/%s", q->args->out, name); }

static void heading(quickstart *q, const char *what) { cli_print(q->c, "[%d/%d] %s\n", ++q->step, q->steps, what); }

static void made(quickstart *q, const char *file) { cli_print(q->c, "      %s\n", in_folder(q, file)); }

/* ---------------------------------------------------------------- data */

/* Scenes from the whole set at random, so that held-out ones show every factor's values. */
static void open_data(quickstart *q)
{
    cli *c = q->c;
    encdiff_dataset *whole = cli_open_dataset(c, SOURCE, 0);
    q->all = cli_dataset_info(c, whole);
    cli_check(c, encdiff_dataset_split(whole, q->all.size - HELD_OUT, SPLIT_SEED, &q->train, &q->held_out));
    cli_own_dataset(c, q->train);
    cli_own_dataset(c, q->held_out);
    q->held_out = cli_subset(c, q->held_out, 0, true, SPLIT_SEED);
    q->held = cli_dataset_info(c, q->held_out);
}

static encdiff_image_view read_held_out(quickstart *q, int32_t first, int32_t n)
{
    encdiff_image_view images = images_new(q->c, n, q->held.height, q->held.width);
    int64_t *indices = cli_alloc(q->c, (size_t)n, sizeof *indices);
    for (int32_t i = 0; i < n; i++) indices[i] = first + i;
    cli_check(q->c, encdiff_dataset_read(q->held_out, indices, &images));
    return images;
}

static void show_data(quickstart *q)
{
    char number[32], held[32];
    encdiff_image_view scenes = read_held_out(q, 0, 48);
    encdiff_grid_options options;
    heading(q, cli_format(q->c, "Data: %s procedural scenes of %dx%d with %d factors, %s of them held out",
                          text_thousands(q->all.size, number), q->all.width, q->all.height, q->all.factors,
                          text_thousands(HELD_OUT, held)));
    encdiff_grid_options_init(&options, sizeof options);
    options.columns = 12;
    cli_check(q->c, encdiff_image_write_grid(q->c->context, in_folder(q, "data.png"), &scenes, &options));
    made(q, "data.png");
}

/* ---------------------------------------------------------------- training */

static void train(quickstart *q)
{
    cli *c = q->c;
    char time[32];
    bool learnt = training_has_autoencoder(q->config);
    training t = {.config = q->config,
                  .dataset = q->train,
                  .out = q->args->out,
                  .seed = training_seed(c, q->config),
                  .autoencoder_stage = learnt,
                  .encdiff_stage = true,
                  .resume = training_checkpoint(q->args->out, "encdiff") >= 0 ||
                            training_checkpoint(q->args->out, "autoencoder") >= 0};
    heading(q,
            cli_format(c, "Training: %.0f steps of %.0f images (Ctrl-C keeps what is learnt; the same command goes on)",
                       json_as_number(json_member(q->config, "train_encdiff.steps"), 0),
                       json_as_number(json_member(q->config, "train_encdiff.batch_size"), 0)));
    q->model = training_run(c, &t, q->stages);
    q->info = cli_model_info(c, q->model);
    for (int i = 0; i < 2; i++) {
        const stage_result *s = &q->stages[i];
        if (s->name && s->steps == s->first_step)
            cli_print(c, "      %s: all %lld steps were done before (--overwrite trains anew)\n", s->name,
                      (long long)s->steps);
        else if (s->name)
            cli_print(c, "      %s: loss %.4g after %lld steps, %s, %.0f images/s\n", s->name, s->loss,
                      (long long)s->steps, text_duration(s->seconds, time), s->images_per_second);
    }
    made(q, "model.safetensors");
}

/* ---------------------------------------------------------------- pictures */

static void reconstruct(quickstart *q)
{
    cli *c = q->c;
    encdiff_image_view images = read_held_out(q, 0, RECONSTRUCTED),
                       out = images_new(c, images.n, images.height, images.width);
    heading(q, "Reconstructing held-out scenes from their concepts");
    q->sampler = sampling_create(c, q->model, &q->sampling);
    cli_check(c, encdiff_sampler_reconstruct(q->sampler, &images, NULL, &out, progress_step, &c->progress));
    q->reconstruction = compare_images(c, &images, &out);
    encdiff_image_view shown = images_part(&images, 0, PICTURE_COLUMNS), beside = images_part(&out, 0, PICTURE_COLUMNS);
    picture_reconstruction(c, &shown, &beside, in_folder(q, "reconstruction.png"), 1);
    made(q, "reconstruction.png");
}

static void swap(quickstart *q)
{
    encdiff_image_view a = read_held_out(q, RECONSTRUCTED, SWAPPED);
    encdiff_image_view b = read_held_out(q, RECONSTRUCTED + SWAPPED, SWAPPED);
    heading(q, "Swapping concepts between scenes, one at a time");
    picture_swap_all(q->c, q->sampler, q->info.tokens, &a, &b, NULL, in_folder(q, "swap.png"), 1);
    made(q, "swap.png");
}

static void traverse(quickstart *q)
{
    cli *c = q->c;
    if (!q->info.has_scalars) return;
    heading(q, "Traversing every concept of a scene");
    size_t tokens = (size_t)q->info.tokens;
    float *low = cli_alloc(c, tokens, sizeof *low), *high = cli_alloc(c, tokens, sizeof *high);
    int32_t *concepts = cli_alloc(c, tokens, sizeof *concepts);
    for (int32_t k = 0; k < q->info.tokens; k++) concepts[k] = k;
    coded_set set = coded_set_make(c, q->model, cli_subset(c, q->held_out, RANGE_IMAGES, false, 0));
    coded_set_ranges(&set, low, high);
    double *information = concept_information(c, &set);
    const char **names = cli_alloc(c, tokens, sizeof *names);
    for (int32_t k = 0; information && k < q->info.tokens; k++) {
        int32_t factor = concept_factor(information, set.factors, k);
        if (factor >= 0) names[k] = set.factor_names[factor];
    }
    encdiff_image_view image = read_held_out(q, 0, 1);
    q->traversal = (traversal){.concept_count = q->info.tokens,
                               .concepts = concepts,
                               .low = low,
                               .high = high,
                               .names = names,
                               .values = TRAVERSED_VALUES};
    run_traversal(c, q->sampler, &image, &q->traversal);
    picture_traversal(c, &image, &q->traversal, in_folder(q, "traversal.png"), 1);
    made(q, "traversal.png");
}

static void evaluate(quickstart *q)
{
    cli *c = q->c;
    char number[32];
    metric_args metrics = {
        .metrics = "factor_vae", .train = 10000, .test = 5000, .batch = 64, .bins = 20, .prune = 0.05, .repeats = 1};
    encdiff_metrics_options options = evaluation_options(c, &metrics, NULL);
    heading(q, cli_format(c, "Scoring the codes of %s held-out scenes", text_thousands(SCORED, number)));
    encdiff_dataset *scored = cli_subset(c, q->held_out, SCORED, false, 0);
    cli_check(c, encdiff_metrics_from_model(q->model, scored, &options, &q->scores, progress_step, &c->progress));
    evaluation_own(c, q->scores);
    if (encdiff_scores_find(q->scores, "factor_vae.eval", &q->factor_vae) != ENCDIFF_OK) q->factor_vae = NAN;
}

/* ---------------------------------------------------------------- the page */

static void add_figures(quickstart *q, report *r)
{
    char time[32], value[32];
    report_figures_begin(r);
    snprintf(value, sizeof value, "%.3f", q->factor_vae);
    report_figure(r, value, "FactorVAE score",
                  "1 is perfect; 10,000 votes to learn from and 5,000 to test, of 64 of "
                  "15,000 held-out scenes");
    snprintf(value, sizeof value, "%.1f dB", q->reconstruction.psnr);
    report_figure(r, value, "reconstruction PSNR",
                  cli_format(q->c, "%d held-out scenes, MSE %.4g for pixels in [-1, 1]; %s", RECONSTRUCTED,
                             q->reconstruction.mse, sampling_describe(q->c, &q->sampling)));
    report_figure(r, text_duration(q->seconds, time), "for everything",
                  cli_format(q->c, "%s, %lld steps in all", q->args->preset, (long long)q->stages[1].steps));
    report_figures_end(r);
}

static void add_training(quickstart *q, report *r)
{
    static const char *const headings[] = {"stage", "steps", "batch", "last loss", "time", "images/s"};
    report_section(r, "Training");
    report_table_begin(r, headings, 6);
    for (int i = 0; i < 2; i++) {
        const stage_result *s = &q->stages[i];
        char steps[24], batch[24], loss[24], time[32], rate[24];
        if (!s->name) continue;
        bool went_on = s->first_step > 0;
        snprintf(steps, sizeof steps, "%lld", (long long)s->steps);
        snprintf(batch, sizeof batch, "%lld", (long long)s->batch);
        snprintf(loss, sizeof loss, isfinite(s->loss) ? "%.4g" : "-", s->loss);
        snprintf(rate, sizeof rate, s->images_per_second > 0 ? "%.0f" : "-", s->images_per_second);
        text_duration(s->seconds, time);
        const char *const cells[] = {
            s->name,
            steps,
            batch,
            loss,
            went_on ? cli_format(q->c, "%s (from step %lld)", time, (long long)s->first_step) : time,
            rate};
        report_row(r, cells, 6);
    }
    report_table_end(r);
    report_curve(r, in_folder(q, "autoencoder.csv"),
                 "Autoencoder: the loss of each logged step, and its running mean.");
    report_curve(r, in_folder(q, "encdiff.csv"),
                 "Encoder and U-Net: the loss of each logged step, and its running mean (logarithmic axis).");
}

static void add_traversal(quickstart *q, report *r)
{
    static const char *const headings[] = {"concept", "lowest code", "highest code", "change in the image"};
    if (!q->traversal.concept_count) return;
    report_section(r, "Traversing concepts");
    report_paragraph(r, "One scene, and in each row one of its concepts moved through the range of its codes while the "
                        "others stay. Where the model is disentangled, a row changes one property of the scene, and "
                        "concepts that were not needed change nothing.");
    report_picture(r, in_folder(q, "traversal.png"), "Each row one concept, from its lowest to its highest code.");
    report_table_begin(r, headings, 4);
    for (int32_t k = 0; k < q->traversal.concept_count; k++) {
        const char *const cells[] = {cli_format(q->c, "%d", k), cli_format(q->c, "%.3g", (double)q->traversal.low[k]),
                                     cli_format(q->c, "%.3g", (double)q->traversal.high[k]),
                                     cli_format(q->c, "%.2f levels of 255", q->traversal.change[k])};
        report_row(r, cells, 4);
    }
    report_table_end(r);
}

static void write_report(quickstart *q)
{
    report r;
    char number[32], held[32];
    report_begin(&r, q->c, "EncDiff quickstart",
                 cli_format(q->c, "A model that learnt %d concepts of procedural 3D scenes without labels, preset %s.",
                            q->info.tokens, q->args->preset));
    add_figures(q, &r);
    report_section(&r, "Data");
    report_paragraph(&r,
                     "%s scenes of %dx%d pixels, rendered as they are needed: hue of floor, wall and object, its "
                     "scale and shape, and the orientation. %s of them, drawn at random, were held out from "
                     "training; everything below is shown and measured on those.",
                     text_thousands(q->all.size, number), q->all.width, q->all.height, text_thousands(HELD_OUT, held));
    report_picture(&r, in_folder(q, "data.png"), "Held-out scenes.");
    add_training(q, &r);
    report_section(&r, "Reconstruction");
    report_paragraph(&r, "A scene becomes %d numbers; the diffusion model draws it again from them.", q->info.tokens);
    report_picture(&r, in_folder(q, "reconstruction.png"),
                   "Above the scenes, below what is sampled from their concepts.");
    report_section(&r, "Swapping concepts");
    report_paragraph(&r, "Scene A is drawn again with one concept taken from scene B. \"A again\" swaps nothing.");
    report_picture(&r, in_folder(q, "swap.png"), "Each row a pair; each numbered column swaps that concept alone.");
    add_traversal(q, &r);
    report_section(&r, "Scores");
    report_scores(&r, q->scores);
    report_section(&r, "Configuration");
    report_fold(&r, "All keys", q->config);
    report_write(&r, in_folder(q, "report.html"));
}

/* ---------------------------------------------------------------- */

static void add_json(quickstart *q)
{
    json_writer *j = &q->c->json;
    json_number(j, "factor_vae", q->factor_vae);
    json_number(j, "psnr", q->reconstruction.psnr);
    json_number(j, "mse", q->reconstruction.mse);
    json_number(j, "loss", q->stages[1].loss);
    json_integer(j, "steps", q->stages[1].steps);
    json_number(j, "seconds", q->seconds);
    json_raw(j, "scores", encdiff_scores_json(q->scores));
    json_string(j, "model", in_folder(q, "model.safetensors"));
    json_string(j, "report", in_folder(q, "report.html"));
}

static void print_results(quickstart *q)
{
    char time[32], scored[32];
    cli_print(q->c, "\nFactorVAE score       %.3f  (10,000 + 5,000 votes of 64 of %s held-out scenes)\n", q->factor_vae,
              text_thousands(SCORED, scored));
    cli_print(q->c, "reconstruction PSNR   %.2f dB  (%d held-out scenes, %s)\n", q->reconstruction.psnr, RECONSTRUCTED,
              sampling_describe(q->c, &q->sampling));
    cli_print(q->c, "time                  %s\n\nPictures\n", text_duration(q->seconds, time));
    cli_print(q->c, "  %-44s scenes that were held out\n", in_folder(q, "data.png"));
    cli_print(q->c, "  %-44s scenes above, sampled from their concepts below\n", in_folder(q, "reconstruction.png"));
    cli_print(q->c, "  %-44s each column takes one concept of B into A\n", in_folder(q, "swap.png"));
    if (q->traversal.concept_count)
        cli_print(q->c, "  %-44s each row varies one concept\n", in_folder(q, "traversal.png"));
    cli_print(q->c, "Report\n  %s\n", in_folder(q, "report.html"));
}

static void run_quickstart(cli *c, void *arguments)
{
    quickstart q = {.c = c, .args = arguments, .steps = 6, .start = progress_now()};
    q.config = training_config(c, q.args->preset, &q.args->set, q.args->steps);
    open_data(&q);
    training_make_folder(c, q.args->out);
    if (q.args->overwrite) {
        training_remove_checkpoints(c, q.args->out, "autoencoder");
        training_remove_checkpoints(c, q.args->out, "encdiff");
    }
    show_data(&q);
    train(&q);
    reconstruct(&q);
    swap(&q);
    traverse(&q);
    evaluate(&q);
    q.seconds = progress_now() - q.start;
    write_report(&q);
    add_json(&q);
    print_results(&q);
}

static const cli_option options[] = {
    {"out", 'o', CLI_TEXT, "DIR", "encdiff-quickstart", offsetof(quickstart_args, out), 0, 0, false,
     "folder of everything that is made"},
    {"steps", 0, CLI_INT, "N", NULL, offsetof(quickstart_args, steps), 1, 1e9, false,
     "training steps of a stage (default: the preset's)"},
    {"preset", 'p', CLI_TEXT, "NAME", "shapes3d-quick", offsetof(quickstart_args, preset), 0, 0, false,
     "configuration; its images must be those of procedural:shapes3d"},
    {"set", 0, CLI_TEXTS, "GROUP.KEY=VALUE", NULL, offsetof(quickstart_args, set), 0, 0, false,
     "change a key of the configuration; may be given again and again"},
    {"overwrite", 0, CLI_FLAG, NULL, NULL, offsetof(quickstart_args, overwrite), 0, 0, false,
     "train anew where DIR holds a run already, which otherwise goes on"},
};

const cli_command cmd_quickstart = {
    .name = "quickstart",
    .summary = "see it work: train on procedural scenes, show what was learnt",
    .details = "Nothing is downloaded. On two cores it takes about six minutes and ends by naming the pictures and\n"
               "report.html, a page with all of it. A run that was interrupted goes on.",
    .example = "encdiff quickstart --out first-look",
    .options = options,
    .option_count = CLI_COUNT(options),
    .size = sizeof(quickstart_args),
    .run = run_quickstart,
};
