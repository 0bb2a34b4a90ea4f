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
    ED_STREAM_SPLIT = 6,
    ED_STREAM_DCI = 7,
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
 * Two disjoint sets of samples, copied: `train_count` and `test_count`, or, when the table has fewer than both
 * together, all of it in the same proportion. Free each with ed_metric_samples_free().
 */
encdiff_status ed_metric_draw_split(ed_env *env, uint64_t seed, const ed_representation *table, int64_t train_count,
                                    int64_t test_count, ed_representation *train, ed_representation *test);
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

/* ---------------------------------------------------------------- BetaVAE (Higgins et al. 2017) */

typedef struct ed_beta_vae_options {
    int64_t train_points; /* 10,000 */
    int64_t eval_points;  /* 5,000 */
    int32_t batch;        /* 64 pairs averaged to one difference */
    double c;             /* 1: inverse penalty of the logistic regression */
} ed_beta_vae_options;

typedef struct ed_beta_vae_score {
    double train, eval; /* accuracy */
} ed_beta_vae_score;

void ed_beta_vae_defaults(ed_beta_vae_options *options);
encdiff_status ed_metric_beta_vae(ed_env *env, const ed_metric_run *run, const ed_representation *train,
                                  const ed_representation *test, const ed_beta_vae_options *options,
                                  ed_beta_vae_score *out);
encdiff_status ed_metric_beta_vae_of(ed_env *env, const ed_metric_points *train, const ed_metric_points *eval, double c,
                                     ed_beta_vae_score *out);

/* ---------------------------------------------------------------- MIG, modularity */

/*
 * Mutual information in nats between each code, cut into `bins` (20) equal-width bins, and each factor; and the
 * entropy of each factor.
 *
 * information  out, double[size][factor_count]
 * entropy      out, double[factor_count], or NULL
 */
encdiff_status ed_metric_mutual_information(ed_env *env, const ed_metric_run *run,
                                            const ed_representation *representation, int32_t bins, double *information,
                                            double *entropy);
/* Chen et al. 2018: mean over the factors of (best - second best code) / entropy. */
encdiff_status ed_metric_mig(ed_env *env, const double *information, const double *entropy, int32_t size,
                             int32_t factor_count, double *out);
/* Ridgeway and Mozer 2018: mean over the codes of how alone their best factor stands; a code of no information is 0. */
encdiff_status ed_metric_modularity(ed_env *env, const double *information, int32_t size, int32_t factor_count,
                                    double *out);

/* ---------------------------------------------------------------- DCI (Eastwood and Williams 2018) */

typedef struct ed_dci_options {
    int32_t stages; /* 100 boosting stages */
    int32_t depth;  /* 3: of a tree, at most 10 */
    double rate;    /* 0.1 */
} ed_dci_options;

typedef struct ed_dci_score {
    double disentanglement, completeness;
    double informativeness_train, informativeness_test; /* accuracy */
} ed_dci_score;

void ed_dci_defaults(ed_dci_options *options);
/* importance, out: double[size][factor_count], each column summing to 1, or NULL. */
encdiff_status ed_metric_dci(ed_env *env, const ed_metric_run *run, const ed_representation *train,
                             const ed_representation *test, const ed_dci_options *options, double *importance,
                             ed_dci_score *out);
/* The two scores of a given matrix, double[size][factor_count]. */
void ed_dci_of_importance(const double *importance, int32_t size, int32_t factor_count, double *disentanglement,
                          double *completeness);

/* ---------------------------------------------------------------- explicitness, SAP, IRS, TAD */

typedef struct ed_explicitness_score {
    double train, test; /* area under the ROC curve */
} ed_explicitness_score;

/* Ridgeway and Mozer 2018; c (1) is the inverse penalty of the logistic regression. */
encdiff_status ed_metric_explicitness(ed_env *env, const ed_metric_run *run, const ed_representation *train,
                                      const ed_representation *test, double c, ed_explicitness_score *out);

typedef struct ed_sap_options {
    bool continuous; /* false: accuracy of a linear SVM; true: squared correlation, which uses no test set */
    double c;        /* 0.01: inverse penalty of the SVM */
} ed_sap_options;

void ed_sap_defaults(ed_sap_options *options);
/* Kumar et al. 2018. */
encdiff_status ed_metric_sap(ed_env *env, const ed_metric_run *run, const ed_representation *train,
                             const ed_representation *test, const ed_sap_options *options, double *out);

/* Suter et al. 2019; quantile (0.99) of the deviation. 0 when no code varies. */
encdiff_status ed_metric_irs(ed_env *env, const ed_metric_run *run, const ed_representation *representation,
                             double quantile, double *out);

typedef struct ed_tad_options {
    double auroc_threshold;   /* 0.75: an attribute counts from this on */
    double entropy_threshold; /* 0.2: and if no other attribute explains more of its entropy */
    double least_range;       /* 0.2: codes of no larger range detect nothing */
} ed_tad_options;

typedef struct ed_tad_score {
    double tad;
    int32_t attributes; /* that counted */
} ed_tad_score;

void ed_tad_defaults(ed_tad_options *options);
/* Yeats et al. 2022; factors are attributes, 1 for present and 0 or -1 for absent. */
encdiff_status ed_metric_tad(ed_env *env, const ed_metric_run *run, const ed_representation *representation,
                             const ed_tad_options *options, ed_tad_score *out);

/* ---------------------------------------------------------------- images */

/*
 * n pairs of images of `size` numbers each; per image (may be NULL) and averaged over the images (may be NULL).
 * PSNR is 10 log10(range^2 / MSE): range is 2 for pixels in [-1, 1]. It is infinite for equal images.
 */
encdiff_status ed_metric_mse(ed_env *env, const float *x, const float *y, int64_t n, int64_t size, double *per_image,
                             double *mean);
encdiff_status ed_metric_psnr(ed_env *env, const float *x, const float *y, int64_t n, int64_t size, double range,
                              double *per_image, double *mean);

typedef struct ed_ssim_options {
    int32_t window;      /* 11 pixels, odd */
    double sigma;        /* 1.5 pixels */
    double k1, k2;       /* 0.01, 0.03 */
    double low, high;    /* 0, 1: the range of pixels, mapped to [0, 1] */
    bool published_axes; /* false. true: as the published evaluation calls it, channels-last images taken for
                            channels-first ones, so that the window runs over width and channels, row by row */
} ed_ssim_options;

void ed_ssim_defaults(ed_ssim_options *options);
/* Wang et al. 2004; images are float[n][channels][height][width]; per_image and mean may be NULL. */
encdiff_status ed_metric_ssim(ed_env *env, const ed_metric_run *run, const float *x, const float *y, int64_t n,
                              int32_t channels, int32_t height, int32_t width, const ed_ssim_options *options,
                              double *per_image, double *mean);

/* A Gaussian being fitted to features that come in pieces. */
typedef struct ed_gaussian {
    int64_t n;
    int32_t size;
    double *shift;    /* [size]: the first row, subtracted from all */
    double *sum;      /* [size] */
    double *products; /* [size][size], lower half */
    double *block;
} ed_gaussian;

encdiff_status ed_gaussian_create(ed_env *env, int32_t size, ed_gaussian *out);
void ed_gaussian_free(ed_env *env, ed_gaussian *gaussian); /* a zeroed one is fine */
/* Add rows [n][size]. */
encdiff_status ed_gaussian_add(ed_env *env, const ed_metric_run *run, ed_gaussian *gaussian, const float *features,
                               int64_t n);
encdiff_status ed_gaussian_add_f64(ed_env *env, const ed_metric_run *run, ed_gaussian *gaussian, const double *features,
                                   int64_t n);
/* Frechet distance (Heusel et al. 2017): FID when the features are Inception's. */
encdiff_status ed_metric_frechet(ed_env *env, const ed_metric_run *run, const ed_gaussian *a, const ed_gaussian *b,
                                 double *out);

/* ---------------------------------------------------------------- vector codes */

/* float[n][size][dim] -> float[n][size]: the first principal component of each token over the samples. */
encdiff_status ed_metric_reduce_tokens(ed_env *env, const ed_metric_run *run, const float *tokens, int64_t n,
                                       int32_t size, int32_t dim, float *codes);

/* float[n][dim] -> float[n][count]: coordinates along the `count` directions of largest variance; dim up to 1024. */
encdiff_status ed_metric_principal_components(ed_env *env, const ed_metric_run *run, const float *vectors, int64_t n,
                                              int32_t dim, int32_t count, float *out);

#endif
