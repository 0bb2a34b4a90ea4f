#define _GNU_SOURCE
#include "training.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---------------------------------------------------------------- configuration */

const char *training_config(cli *c, const char *config, const cli_texts *set, int64_t steps)
{
    cli_texts all = {cli_alloc(c, (size_t)set->count + 2, sizeof *all.items), set->count};
    for (int32_t i = 0; i < set->count; i++) all.items[i] = set->items[i];
    if (steps) {
        all.items[all.count++] = cli_format(c, "train_autoencoder.steps=%lld", (long long)steps);
        all.items[all.count++] = cli_format(c, "train_encdiff.steps=%lld", (long long)steps);
    }
    return cli_resolve_config(c, config, &all);
}

bool training_has_autoencoder(const char *config)
{
    const char *kind = json_member(config, "autoencoder.kind");
    return json_is(kind, "vq") || json_is(kind, "kl");
}

bool training_evaluates(const char *config)
{
    return json_as_number(json_member(config, "data.evaluate_every"), 0) > 0 ||
           json_as_number(json_member(config, "data.evaluate_every_epochs"), 0) > 0;
}

uint64_t training_seed(const cli *c, const char *config)
{
    if (options_given(c, "seed")) return c->common.seed;
    return (uint64_t)json_as_number(json_member(config, "data.seed"), 0);
}

/* ---------------------------------------------------------------- checkpoints in a folder */

/* The step in "<stage>-<step>.safetensors", or -1. */
static int64_t step_in_name(const char *name, const char *stage)
{
    size_t n = strlen(stage);
    char *end;
    if (strncmp(name, stage, n) != 0 || name[n] != '-' || name[n + 1] < '0' || name[n + 1] > '9') return -1;
    long long step = strtoll(name + n + 1, &end, 10);
    return strcmp(end, ".safetensors") == 0 ? step : -1;
}

int64_t training_checkpoint(const char *folder, const char *stage)
{
    int64_t newest = -1;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        int64_t step = step_in_name(entry->d_name, stage);
        if (step > newest) newest = step;
    }
    if (dir) closedir(dir);
    return newest;
}

void training_remove_checkpoints(cli *c, const char *folder, const char *stage)
{
    int64_t step;
    while ((step = training_checkpoint(folder, stage)) >= 0) {
        char *path = cli_format(c, "%s/%s-%08lld.safetensors", folder, stage, (long long)step);
        if (unlink(path) != 0) cli_fail(c, "%s: cannot be removed: %s", path, strerror(errno));
    }
}

/* ---------------------------------------------------------------- one stage */

static void release_trainer(cli *c, void *thing)
{
    (void)c;
    encdiff_trainer_free(thing);
}

static encdiff_train_report report_of(cli *c, const encdiff_trainer *trainer)
{
    encdiff_train_report report = {.struct_size = sizeof report};
    cli_check(c, encdiff_trainer_get_report(trainer, &report));
    return report;
}

static encdiff_trainer *create_trainer(cli *c, const training *t, encdiff_model *model, encdiff_stage stage)
{
    encdiff_trainer *trainer;
    encdiff_trainer_options options;
    encdiff_trainer_options_init(&options, sizeof options);
    options.stage = stage;
    options.seed = t->seed;
    options.output = t->out;
    options.lpips_weights = t->lpips;
    cli_check(c, encdiff_trainer_create(model, t->dataset, &options, &trainer));
    cli_own(c, trainer, release_trainer);
    return trainer;
}

/* Scores while training, where the configuration asks for them. */
static void set_evaluation(cli *c, const training *t, encdiff_trainer *trainer)
{
    encdiff_metrics_options metrics;
    encdiff_evaluation_options options;
    if (!training_evaluates(t->config)) return;
    encdiff_metrics_options_init(&metrics, sizeof metrics);
    metrics.settings = t->score_settings;
    metrics.seed = t->score_seed;
    encdiff_evaluation_options_init(&options, sizeof options);
    options.dataset = t->scored;
    options.metrics = &metrics;
    cli_check(c, encdiff_trainer_set_evaluation(trainer, &options));
}

/* True: the trainer goes on from a checkpoint. */
static bool resume(cli *c, const training *t, encdiff_trainer *trainer, const char *name)
{
    if (!t->resume) return false;
    encdiff_status status = encdiff_trainer_resume(trainer, t->out);
    if (status == ENCDIFF_ERROR_NOT_FOUND) {
        cli_note(c, "%s: no checkpoint of the stage %s: it starts from the beginning", t->out, name);
        return false;
    }
    cli_check(c, status);
    cli_note(c, "the stage %s goes on after step %lld", name, (long long)report_of(c, trainer).step);
    return true;
}

/* An interrupted run leaves where it was, so that nothing is lost. */
static _Noreturn void stop(cli *c, const training *t, encdiff_trainer *trainer, const char *name)
{
    int64_t step = report_of(c, trainer).step;
    if (step > 0) {
        encdiff_status status = encdiff_trainer_save(trainer, t->out);
        if (status != ENCDIFF_OK) cli_note(c, "%s", encdiff_context_error(c->context));
        if (status == ENCDIFF_OK)
            cli_note(c, "interrupted after step %lld of the stage %s, which is saved in %s; --resume goes on",
                     (long long)step, name, t->out);
    } else {
        cli_note(c, "interrupted before the first step");
    }
    cli_exit(c, CLI_INTERRUPTED);
}

static bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

static void write_config(cli *c, const training *t)
{
    text content = {0};
    text_add(&content, "%s", t->config);
    if (content.data[content.length - 1] != '\n') text_add(&content, "\n");
    const char *path = cli_format(c, "%s/config.json", t->out);
    int error = text_write_file(&content, path);
    text_free(&content);
    if (error) cli_fail(c, "%s: cannot be written: %s", path, strerror(error));
}

static stage_result run_stage(cli *c, const training *t, encdiff_model *model, encdiff_stage stage)
{
    bool first = stage == ENCDIFF_STAGE_AUTOENCODER;
    const char *name = first ? "autoencoder" : "encdiff";
    const char *group = first ? "train_autoencoder" : "train_encdiff";
    const char *path = cli_format(c, "%s/model.safetensors", t->out);
    double start = progress_now();
    size_t mark = c->owned_count;
    encdiff_trainer *trainer = create_trainer(c, t, model, stage); /* which makes the folder where all is well */
    if (!first) set_evaluation(c, t, trainer);
    write_config(c, t);
    int64_t total = (int64_t)json_as_number(json_member(t->config, cli_format(c, "%s.steps", group)), 0);
    resume(c, t, trainer, name);
    stage_result result = {.name = name, .first_step = report_of(c, trainer).step};
    c->progress.title = cli_format(c, "training %s", name);
    c->progress.total_steps = total;
    c->progress.activity[0] = 0; /* a new clock */
    encdiff_status status = encdiff_trainer_run(trainer, 0, progress_train, &c->progress);
    c->progress.title = NULL;
    progress_clear(&c->progress);
    if (status == ENCDIFF_CANCELLED) stop(c, t, trainer, name);
    cli_check(c, status);
    encdiff_train_report report = report_of(c, trainer);
    result.steps = report.step;
    result.loss = report.loss;
    result.batch = (int64_t)json_as_number(json_member(t->config, cli_format(c, "%s.batch_size", group)), 0);
    result.images_per_second = report.images_per_second;
    /* A finished run that is resumed has nothing to add to its model, and a later stage may have gone on with it. */
    if (result.steps > result.first_step || !file_exists(path)) cli_check(c, encdiff_model_save(model, path));
    result.seconds = progress_now() - start;
    cli_release_to(c, mark); /* the trainer: the next stage's must be the only one that holds the model */
    return result;
}

/* ---------------------------------------------------------------- the best by a score */

/* The value of a score after a step; NaN where the log has none. */
static double logged_score(const char *csv, int64_t step, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = csv; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char *end;
        if (strtoll(line, &end, 10) == step && *end == ',' && strncmp(end + 1, name, length) == 0 &&
            end[1 + length] == ',')
            return strtod(end + 2 + length, NULL);
    }
    return NAN;
}

static void report_best(cli *c, const training *t, const char *csv, const char *name)
{
    const char *path = cli_format(c, "%s/best-%s.safetensors", t->out, name);
    size_t mark = c->owned_count;
    if (!file_exists(path)) return;
    int64_t step = cli_model_info(c, cli_load_model(c, path)).steps;
    double value = logged_score(csv, step, name);
    cli_release_to(c, mark);
    cli_print(c, "best         %s %.4g after %lld steps: %s/best-%s.safetensors\n", name, value, (long long)step,
              t->out, name);
    json_open(&c->json, name, '{');
    json_integer(&c->json, "step", step);
    json_number(&c->json, "value", value);
    json_close(&c->json, '}');
}

void training_report_best(cli *c, const training *t)
{
    char list[1024];
    json_as_text(json_member(t->config, "data.keep_best"), list, sizeof list);
    if (!t->encdiff_stage || !*list) return;
    char *csv = text_read_file(cli_format(c, "%s/encdiff-scores.csv", t->out), NULL);
    json_open(&c->json, "best", '{');
    for (char *name = list; *name;) {
        char *end = name + strcspn(name, ","), *next = end + (*end == ',');
        *end = 0;
        report_best(c, t, csv, name);
        name = next;
    }
    json_close(&c->json, '}');
    free(csv);
}

/* ---------------------------------------------------------------- the autoencoder that is there */

static void copy_parameter(cli *c, encdiff_model *from, encdiff_model *to, const encdiff_parameter_info *p)
{
    float *values = malloc((size_t)p->count * sizeof *values);
    if (!values) cli_fail(c, "out of memory");
    encdiff_status status = encdiff_model_read_parameter(from, p->name, p->count, values);
    if (status == ENCDIFF_OK) status = encdiff_model_write_parameter(to, p->name, p->count, values);
    free(values);
    cli_check(c, status);
}

/* The model has the new configuration; the first stage's parameters come from what was trained before. */
static void take_autoencoder(cli *c, const training *t, encdiff_model *model)
{
    const char *path = t->autoencoder ? t->autoencoder : cli_format(c, "%s/model.safetensors", t->out);
    if (!t->autoencoder && !file_exists(path))
        cli_fail(c,
                 "%s: is not there: the encdiff stage needs a trained autoencoder (--stage autoencoder, or "
                 "--autoencoder MODEL)",
                 path);
    encdiff_model *trained;
    cli_check(c, encdiff_model_load(c->context, path, &trained));
    cli_own_model(c, trained);
    int32_t count = encdiff_model_parameter_count(model);
    for (int32_t i = 0; i < count; i++) {
        encdiff_parameter_info p = {.struct_size = sizeof p};
        cli_check(c, encdiff_model_get_parameter(model, i, &p));
        if (strncmp(p.name, "first_stage_model.", 18) == 0) copy_parameter(c, trained, model, &p);
    }
}

/* ---------------------------------------------------------------- both */

void training_make_folder(cli *c, const char *path)
{
    char *copy = cli_format(c, "%s", path);
    for (char *slash = copy + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(copy, 0777);
        *slash = '/';
    }
    if (mkdir(copy, 0777) != 0 && errno != EEXIST) cli_fail(c, "%s: cannot be made: %s", path, strerror(errno));
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) cli_fail(c, "%s: is no folder", path);
}

encdiff_model *training_run(cli *c, const training *t, stage_result results[2])
{
    encdiff_model *model;
    results[0] = results[1] = (stage_result){0};
    bool second_began = t->resume && t->encdiff_stage && training_checkpoint(t->out, "encdiff") >= 0;
    cli_check(c, encdiff_model_create(c->context, t->config, t->seed, &model));
    cli_own_model(c, model);
    bool needs_autoencoder = training_has_autoencoder(t->config) && !t->autoencoder_stage && !second_began;
    if (needs_autoencoder) take_autoencoder(c, t, model);
    if (t->autoencoder_stage && !second_began) results[0] = run_stage(c, t, model, ENCDIFF_STAGE_AUTOENCODER);
    if (t->encdiff_stage) results[1] = run_stage(c, t, model, ENCDIFF_STAGE_ENCDIFF);
    return model;
}
