/* Scores while training. */
#include "api/evaluation.h"

#include <math.h>

#include "api/scoring.h"

struct ed_evaluation {
    encdiff_model *model; /* the trainer's, which outlives this */
    ed_trainer *trainer;
    encdiff_dataset dataset;
    encdiff_metrics_options metrics;
    int64_t interval, epochs;
    char *names, *settings, *best; /* copies of the caller's */
};

/* ---------------------------------------------------------------- which scores are best */

/* A score's name is its metric's or begins with it: "mig", "dci.completeness", "explicitness_test". */
static const ed_metric_entry *metric_of(const char *score)
{
    for (size_t i = 0; i < ed_metric_table_size; i++) {
        const ed_metric_entry *m = &ed_metric_table[i];
        size_t length = strlen(m->name);
        if (strncmp(score, m->name, length) == 0 && (!score[length] || strchr("._", score[length]))) return m;
    }
    return NULL;
}

typedef encdiff_status (*score_visit)(ed_evaluation *e, const char *score, void *user);

/* Each name of the list "a,b". */
static encdiff_status for_each_best(ed_evaluation *e, score_visit visit, void *user)
{
    for (const char *list = e->best; list && *list;) {
        char name[128];
        size_t length = strcspn(list, ",");
        if (length == 0 || length >= sizeof name || memchr(list, '/', length))
            return ed_fail(e->trainer->env, ENCDIFF_ERROR_ARGUMENT, "best: \"%.*s\" is no name of a score", (int)length,
                           list);
        memcpy(name, list, length);
        name[length] = 0;
        ED_TRY(visit(e, name, user));
        list += length + (list[length] == ',');
    }
    return ENCDIFF_OK;
}

/* Told before the training, not after the first score. */
static encdiff_status check_best(ed_evaluation *e, const char *score, void *user)
{
    const bool *chosen = user;
    const ed_metric_entry *m = metric_of(score);
    if (!m) return ed_fail(e->trainer->env, ENCDIFF_ERROR_NOT_FOUND, "best: no metric gives a score \"%s\"", score);
    if (chosen[m - ed_metric_table]) return ENCDIFF_OK;
    return ed_fail(e->trainer->env, ENCDIFF_ERROR_NOT_FOUND,
                   "best: \"%s\" is a score of %s, which is not among the metrics %s; name it there", score, m->name,
                   e->names ? e->names : "that labels allow");
}

/* ---------------------------------------------------------------- life */

static encdiff_status copy_text(ed_env *env, const char *text, char **copy)
{
    if (!text || !*text) return ENCDIFF_OK;
    *copy = ed_strdup(env, text);
    return *copy ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

static encdiff_status fill(ed_evaluation *e, const encdiff_evaluation_options *o)
{
    ed_env *env = e->trainer->env;
    encdiff_context *context = e->model->context;
    const ed_config *c = ed_model_config(e->model);
    bool chosen[ED_MAX_METRICS];
    ed_scoring names = {.env = env, .has = ED_NEEDS_CODES | ED_NEEDS_IMAGES};
    bool given = o->interval || o->epochs; /* neither: when the configuration says */
    e->interval = given ? o->interval : c->data.evaluate_every;
    e->epochs = given ? o->epochs : c->data.evaluate_every_epochs;
    if (e->interval < 0 || e->epochs < 0 || (!e->interval && !e->epochs))
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "an evaluation every %lld steps and every %lld epochs",
                       (long long)e->interval, (long long)e->epochs);
    ED_TRY(ed_api_read_options(context, "encdiff_trainer_set_evaluation", &e->metrics, sizeof e->metrics, o->metrics));
    ED_TRY(copy_text(env, e->metrics.metrics ? e->metrics.metrics : c->data.evaluate_metrics, &e->names));
    ED_TRY(copy_text(env, e->metrics.settings, &e->settings));
    ED_TRY(copy_text(env, o->best ? o->best : c->data.keep_best, &e->best));
    e->metrics.struct_size = sizeof e->metrics;
    e->metrics.metrics = names.options.metrics = e->names;
    e->metrics.settings = e->settings;
    ED_TRY(ed_scoring_select(&names, chosen));
    ED_TRY(for_each_best(e, check_best, chosen));
    e->dataset.context = context;
    e->dataset.dataset = ed_dataset_retain(o->dataset ? o->dataset->dataset : e->trainer->dataset);
    return ENCDIFF_OK;
}

encdiff_status ed_evaluation_create(encdiff_model *model, ed_trainer *trainer,
                                    const encdiff_evaluation_options *options, ed_evaluation **out)
{
    *out = ed_alloc(trainer->env, 1, sizeof **out);
    if (!*out) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    (*out)->model = model;
    (*out)->trainer = trainer;
    encdiff_status status = fill(*out, options);
    if (status == ENCDIFF_OK) return ENCDIFF_OK;
    ed_evaluation_free(trainer->env, *out);
    *out = NULL;
    return status;
}

void ed_evaluation_free(ed_env *env, ed_evaluation *e)
{
    if (!e) return;
    ed_dataset_free(env, e->dataset.dataset);
    ed_free(env, e->names);
    ed_free(env, e->settings);
    ed_free(env, e->best);
    ed_free(env, e);
}

void ed_evaluation_set(ed_evaluation *e, ed_trainer_options *options)
{
    options->evaluate = e ? ed_evaluation_run : NULL;
    options->evaluate_user = e;
    options->evaluate_every = e ? e->interval : 0;
    options->evaluate_epochs = e ? e->epochs : 0;
}

/* ---------------------------------------------------------------- scoring */

/* Keeps the checkpoint where the score is better than in every evaluation before. */
static encdiff_status keep_if_best(ed_evaluation *e, const char *score, void *user)
{
    const ed_trainer *t = e->trainer;
    const ed_trainer_options *o = &t->options;
    double value, before;
    bool least = metric_of(score)->is_error;
    if (encdiff_scores_find(user, score, &value) != ENCDIFF_OK)
        return ed_fail(t->env, ENCDIFF_ERROR_NOT_FOUND, "best: there is no score \"%s\" among those of %s", score,
                       e->names ? e->names : "all metrics");
    ED_TRY(ed_score_log_best(t->env, o->output, o->stage, t->step, score, least, &before));
    if (isnan(value) || (!isnan(before) && (least ? value >= before : value <= before))) return ENCDIFF_OK;
    char *path = ed_format(t->env, "%s/best-%s.safetensors", o->output, score);
    if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_trainer_save_as(e->trainer, path);
    ed_free(t->env, path);
    return status;
}

static encdiff_status log_scores(const ed_evaluation *e, const encdiff_scores *scores)
{
    const ed_trainer *t = e->trainer;
    size_t count = (size_t)encdiff_scores_count(scores);
    ed_score *rows = ed_alloc(t->env, ED_MAX(count, 1), sizeof *rows);
    if (!rows) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < count; i++)
        rows[i] = (ed_score){encdiff_scores_name(scores, (int32_t)i), encdiff_scores_value(scores, (int32_t)i)};
    encdiff_status status = ed_score_log_add(t->env, t->options.output, t->options.stage, t->step, rows, count);
    ed_free(t->env, rows);
    return status;
}

encdiff_status ed_evaluation_run(void *evaluation)
{
    ed_evaluation *e = evaluation;
    encdiff_scores *scores = NULL;
    encdiff_status status = encdiff_metrics_from_model(e->model, &e->dataset, &e->metrics, &scores, NULL, NULL);
    if (status == ENCDIFF_OK) status = for_each_best(e, keep_if_best, scores);
    if (status == ENCDIFF_OK) status = log_scores(e, scores);
    encdiff_scores_free(scores);
    if (status != ENCDIFF_OK)
        ed_fail_within(e->trainer->env, "evaluation after step %lld", (long long)e->trainer->step);
    return status;
}

encdiff_status ed_evaluation_begin(ed_evaluation *e)
{
    const ed_trainer *t = e->trainer;
    const ed_trainer_options *o = &t->options;
    bool done = true;
    if (t->step == 0) return ed_score_log_clear(t->env, o->output, o->stage);
    if (ed_trainer_evaluation_due(t)) ED_TRY(ed_score_log_has(t->env, o->output, o->stage, t->step, &done));
    return done ? ENCDIFF_OK : ed_evaluation_run(e);
}
