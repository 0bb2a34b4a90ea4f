/* Runs of training: losses that are no numbers, stopping, checkpoints and what else is written. */
#include <dirent.h>
#include <sys/stat.h>

#include "training.h"

/* ---------------------------------------------------------------- learning that diverges */

static float *parameters_of(bench *b, size_t *count) { return read_all(b->context, b->model, count); }

/*
 * With an absurd rate the loss stops being a number. The step that finds out says so, and parameters, statistics and
 * averages are those before it; once they are repaired, training goes on.
 */
static void diverging(const char *config, int32_t stage)
{
    bench b;
    encdiff_trainer_options options = default_options();
    encdiff_status status = ENCDIFF_OK;
    float *before = NULL, *after;
    size_t n = 0, m;
    options.stage = stage;
    begin(&b, config, 2, &options);
    step(&b);
    OK(b.context, encdiff_trainer_set_learning_rate(b.trainer, 1e30));
    for (int i = 0; i < 20 && status == ENCDIFF_OK; i++) {
        free(before);
        before = parameters_of(&b, &n);
        status = encdiff_trainer_step(b.trainer, NULL);
    }
    CHECK_EQUAL(status, ENCDIFF_ERROR_NUMERIC);
    CHECK_THAT(strstr(encdiff_context_error(b.context), "step "), "%s", encdiff_context_error(b.context));
    after = parameters_of(&b, &m);
    size_t changed = 0;
    for (size_t i = 0; i < n && n == m; i++) changed += memcmp(&before[i], &after[i], sizeof *before) != 0;
    CHECK_THAT(n == m && changed == 0, "stage %d: %zu of %zu numbers changed", stage, changed, n);
    free(before);
    free(after);
    CHECK_EQUAL(encdiff_trainer_step(b.trainer, NULL), ENCDIFF_ERROR_NUMERIC);
    end(&b);
}

static void diverging_training_stops_with_the_parameters_before(void)
{
    diverging(TINY, ENCDIFF_STAGE_ENCDIFF);
    diverging(TINY_VQ, ENCDIFF_STAGE_AUTOENCODER);
}

/* ---------------------------------------------------------------- stopping */

typedef struct stop_at {
    int64_t step, calls;
    encdiff_context *cancel; /* instead of returning non-zero */
} stop_at;

static int32_t stop_at_step(const encdiff_train_report *report, void *user)
{
    stop_at *stop = user;
    stop->calls++;
    CHECK(report->struct_size >= sizeof *report);
    CHECK_EQUAL(report->step, stop->calls);
    if (report->step < stop->step) return 0;
    if (stop->cancel) encdiff_cancel(stop->cancel);
    return !stop->cancel;
}

static void callbacks_stop_training_between_steps(void)
{
    for (int way = 0; way < 2; way++) {
        bench a, b;
        stop_at stop = {.step = 2};
        encdiff_train_report report = {.struct_size = sizeof report};
        begin(&a, TINY, 2, NULL);
        begin(&b, TINY, 2, NULL);
        if (way) stop.cancel = a.context;
        FAILS(a.context, encdiff_trainer_run(a.trainer, 10, stop_at_step, &stop), ENCDIFF_CANCELLED, "stopped");
        CHECK_EQUAL(stop.calls, 2);
        OK(a.context, encdiff_trainer_get_report(a.trainer, &report));
        CHECK_EQUAL(report.step, 2);
        OK(a.context, encdiff_trainer_run(a.trainer, 1, NULL, NULL)); /* goes on */
        OK(b.context, encdiff_trainer_run(b.trainer, 3, NULL, NULL));
        CHECK(same_parameters(a.context, a.model, b.model));
        end(&b);
        end(&a);
    }
}

/* A step that fails half way is undone: the next one does what it would have done. */
static void a_step_that_fails_half_way_is_undone(void)
{
    bench a, b;
    begin(&a, TINY, 2, NULL);
    begin(&b, TINY, 2, NULL);
    CHECK(step(&a) == step(&b));
    encdiff_cancel(a.context);
    FAILS(a.context, encdiff_trainer_step(a.trainer, NULL), ENCDIFF_CANCELLED, "stopped");
    CHECK(step(&a) == step(&b));
    end(&b);
    end(&a);

    for (int call = 1; call < 400; call += 13) { /* the first step takes memory; make that fail here and there */
        begin(&a, TINY, 2, NULL);
        begin(&b, TINY, 2, NULL);
        atomic_store(&a.memory.fail_from, atomic_load(&a.memory.calls) + call);
        encdiff_status status = encdiff_trainer_step(a.trainer, NULL);
        atomic_store(&a.memory.fail_from, 0);
        double loss = step(&b);
        if (status == ENCDIFF_OK) loss = step(&b); /* memory was enough: both are one step on */
        CHECK(status == ENCDIFF_OK || status == ENCDIFF_ERROR_OUT_OF_MEMORY);
        /* A batch read ahead may have failed, which the step that wants it says, once. */
        encdiff_train_report report = {.struct_size = sizeof report};
        if (encdiff_trainer_step(a.trainer, &report) == ENCDIFF_ERROR_OUT_OF_MEMORY)
            OK(a.context, encdiff_trainer_step(a.trainer, &report));
        CHECK_THAT(report.loss == loss, "after failing allocation %d the step differs", call);
        end(&b);
        end(&a);
        if (status == ENCDIFF_OK) break;
    }
}

/* ---------------------------------------------------------------- files */

static void remove_folder(const char *path)
{
    char name[PATH_MAX + 256];
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') unlink(name);
    }
    if (folder) closedir(folder);
    rmdir(path);
}

static int files_in(const char *path, const char *part)
{
    int count = 0;
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        count += entry->d_name[0] != '.' && strstr(entry->d_name, part) != NULL;
    if (folder) closedir(folder);
    return count;
}

/* Stop after three steps, go on in another process's place: losses and parameters bit for bit. */
static void resumed(const char *config, int32_t stage, const char *name)
{
    const char *folder = temporary(name);
    bench a, b;
    encdiff_trainer_options options = default_options();
    encdiff_train_report report = {.struct_size = sizeof report};
    double losses[6];
    options.stage = stage;
    begin(&a, config, 2, &options);
    for (int i = 0; i < 6; i++) {
        if (i == 3) OK(a.context, encdiff_trainer_save(a.trainer, folder));
        losses[i] = step(&a);
    }
    begin(&b, config, 2, &options);
    step(&b);
    OK(b.context, encdiff_trainer_resume(b.trainer, folder));
    OK(b.context, encdiff_trainer_get_report(b.trainer, &report));
    CHECK_EQUAL(report.step, 3);
    for (int i = 3; i < 6; i++) CHECK_THAT(step(&b) == losses[i], "step %d differs after resuming", i + 1);
    CHECK(same_parameters(a.context, a.model, b.model));
    end(&b);
    end(&a);
    remove_folder(folder);
}

static void training_resumes_bit_for_bit(void)
{
    resumed(TINY, ENCDIFF_STAGE_ENCDIFF, "resume");
    resumed(TINY_VQ, ENCDIFF_STAGE_AUTOENCODER, "resume-autoencoder");
}

static void checkpoints_are_models_and_two_are_kept(void)
{
    const char *folder = temporary("checkpoints");
    char path[PATH_MAX + 64];
    bench b;
    encdiff_model *loaded = NULL;
    begin(&b, TINY, 1, NULL);
    for (int i = 0; i < 4; i++) {
        step(&b);
        OK(b.context, encdiff_trainer_save(b.trainer, folder));
    }
    CHECK_EQUAL(files_in(folder, ".safetensors"), 2);
    CHECK_EQUAL(files_in(folder, ""), 2); /* nothing temporary stays */
    snprintf(path, sizeof path, "%s/encdiff-00000004.safetensors", folder);
    if (OK(b.context, encdiff_model_load(b.context, path, &loaded))) CHECK(same_parameters(b.context, b.model, loaded));
    encdiff_model_free(loaded);
    CHECK_EQUAL(truncate(path, 1000), 0); /* the newest is damaged: the one before it is whole */
    encdiff_train_report report = {.struct_size = sizeof report};
    OK(b.context, encdiff_trainer_resume(b.trainer, folder));
    OK(b.context, encdiff_trainer_get_report(b.trainer, &report));
    CHECK_EQUAL(report.step, 3);
    FAILS(b.context, encdiff_trainer_resume(b.trainer, path), ENCDIFF_ERROR_FORMAT, path);
    OK(b.context, encdiff_trainer_get_report(b.trainer, &report));
    CHECK_EQUAL(report.step, 3); /* nothing has changed */
    end(&b);
    remove_folder(folder);
}

static void checkpoints_of_something_else_are_refused(void)
{
    const char *folder = temporary("foreign");
    char path[PATH_MAX + 64];
    bench a, b;
    encdiff_trainer_options options = default_options();
    begin(&a, TINY, 1, NULL);
    step(&a);
    FAILS(a.context, encdiff_trainer_resume(a.trainer, folder), ENCDIFF_ERROR_NOT_FOUND, folder);
    OK(a.context, encdiff_trainer_save(a.trainer, folder));
    snprintf(path, sizeof path, "%s/encdiff-00000001.safetensors", folder);
    begin(&b, TINY_VQ, 1, NULL);
    FAILS(b.context, encdiff_trainer_resume(b.trainer, path), ENCDIFF_ERROR_CONFIG, "configuration");
    end(&b);
    options.batch_size = 8;
    begin(&b, TINY, 1, &options);
    FAILS(b.context, encdiff_trainer_resume(b.trainer, path), ENCDIFF_ERROR_CONFIG, "batches of 4");
    end(&b);
    options = default_options();
    options.stage = ENCDIFF_STAGE_AUTOENCODER;
    begin(&b, TINY_VQ, 1, &options);
    FAILS(b.context, encdiff_trainer_resume(b.trainer, path), ENCDIFF_ERROR_CONFIG, "stage");
    end(&b);
    const char *model = temporary("plain.safetensors"); /* a model is no checkpoint */
    OK(a.context, encdiff_model_save(a.model, model));
    FAILS(a.context, encdiff_trainer_resume(a.trainer, model), ENCDIFF_ERROR_FORMAT, "checkpoint");
    FAILS(a.context, encdiff_trainer_save(a.trainer, "/proc/nowhere"), ENCDIFF_ERROR_IO, "/proc/nowhere");
    unlink(model);
    end(&a);
    remove_folder(folder);
}

static void runs_write_log_checkpoints_and_pictures(void)
{
    const char *folder = temporary("output");
    bench b;
    encdiff_trainer_options options = default_options();
    options.output = folder;
    options.checkpoint_interval = 2;
    options.picture_interval = -1;
    begin(&b, TINY, 2, &options);
    OK(b.context, encdiff_trainer_run(b.trainer, 3, NULL, NULL));
    CHECK_EQUAL(files_in(folder, ".safetensors"), 2); /* steps 2 and 3, the last */
    CHECK_EQUAL(files_in(folder, ".csv"), 1);
    CHECK_EQUAL(files_in(folder, ".jsonl"), 1);
    CHECK_EQUAL(files_in(folder, ".png"), 0);
    end(&b);
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(diverging_training_stops_with_the_parameters_before),
        TEST(callbacks_stop_training_between_steps),
        TEST(a_step_that_fails_half_way_is_undone),
        TEST(training_resumes_bit_for_bit),
        TEST(checkpoints_are_models_and_two_are_kept),
        TEST(checkpoints_of_something_else_are_refused),
        TEST(runs_write_log_checkpoints_and_pictures),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
