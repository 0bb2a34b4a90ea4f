#include "evaluation.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define DEVIATION "deviation." /* before the names of standard deviations of repeats */
#define BLANK " \t\r\n"

static void release_scores(cli *c, void *thing)
{
    (void)c;
    encdiff_scores_free(thing);
}

void evaluation_own(cli *c, encdiff_scores *scores) { cli_own(c, scores, release_scores); }

/* ---------------------------------------------------------------- options */

static bool is_listed(const char *list, const char *name)
{
    for (size_t length = 0; list && *list; list += length + (list[length] == ',')) {
        length = strcspn(list, ",");
        if (strlen(name) == length && strncmp(name, list, length) == 0) return true;
    }
    return false;
}

/* "all" of a model: what needs neither attributes nor weights. */
static const char *usual_metrics(cli *c)
{
    const char *names = "";
    for (int32_t i = 0; i < encdiff_metric_count(); i++) {
        const char *name = encdiff_metric_name(i);
        if (!is_listed("tad,lpips,fid", name)) names = cli_format(c, "%s%s%s", names, *names ? "," : "", name);
    }
    return names;
}

/* The metrics that are named, and those that weights were given for. */
static const char *chosen_metrics(cli *c, const metric_args *a, const weight_args *w)
{
    const char *names = a->metrics;
    if (!w || (!w->usual && !w->lpips && !w->fid)) return names;
    if (!names) names = w->usual ? w->usual : usual_metrics(c);
    if (w->lpips && !is_listed(names, "lpips")) names = cli_format(c, "%s,lpips", names);
    if (w->fid && !is_listed(names, "fid")) names = cli_format(c, "%s,fid", names);
    return names;
}

static void add_file(json_writer *j, const char *key, const char *path)
{
    if (path) json_string(j, key, path);
}

static void add_weights(json_writer *j, const weight_args *w)
{
    if (w->lpips) {
        json_open(j, "lpips", '{');
        json_string(j, "weights", w->lpips);
        add_file(j, "heads", w->lpips_heads);
        json_close(j, '}');
    }
    if (w->fid) {
        json_open(j, "fid", '{');
        json_string(j, "weights", w->fid);
        add_file(j, "statistics", w->statistics);
        json_close(j, '}');
    }
}

/* Told before any work, not after an hour of encoding. */
static void check_readable(cli *c, const char *path)
{
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (path && !file) cli_fail(c, "%s: %s", path, strerror(errno));
    if (file) fclose(file);
}

/* --settings with the weights' files among them. */
static const char *all_settings(cli *c, const metric_args *a, const weight_args *w)
{
    json_writer j = {.follows = false};
    if (!w || (!w->lpips && !w->fid)) return a->settings;
    const char *given = a->settings ? a->settings : "{}", *const files[] = {w->lpips, w->lpips_heads, w->fid};
    for (int i = 0; i < 3; i++) check_readable(c, files[i]);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "fid" : "lpips";
        if ((i ? w->fid : w->lpips) && json_member(given, name))
            cli_usage(c, "--%s and \"%s\" in --settings exclude each other", name, name);
    }
    const char *first = given + strspn(given, BLANK);
    size_t length = strlen(first);
    while (length && strchr(BLANK, first[length - 1])) length--;
    if (length < 2 || *first != '{' || first[length - 1] != '}') return given; /* which the library explains */
    json_open(&j, NULL, '{');
    add_weights(&j, w);
    const char *rest = first + 1 + strspn(first + 1, BLANK);
    if (*rest != '}') text_add(&j.text, ",\n  %.*s", (int)(first + length - 1 - rest), rest);
    json_close(&j, '}');
    const char *settings = cli_format(c, "%s", j.text.data);
    text_free(&j.text);
    return settings;
}

encdiff_metrics_options evaluation_options(cli *c, const metric_args *a, const weight_args *w)
{
    encdiff_metrics_options options;
    encdiff_metrics_options_init(&options, sizeof options);
    options.metrics = chosen_metrics(c, a, w);
    options.settings = all_settings(c, a, w);
    options.seed = c->common.seed;
    options.train_samples = a->train;
    options.test_samples = a->test;
    options.batch = (int32_t)a->batch;
    options.bins = (int32_t)a->bins;
    options.prune_threshold = a->prune > 0 ? a->prune : -1;
    options.repeats = (int32_t)a->repeats;
    return options;
}

/* ---------------------------------------------------------------- results */

double evaluation_deviation(const encdiff_scores *scores, const char *name)
{
    char path[256];
    double deviation = NAN;
    snprintf(path, sizeof path, DEVIATION "%s", name);
    encdiff_scores_find(scores, path, &deviation); /* NaN where it is absent */
    return deviation;
}

bool evaluation_is_deviation(const char *name) { return strncmp(name, DEVIATION, strlen(DEVIATION)) == 0; }

void evaluation_print(cli *c, const encdiff_scores *scores)
{
    for (int32_t i = 0; i < encdiff_scores_count(scores); i++) {
        const char *name = encdiff_scores_name(scores, i);
        double deviation = evaluation_deviation(scores, name);
        if (evaluation_is_deviation(name)) continue;
        cli_print(c, "%-28s %.4g", name, encdiff_scores_value(scores, i));
        if (isfinite(deviation)) cli_print(c, " +- %.2g", deviation);
        cli_print(c, "\n");
    }
    c->json_text = encdiff_scores_json(scores);
}

static const char *metric_names(cli *c)
{
    const char *names = "";
    for (int32_t i = 0; i < encdiff_metric_count(); i++)
        names = cli_format(c, "%s%s%s", names, i ? ", " : "", encdiff_metric_name(i));
    return names;
}

void evaluation_check_names(cli *c, const char *list)
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
