/*
 * scoring: one evaluation on its way, shared by the files that make it up.
 *
 *   metrics.c        what is evaluated: arrays of codes, pairs of images; repeats with further seeds
 *   metrics_model.c  a model on a dataset
 *   metric_table.c   every metric of codes: its settings, its run, its numbers; the table of all
 *   metric_images.c  the same for metrics of images
 *   scores.c         the result: numbers by name, JSON
 */
#ifndef ED_SCORING_H
#define ED_SCORING_H

#include "api/handles.h"
#include "metrics/metrics.h"

/* What a metric looks at; evaluations have one or both. */
typedef enum ed_needs { ED_NEEDS_CODES = 1, ED_NEEDS_IMAGES = 2 } ed_needs;

#define ED_MAX_METRICS 32

/* Images that are compared: in memory, f32 NHWC in [-1, 1], or in a dataset. */
typedef struct ed_image_set {
    const float *pixels;
    ed_dataset *dataset;
    int64_t n;
    int32_t height, width;
} ed_image_set;

typedef struct ed_scoring {
    encdiff_context *context;
    ed_env *env;
    encdiff_metrics_options options; /* defaults filled in */
    ed_json *settings;               /* of the caller, or NULL */
    ed_json *used;                   /* settings that metrics ran with */
    ed_json *timing;                 /* seconds of each part */
    ed_json *tree;                   /* results of the current repeat */
    ed_json **repeats;               /* [options.repeats]: trees of those that are done */
    int32_t done;
    ed_metric_run run;
    encdiff_progress progress;
    void *user;
    int has;                                       /* ed_needs, or'ed */
    const ed_representation *train, *test;         /* sampling metrics draw from these */
    ed_representation train_samples, test_samples; /* what the others learn from and are tested on */
    ed_image_set sets[2];                          /* reference, images; n 0: none */
} ed_scoring;

typedef struct ed_metric_entry {
    const char *name;
    ed_needs needs;
    bool asked_only; /* not part of "all": needs attributes in place of factors, or weights */
    bool is_error;   /* best where it is least */
    bool varied;     /* learns each factor: none may have one value alone */
    encdiff_status (*run)(ed_scoring *s);
} ed_metric_entry;

/* metric_images.c */
encdiff_status ed_score_mse(ed_scoring *s);
encdiff_status ed_score_psnr(ed_scoring *s);
encdiff_status ed_score_ssim(ed_scoring *s);
encdiff_status ed_score_lpips(ed_scoring *s);
encdiff_status ed_score_fid(ed_scoring *s);

/* metric_table.c. The settings object of a metric, NULL when the caller gave none; where those go that it ran with. */
encdiff_status ed_scoring_settings(ed_scoring *s, const char *metric, ed_json **out);
encdiff_status ed_scoring_used(ed_scoring *s, const char *metric, ed_json **out);
extern const ed_metric_entry ed_metric_table[];
extern const size_t ed_metric_table_size;

/* metrics.c. ed_scoring_end() is due whatever ed_scoring_begin() returned. */
encdiff_status ed_scoring_begin(ed_scoring *s, encdiff_context *context, const char *where,
                                const encdiff_metrics_options *options, encdiff_progress progress, void *user);
void ed_scoring_end(ed_scoring *s);
/* The metrics that run: those named, or all that the inputs (s->has) allow. */
encdiff_status ed_scoring_select(ed_scoring *s, bool chosen[ED_MAX_METRICS]);
/* Whether a chosen metric looks at images, or at codes. */
bool ed_scoring_wants(const bool chosen[ED_MAX_METRICS], ed_needs needs);
/* Score representations (NULL: none; test NULL: drawn from train) and pairs of images, where s->has says so. */
encdiff_status ed_scoring_run(ed_scoring *s, const ed_representation *train, const ed_representation *test,
                              encdiff_scores **out);
/* The caller's callback; false stops. */
bool ed_scoring_progress(void *user, const char *activity, int64_t done, int64_t total);
/* Seconds of a part; parts of one name add up. */
encdiff_status ed_scoring_time(ed_scoring *s, const char *part, double seconds);

/* scores.c: the numbers of `tree`, which also becomes the JSON. */
encdiff_status ed_scores_create(encdiff_context *context, ed_json *tree, const ed_json *timing, encdiff_scores **out);
/*
 * `trees` are results of one shape. mean: a copy of the first with each number averaged, and with "deviation" (standard
 * deviations, n - 1) and "repeats" (the numbers of each) beside them. One tree alone is copied.
 */
encdiff_status ed_scores_average(ed_env *env, ed_json *const *trees, int32_t count, ed_json **mean);

#endif
