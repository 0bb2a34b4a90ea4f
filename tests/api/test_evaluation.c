/* Scores while training: when they are taken, where they go, which checkpoints are kept, and what a resumed run does.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "api.h"

typedef struct bench {
    counted_memory memory;
    encdiff_context *context;
    encdiff_model *model;
    encdiff_dataset *data, *scored, *rest;
    encdiff_trainer *trainer;
    encdiff_metrics_options metrics;
    encdiff_evaluation_options options;
} bench;

/* A trainer in `folder`, on the images `learnt`, that scores 300 scenes every second step. */
static void begin_on(bench *b, const char *folder, int64_t checkpoint_interval, const char *learnt)
{
    encdiff_trainer_options options;
    encdiff_trainer_options_init(&options, sizeof options);
    options.output = folder;
    options.checkpoint_interval = checkpoint_interval;
    options.picture_interval = -1;
    b->context = open_context(&b->memory, 2);
    b->model = make_model(b->context, TINY, 3);
    b->data = open_shapes(b->context, "procedural:shapes3d");
    OK(b->context, encdiff_dataset_split(b->data, 300, 1, &b->scored, &b->rest));
    b->trainer = NULL;
    encdiff_dataset_free(b->data);
    b->data = open_shapes(b->context, learnt);
    OK(b->context, encdiff_trainer_create(b->model, b->data, &options, &b->trainer));
    encdiff_metrics_options_init(&b->metrics, sizeof b->metrics);
    b->metrics.metrics = "mig,mse";
    b->metrics.reconstructions = 4;
    b->metrics.sampler_steps = 2;
    encdiff_evaluation_options_init(&b->options, sizeof b->options);
    b->options.dataset = b->scored;
    b->options.metrics = &b->metrics;
    b->options.best = "mig,mse";
    b->options.interval = 2;
}

static void begin(bench *b, const char *folder, int64_t checkpoint_interval)
{
    begin_on(b, folder, checkpoint_interval, "procedural:shapes3d");
}

static void end(bench *b)
{
    encdiff_trainer_free(b->trainer);
    encdiff_dataset_free(b->data);
    encdiff_dataset_free(b->scored);
    encdiff_dataset_free(b->rest);
    encdiff_model_free(b->model);
    close_context(b->context, &b->memory);
}

static const char *within(const char *folder, const char *name)
{
    static char paths[4][PATH_MAX + 64];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* A whole file with a zero behind it; NULL when it is not there. */
static char *content(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    long length = ftell(file);
    char *data = calloc((size_t)length + 1, 1);
    rewind(file);
    *size = fread(data, 1, (size_t)length, file);
    fclose(file);
    return data;
}

static bool same_files(const char *a, const char *b)
{
    size_t n = 0, m = 0;
    char *x = content(a, &n), *y = content(b, &m);
    bool same = x && y && n == m && n > 0 && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

/* Values of a score in the CSV file, by step; how many. */
static int logged(const char *folder, const char *name, int64_t *steps, double *values, int room)
{
    size_t size;
    char *csv = content(within(folder, "encdiff-scores.csv"), &size), score[64];
    int count = 0;
    CHECK(csv && strncmp(csv, "step,score,value\n", 17) == 0);
    for (char *line = csv ? strchr(csv, '\n') + 1 : NULL; line && *line && count < room;
         line = strchr(line, '\n') + 1) {
        long long step;
        double value;
        if (!CHECK(sscanf(line, "%lld,%63[^,],%lf\n", &step, score, &value) == 3)) break;
        if (strcmp(score, name) != 0) continue;
        steps[count] = step;
        values[count++] = value;
    }
    free(csv);
    return count;
}

static void remove_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) unlink(within(folder, entry->d_name));
    if (dir) closedir(dir);
    rmdir(folder);
}

/* ---------------------------------------------------------------- */

static double score_of(bench *b, const char *path, const char *name)
{
    encdiff_model *loaded = NULL;
    encdiff_scores *scores = NULL;
    double value = NAN;
    if (!OK(b->context, encdiff_model_load(b->context, path, &loaded))) return NAN;
    OK(b->context, encdiff_metrics_from_model(loaded, b->scored, &b->metrics, &scores, NULL, NULL));
    CHECK_EQUAL(encdiff_scores_find(scores, name, &value), ENCDIFF_OK);
    encdiff_scores_free(scores);
    encdiff_model_free(loaded);
    return value;
}

static void scores_are_logged_and_the_best_is_kept(void)
{
    const char *folder = temporary("scores");
    int64_t steps[8];
    double values[8];
    size_t size;
    bench b;
    begin(&b, folder, -1);
    OK(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options));
    OK(b.context, encdiff_trainer_run(b.trainer, 7, NULL, NULL));
    for (int least = 0; least < 2; least++) {
        const char *name = least ? "mse" : "mig";
        int count = logged(folder, name, steps, values, 8);
        if (!CHECK_EQUAL(count, 4)) continue;
        double best = values[0];
        for (int i = 0; i < count; i++) {
            CHECK_EQUAL(steps[i], i < 3 ? 2 * (i + 1) : 7); /* the last step, too */
            best = least ? fmin(best, values[i]) : fmax(best, values[i]);
        }
        const char *path = within(folder, least ? "best-mse.safetensors" : "best-mig.safetensors");
        CHECK_NEAR(score_of(&b, path, name), best, 1e-6 * fabs(best), "the model that is kept has the best score");
    }
    char *jsonl = content(within(folder, "encdiff-scores.jsonl"), &size);
    CHECK(jsonl && strncmp(jsonl, "{\"step\":2,", 10) == 0 && strstr(jsonl, "{\"step\":7,\"mig\":"));
    free(jsonl);
    end(&b);
    remove_folder(folder);
}

static void scoring_changes_no_training(void)
{
    const char *folder = temporary("scored"), *other = temporary("unscored");
    bench a, b;
    begin(&a, folder, -1);
    begin(&b, other, -1);
    OK(a.context, encdiff_trainer_set_evaluation(a.trainer, &a.options));
    OK(a.context, encdiff_trainer_run(a.trainer, 4, NULL, NULL));
    OK(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options));
    OK(b.context, encdiff_trainer_set_evaluation(b.trainer, NULL)); /* no longer */
    OK(b.context, encdiff_trainer_run(b.trainer, 4, NULL, NULL));
    CHECK(access(within(other, "encdiff-scores.csv"), F_OK) != 0);
    OK(a.context, encdiff_trainer_save(a.trainer, folder));
    OK(b.context, encdiff_trainer_save(b.trainer, other));
    CHECK(same_files(within(folder, "encdiff-00000004.safetensors"), within(other, "encdiff-00000004.safetensors")));
    end(&a);
    end(&b);
    remove_folder(folder);
    remove_folder(other);
}

/* One run of 8 steps, and one that lost everything after its checkpoint of step 4: the same files in the end. */
static void a_resumed_run_keeps_the_best_so_far(void)
{
    static const char *const files[] = {"encdiff-scores.csv", "encdiff-scores.jsonl", "best-mig.safetensors",
                                        "best-mse.safetensors", "encdiff-00000008.safetensors"};
    const char *whole = temporary("whole"), *cut = temporary("cut");
    bench b;
    begin(&b, whole, 4);
    OK(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options));
    OK(b.context, encdiff_trainer_run(b.trainer, 8, NULL, NULL));
    end(&b);
    begin(&b, cut, 4);
    OK(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options));
    OK(b.context, encdiff_trainer_run(b.trainer, 6, NULL, NULL));
    end(&b);
    unlink(within(cut, "encdiff-00000006.safetensors"));
    begin(&b, cut, 4);
    OK(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options));
    OK(b.context, encdiff_trainer_resume(b.trainer, cut));
    OK(b.context, encdiff_trainer_run(b.trainer, 4, NULL, NULL));
    end(&b);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        CHECK_THAT(same_files(within(whole, files[i]), within(cut, files[i])), "%s differs", files[i]);
    begin(&b, cut, 4); /* a training that begins anew knows nothing of the one before */
    OK(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options));
    OK(b.context, encdiff_trainer_run(b.trainer, 2, NULL, NULL));
    int64_t steps[8];
    double values[8];
    CHECK_EQUAL(logged(cut, "mig", steps, values, 8), 1);
    end(&b);
    remove_folder(whole);
    remove_folder(cut);
}

/*
 * Epochs of 10 images in batches of 4 end within the steps 3, 5, 8, 10, 13, 15: every second in 5, 10 and 15. Stopped
 * at 7, in the middle of an epoch, it goes on as if it had not been, and so where the scores of 5 went missing.
 */
static void epochs_are_counted_in_images(void)
{
    const char *whole = temporary("epochs"), *cut = temporary("cutepochs");
    static const char *const files[] = {"encdiff-scores.csv", "encdiff-scores.jsonl", "best-mig.safetensors",
                                        "best-mse.safetensors", "encdiff-00000012.safetensors"};
    for (int part = 0; part < 4; part++) {
        const char *folder = part ? cut : whole;
        bench b;
        begin_on(&b, folder, 1, "procedural:shapes3d[0:10]");
        b.options.interval = 0;
        b.options.epochs = 2;
        if (part > 1) OK(b.context, encdiff_trainer_resume(b.trainer, folder));
        if (part != 1) OK(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options));
        static const int64_t steps[] = {12, 5, 2, 5}; /* the second: without scores */
        OK(b.context, encdiff_trainer_run(b.trainer, steps[part], NULL, NULL));
        end(&b);
    }
    int64_t steps[8];
    double values[8];
    CHECK_EQUAL(logged(whole, "mig", steps, values, 8), 3);
    CHECK(steps[0] == 5 && steps[1] == 10 && steps[2] == 12);
    CHECK_EQUAL(logged(cut, "mig", steps, values, 8), 4); /* the last step of a run is scored, too */
    CHECK(steps[0] == 5 && steps[1] == 7 && steps[2] == 10 && steps[3] == 12);
    CHECK(same_files(within(whole, files[4]), within(cut, files[4])));
    remove_folder(whole);
    remove_folder(cut);
}

/* A run that was stopped between a step and its scores, as by a cancel, makes up for them when it goes on. */
static void scores_that_are_missing_are_made_up_for(void)
{
    const char *folder = temporary("missing");
    int64_t steps[8];
    double values[8];
    bench b;
    begin(&b, folder, -1);
    OK(b.context, encdiff_trainer_run(b.trainer, 2, NULL, NULL));
    OK(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options));
    OK(b.context, encdiff_trainer_run(b.trainer, 2, NULL, NULL));
    CHECK_EQUAL(logged(folder, "mig", steps, values, 8), 2);
    CHECK(steps[0] == 2 && steps[1] == 4);
    end(&b);
    remove_folder(folder);
}

static void evaluations_that_cannot_be_are_refused(void)
{
    const char *folder = temporary("refused");
    bench b;
    encdiff_trainer *other = NULL;
    begin(&b, folder, -1);
    b.options.interval = 0; /* the configuration has none either */
    FAILS(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options), ENCDIFF_ERROR_ARGUMENT, "every 0 steps");
    b.options.epochs = -1;
    FAILS(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options), ENCDIFF_ERROR_ARGUMENT, "-1 epochs");
    b.options.epochs = 0;
    b.options.interval = 2;
    b.options.best = "mig,novelty";
    FAILS(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options), ENCDIFF_ERROR_NOT_FOUND, "novelty");
    b.options.best = "mig,,mse";
    FAILS(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options), ENCDIFF_ERROR_ARGUMENT, "best");
    b.options.best = "mse/../x";
    FAILS(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options), ENCDIFF_ERROR_ARGUMENT, "mse/../x");
    b.metrics.metrics = "mig,novelty";
    FAILS(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options), ENCDIFF_ERROR_NOT_FOUND, "novelty");
    b.metrics.metrics = "mig";
    b.options.best = "factor_vae.eval"; /* a score, but not of these metrics */
    FAILS(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options), ENCDIFF_ERROR_NOT_FOUND, "metrics mig");
    b.options.best = "mig.most"; /* what only the scores themselves can tell */
    OK(b.context, encdiff_trainer_set_evaluation(b.trainer, &b.options));
    FAILS(b.context, encdiff_trainer_run(b.trainer, 2, NULL, NULL), ENCDIFF_ERROR_NOT_FOUND, "mig.most");
    CHECK(strstr(encdiff_context_error(b.context), "after step 2"));
    CHECK_EQUAL(encdiff_trainer_set_evaluation(NULL, &b.options), ENCDIFF_ERROR_ARGUMENT);
    encdiff_trainer_free(b.trainer);
    b.trainer = NULL;
    if (OK(b.context, encdiff_trainer_create(b.model, b.data, NULL, &other))) /* without a folder */
        FAILS(b.context, encdiff_trainer_set_evaluation(other, &b.options), ENCDIFF_ERROR_STATE, "folder");
    encdiff_trainer_free(other);
    end(&b);
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(scores_are_logged_and_the_best_is_kept), TEST(scoring_changes_no_training),
        TEST(a_resumed_run_keeps_the_best_so_far),    TEST(scores_that_are_missing_are_made_up_for),
        TEST(epochs_are_counted_in_images),           TEST(evaluations_that_cannot_be_are_refused),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
