/*
 * metrics: how disentangled a representation is, and how near images are to their references.
 *
 * Everything here is a function of arrays: codes float[n][size] with ground-truth factors int32[n][factor_count], or
 * images. Sampling metrics have two forms: one draws by itself (own Philox streams, a function of the seed alone, the
 * same for every thread count), the other takes what was drawn. Conventions are those of disentanglement_lib (Locatello
 * et al., ICML 2019) as EncDiff's evaluation uses it; every published number is a default of an options struct.
 *
 * Stands on base and tensor; the api calls it. It knows neither models nor datasets nor files.
 */
#ifndef ED_METRICS_H
#define ED_METRICS_H

#include "base/base.h"
#include "tensor/tensor.h"

/* Codes and their ground truth; both arrays stay the caller's. At most INT32_MAX samples. */
typedef struct ed_representation {
    const float *codes;     /* float[n][size] */
    const int32_t *factors; /* int32[n][factor_count]; any values, equal means same */
    int64_t n;
    int32_t size;
    int32_t factor_count;
} ed_representation;

/* How a metric runs. A zeroed one is valid: the calling thread alone, seed 0, no progress. */
typedef struct ed_metric_run {
    ed_pool *pool; /* NULL: the calling thread alone */
    uint64_t seed;
    /* Called on the calling thread; false stops with ENCDIFF_CANCELLED. May be NULL. */
    bool (*progress)(void *user, const char *activity, int64_t done, int64_t total);
    void *user;
} ed_metric_run;

/*
 * Shape and finiteness, with a message that begins with `what` ("train"). Every metric below calls it on what it gets.
 */
encdiff_status ed_representation_check(ed_env *env, const ed_representation *representation, const char *what);
/* The same for two representations, which must agree in size and factor_count. */
encdiff_status ed_representation_check_pair(ed_env *env, const ed_representation *train, const ed_representation *test);

/* ---------------------------------------------------------------- draws */

/* What a sampling metric looks at: `count` points, each about one factor, with rows of `table`. */
typedef struct ed_metric_points {
    const ed_representation *table;
    int64_t count;
    int32_t batch;
    int32_t *factor; /* [count]: the factor held fixed */
    int32_t *first;  /* [count][batch] rows of table */
    int32_t *second; /* [count][batch]: paired with `first`, equal in the factor; NULL for FactorVAE */
} ed_metric_points;

/* Which stream of random numbers a draw uses. Part of the counter: values shape results and are never renumbered. */
typedef enum ed_metric_stream {
    ED_STREAM_FACTOR_VAE_VARIANCE = 1,
    ED_STREAM_FACTOR_VAE_TRAIN = 2,
    ED_STREAM_FACTOR_VAE_EVAL = 3,
    ED_STREAM_BETA_VAE_TRAIN = 4,
    ED_STREAM_BETA_VAE_EVAL = 5,
    ED_STREAM_TRAIN_SAMPLES = 6,
    ED_STREAM_TEST_SAMPLES = 7,
} ed_metric_stream;

/* `count` rows of a table of n, with replacement. Owned by the caller. */
encdiff_status ed_metric_draw_rows(ed_env *env, uint64_t seed, ed_metric_stream stream, int64_t n, int64_t count,
                                   int32_t **rows);
/*
 * Points about a factor chosen uniformly, with replacement. Not paired: one value of the factor is chosen among those
 * that occur, and `batch` rows that have it. Paired: `batch` rows, and for each another one with the same value.
 */
encdiff_status ed_metric_draw_points(ed_env *env, uint64_t seed, ed_metric_stream stream,
                                     const ed_representation *table, int64_t count, int32_t batch, bool paired,
                                     ed_metric_points *out);
void ed_metric_points_free(ed_env *env, ed_metric_points *points);

/*
 * `count` samples drawn without replacement (all of them, in order, when the table has no more than that), copied.
 * Free with ed_metric_samples_free().
 */
encdiff_status ed_metric_draw_samples(ed_env *env, uint64_t seed, ed_metric_stream stream,
                                      const ed_representation *table, int64_t count, ed_representation *out);
void ed_metric_samples_free(ed_env *env, ed_representation *samples);

/* ---------------------------------------------------------------- FactorVAE (Kim and Mnih 2018) */

typedef struct ed_factor_vae_options {
    int64_t train_points;   /* 10,000 votes to learn from */
    int64_t eval_points;    /* 5,000 */
    int64_t variance_rows;  /* 10,000 rows that give the variance of each code */
    int32_t batch;          /* 64 rows of a vote */
    double prune_threshold; /* 0.05: codes of smaller standard deviation never win; constant ones never do */
} ed_factor_vae_options;

typedef struct ed_factor_vae_score {
    double train, eval; /* accuracy of the majority vote */
    int32_t active;     /* codes that were not pruned; with 0 both accuracies are 0, as published */
} ed_factor_vae_score;

void ed_factor_vae_defaults(ed_factor_vae_options *options);
/* Votes to evaluate come from `test`, or from `train` when it is NULL. `options` NULL: defaults. */
encdiff_status ed_metric_factor_vae(ed_env *env, const ed_metric_run *run, const ed_representation *train,
                                    const ed_representation *test, const ed_factor_vae_options *options,
                                    ed_factor_vae_score *out);
/* The same for given draws: variances are those of rows `variance_rows` of train->table. */
encdiff_status ed_metric_factor_vae_of(ed_env *env, const ed_metric_run *run, const int32_t *variance_rows,
                                       int64_t variance_count, const ed_metric_points *train,
                                       const ed_metric_points *eval, double prune_threshold, ed_factor_vae_score *out);

/* ---------------------------------------------------------------- images */

/*
 * n pairs of images of `size` numbers each; per image (may be NULL) and averaged over the images (may be NULL).
 * PSNR is 10 log10(range^2 / MSE): range is 2 for pixels in [-1, 1]. It is infinite for equal images.
 */
encdiff_status ed_metric_mse(ed_env *env, const float *x, const float *y, int64_t n, int64_t size, double *per_image,
                             double *mean);
encdiff_status ed_metric_psnr(ed_env *env, const float *x, const float *y, int64_t n, int64_t size, double range,
                              double *per_image, double *mean);

#endif
