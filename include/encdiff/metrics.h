/*
 * Metrics: how disentangled codes are and how good images are. The result is a set of named numbers, so that more
 * metrics change no structure.
 */
#ifndef ENCDIFF_METRICS_H
#define ENCDIFF_METRICS_H

#include <encdiff/context.h>
#include <encdiff/dataset.h>
#include <encdiff/image.h>
#include <encdiff/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The result of an evaluation; it does not change.
 *
 * Thread-safety: may be read from any thread; to be freed on the thread of its context.
 */
typedef struct encdiff_scores encdiff_scores;

typedef struct encdiff_metrics_options {
    size_t struct_size;
    const char *metrics;    /* comma-separated names from encdiff_metric_name(); NULL: all that the inputs allow */
    const char *settings;   /* JSON for single metrics, {"factor_vae": {"eval_samples": 5000}}; or NULL */
    uint64_t seed;          /* of every draw */
    int64_t train_samples;  /* 0: 10,000 */
    int64_t test_samples;   /* 0: 5,000 */
    int32_t batch;          /* images of a vote or difference; 0: 64 */
    int32_t bins;           /* of a discretised code; 0: 20 */
    double prune_threshold; /* codes whose standard deviation is smaller are left out; 0: 0.05, negative: none */
    int32_t repeats; /* evaluations with seed, seed + 1, ...: numbers are means, "deviation.NAME" beside them; 0: 1 */
    int32_t vector_tokens;   /* encdiff_switch, a model's codes: ENCDIFF_ON takes its tokens, each reduced to its first
                                principal component over the set, in place of its scalars */
    int32_t reconstructions; /* a model: images, drawn by the seed, that are sampled back for metrics of images; 0: 64
                                where such a metric is named, else none */
    int32_t sampler_steps;   /* of deterministic DDIM for these; 0: 50 */
} encdiff_metrics_options;

/* Set every option to its default; struct_size is sizeof(encdiff_metrics_options) as the caller compiled it. */
ENCDIFF_API void encdiff_metrics_options_init(encdiff_metrics_options *options, size_t struct_size);

/* How many metrics this library has. */
ENCDIFF_API int32_t encdiff_metric_count(void);

/* Name of a metric, "factor_vae"; NULL when index is out of range. */
ENCDIFF_API const char *encdiff_metric_name(int32_t index);

/* A representation and its ground truth. Never grows. */
typedef struct encdiff_codes {
    const float *codes;     /* float[n][size][dim] */
    const int32_t *factors; /* int32_t[n][factor_count]: factor values or binary attributes */
    int64_t n;
    int32_t size;         /* codes of a sample */
    int32_t dim;          /* numbers of a code, 1 for scalars; vectors are reduced to their first principal component */
    int32_t factor_count; /* columns of factors */
    int32_t reserved;     /* 0 */
} encdiff_codes;

/**
 * Score anyone's representation; no model is needed.
 *
 * train    samples to draw and learn from
 * test     held-out samples of the same size, dim and factor_count; NULL: drawn from train
 * options  NULL for defaults
 * scores   out, to be freed with encdiff_scores_free()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_NOT_FOUND for an unknown metric; ENCDIFF_ERROR_CONFIG for settings;
 * ENCDIFF_ERROR_SHAPE when arrays do not fit or are too small for a metric; ENCDIFF_ERROR_NUMERIC for codes that are
 * not finite; ENCDIFF_ERROR_UNSUPPORTED for a metric that needs images; ENCDIFF_CANCELLED.
 * FactorVAE: Kim and Mnih 2018, section 4.
 */
ENCDIFF_API encdiff_status encdiff_metrics_from_codes(encdiff_context *context, const encdiff_codes *train,
                                                      const encdiff_codes *test, const encdiff_metrics_options *options,
                                                      encdiff_scores **scores, encdiff_progress progress, void *user);

/**
 * Score a model on a dataset: it is encoded once, shard by shard, then as encdiff_metrics_from_codes(); metrics of
 * images compare some of its images with what the model samples from their tokens. The weights are those that
 * encdiff_model_use_ema() chose.
 *
 * dataset  at the model's resolution; labelled, unless the metrics are of images alone
 *
 * Returns as encdiff_metrics_from_codes(); ENCDIFF_ERROR_SHAPE for another resolution; ENCDIFF_ERROR_UNSUPPORTED
 * without labels; ENCDIFF_ERROR_IO, ENCDIFF_ERROR_FORMAT from the data.
 */
ENCDIFF_API encdiff_status encdiff_metrics_from_model(encdiff_model *model, encdiff_dataset *dataset,
                                                      const encdiff_metrics_options *options, encdiff_scores **scores,
                                                      encdiff_progress progress, void *user);

/**
 * Compare images with reference images: "mse", "psnr", "ssim"; by name alone "lpips" and "fid", which need a user's
 * weights, .pth as torch.save() wrote it or .safetensors, in the settings:
 *
 *   {"lpips": {"weights": VGG16 with the heads, or VGG16 alone, "heads": the heads where they are apart}}
 *   {"fid": {"weights": Inception of 2015 in the layout of pt_inception-2015-12-05}}
 *
 * Two quirks of the published evaluation are chosen there too: {"ssim": {"published_axes": true}} has the window run
 * over width and channels, {"fid": {"published_range": true}} takes pixels of 0..255 for ones of 0..1.
 *
 * reference, images  of one n, height and width
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_SHAPE when sizes differ; ENCDIFF_ERROR_NOT_FOUND for an unknown metric;
 * ENCDIFF_ERROR_CONFIG; ENCDIFF_ERROR_NUMERIC for NaN pixels; ENCDIFF_ERROR_UNSUPPORTED for a metric that needs codes;
 * ENCDIFF_CANCELLED.
 */
ENCDIFF_API encdiff_status encdiff_metrics_from_images(encdiff_context *context, const encdiff_image_view *reference,
                                                       const encdiff_image_view *images,
                                                       const encdiff_metrics_options *options, encdiff_scores **scores,
                                                       encdiff_progress progress, void *user);

/**
 * The same for sets of images that are read piece by piece, so that they may be larger than memory. The i-th image is
 * compared with the i-th reference; FID, which compares sets, takes sets of any sizes.
 *
 * reference  NULL where FID alone is asked for and the settings name its statistics instead, an .npz with "mu" [2048]
 *            and "sigma" [2048][2048] as pytorch-fid saves it: {"fid": {"weights": ..., "statistics": ...}}
 *
 * Returns as encdiff_metrics_from_images(), ENCDIFF_ERROR_SHAPE when sets of other sizes are to be compared pair by
 * pair; ENCDIFF_ERROR_IO, ENCDIFF_ERROR_FORMAT from the data.
 */
ENCDIFF_API encdiff_status encdiff_metrics_from_image_sets(encdiff_context *context, encdiff_dataset *reference,
                                                           encdiff_dataset *images,
                                                           const encdiff_metrics_options *options,
                                                           encdiff_scores **scores, encdiff_progress progress,
                                                           void *user);

/**
 * Coordinates of vectors along their directions of largest variance, as pictures of codes want them.
 *
 * vectors     float[n][dim], dim at most 1024
 * components  out, float[n][count], largest variance first, each direction's largest loading positive
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_SHAPE unless 1 <= count <= dim; ENCDIFF_ERROR_NUMERIC; ENCDIFF_CANCELLED.
 */
ENCDIFF_API encdiff_status encdiff_metrics_principal_components(encdiff_context *context, const float *vectors,
                                                                int64_t n, int32_t dim, int32_t count,
                                                                float *components);

/* How many numbers the result has. */
ENCDIFF_API int32_t encdiff_scores_count(const encdiff_scores *scores);

/* Name of a number, "factor_vae.eval"; belongs to scores. NULL when index is out of range. */
ENCDIFF_API const char *encdiff_scores_name(const encdiff_scores *scores, int32_t index);

/* The number; NaN when index is out of range. */
ENCDIFF_API double encdiff_scores_value(const encdiff_scores *scores, int32_t index);

/* Look a number up by name. Returns ENCDIFF_OK; ENCDIFF_ERROR_NOT_FOUND, and value is as before. */
ENCDIFF_API encdiff_status encdiff_scores_find(const encdiff_scores *scores, const char *name, double *value);

/*
 * Everything as JSON, nested at the dots of the names, with matrices and the settings used; null for a number that is
 * infinite, as the PSNR of equal images is. Belongs to scores.
 */
ENCDIFF_API const char *encdiff_scores_json(const encdiff_scores *scores);

/*
 * Seconds that each part took, as JSON ({"encoding": 12.5, "dci": 4.1}): apart from the scores, which a seed
 * determines. Belongs to scores.
 */
ENCDIFF_API const char *encdiff_scores_timing_json(const encdiff_scores *scores);

/* Free a result. NULL is allowed. */
ENCDIFF_API void encdiff_scores_free(encdiff_scores *scores);

#ifdef __cplusplus
}
#endif
#endif
