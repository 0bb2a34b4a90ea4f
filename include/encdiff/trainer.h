/*
 * Training: first the autoencoder, then encoder and U-Net together on its frozen latents. Hyperparameters are in the
 * model's configuration (train_autoencoder, train_encdiff, data).
 */
#ifndef ENCDIFF_TRAINER_H
#define ENCDIFF_TRAINER_H

#include <encdiff/context.h>
#include <encdiff/dataset.h>
#include <encdiff/metrics.h>
#include <encdiff/model.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * One training stage of one model: optimiser, moving averages, position in the data. It changes the parameters of the
 * model it was made from, which stays usable (encode, sample, evaluate) between steps.
 *
 * Thread-safety: that of its context.
 */
typedef struct encdiff_trainer encdiff_trainer;

typedef enum encdiff_stage { ENCDIFF_STAGE_AUTOENCODER = 1, ENCDIFF_STAGE_ENCDIFF = 2 } encdiff_stage;

typedef struct encdiff_trainer_options {
    size_t struct_size;
    int32_t stage;               /* encdiff_stage; 0: ENCDIFF_STAGE_ENCDIFF */
    int32_t batch_size;          /* images a step; 0: the configuration's */
    uint64_t seed;               /* of data order, timesteps and noise */
    double learning_rate;        /* base rate, before warm-up; 0: the configuration's */
    int32_t ema;                 /* encdiff_switch: keep moving averages; default: the configuration's */
    int32_t cache_latents;       /* encdiff_switch: encode each image once; default: where they fit in memory */
    const char *lpips_weights;   /* VGG16 and LPIPS weights for the perceptual loss; NULL: the configuration's */
    const char *output;          /* folder for log, checkpoints and pictures; NULL: nothing is written */
    int64_t checkpoint_interval; /* steps between checkpoints in output; 0: the configuration's, -1: never */
    int64_t picture_interval;    /* steps between grids in output; 0: the configuration's, -1: never */
} encdiff_trainer_options;

/* Set every option to its default; struct_size is sizeof(encdiff_trainer_options) as the caller compiled it. */
ENCDIFF_API void encdiff_trainer_options_init(encdiff_trainer_options *options, size_t struct_size);

/**
 * Prepare training.
 *
 * dataset  at the model's resolution; NULL when only encdiff_trainer_step_given() will be used
 * options  NULL for defaults
 * trainer  out, to be freed with encdiff_trainer_free()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_SHAPE when the dataset's resolution differs or it is smaller than a batch;
 * ENCDIFF_ERROR_STATE when the weights are shared or another trainer holds the model; ENCDIFF_ERROR_UNSUPPORTED when
 * the stage has nothing to train; ENCDIFF_ERROR_CONFIG when the configuration wants the perceptual loss and no weights
 * are named; ENCDIFF_ERROR_NOT_FOUND, ENCDIFF_ERROR_FORMAT for the LPIPS weights; ENCDIFF_ERROR_IO for the folder.
 */
ENCDIFF_API encdiff_status encdiff_trainer_create(encdiff_model *model, encdiff_dataset *dataset,
                                                  const encdiff_trainer_options *options, encdiff_trainer **trainer);

/* Free the trainer; the model keeps what it has learnt. NULL is allowed. */
ENCDIFF_API void encdiff_trainer_free(encdiff_trainer *trainer);

/**
 * Where training is and the losses of a step. Set struct_size before passing one in; arrays belong to the trainer and
 * are valid until its next call.
 */
typedef struct encdiff_train_report {
    size_t struct_size;
    int64_t step; /* steps done */
    int64_t epoch;
    double learning_rate;     /* of this step, warm-up included */
    double images_per_second; /* recent mean */
    double loss;              /* the sum that is minimised; NaN before the first step */
    int32_t count;            /* of the terms below */
    int32_t reserved;
    const char *const *names; /* "simple"; "reconstruction", "codebook", "adversarial", "discriminator", ... */
    const double *values;     /* unweighted */
} encdiff_train_report;

/* Progress after each step: returns 0 to go on, anything else to stop. The report is valid during the callback. */
typedef int32_t (*encdiff_train_progress)(const encdiff_train_report *report, void *user);

/**
 * Take one training step on the next batch.
 *
 * report  out, or NULL
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_STATE without a dataset; ENCDIFF_ERROR_IO, ENCDIFF_ERROR_FORMAT from the data or
 * the output folder; ENCDIFF_ERROR_NUMERIC when a loss is not finite, the message naming step and term;
 * ENCDIFF_CANCELLED. On ENCDIFF_ERROR_NUMERIC the parameters are those before the step.
 * Autoencoder: Esser et al. 2021, section 3.1. EncDiff: Yang et al. 2024.
 */
ENCDIFF_API encdiff_status encdiff_trainer_step(encdiff_trainer *trainer, encdiff_train_report *report);

/**
 * Take one training step on given values, as a test or a replication needs.
 *
 * images     a batch of any size at the model's resolution
 * timesteps  encdiff stage: int32_t[n], 0 .. model's timesteps - 1; NULL: drawn from the seed. Autoencoder stage: NULL
 * noise      float[n][latent_channels][latent_height][latent_width], added to the latents (KL autoencoder stage: drawn
 *            from the posterior); NULL: drawn from the seed
 * report     out, or NULL
 *
 * Returns as encdiff_trainer_step(); ENCDIFF_ERROR_SHAPE; ENCDIFF_ERROR_ARGUMENT for a timestep out of range.
 */
ENCDIFF_API encdiff_status encdiff_trainer_step_given(encdiff_trainer *trainer, const encdiff_image_view *images,
                                                      const int32_t *timesteps, const float *noise,
                                                      encdiff_train_report *report);

/* The losses of encdiff_trainer_step_given() in evaluation mode, no step taken. Arguments and statuses as there. */
ENCDIFF_API encdiff_status encdiff_trainer_evaluate(encdiff_trainer *trainer, const encdiff_image_view *images,
                                                    const int32_t *timesteps, const float *noise,
                                                    encdiff_train_report *report);

/**
 * Take a number of training steps, with log, checkpoints and pictures as the options say.
 *
 * steps     how many; 0: up to the configuration's total
 * progress  called after each step, or NULL
 *
 * Returns as encdiff_trainer_step(). On ENCDIFF_CANCELLED the step in progress is finished or undone, and the trainer
 * can go on or be saved.
 */
ENCDIFF_API encdiff_status encdiff_trainer_run(encdiff_trainer *trainer, int64_t steps, encdiff_train_progress progress,
                                               void *user);

typedef struct encdiff_evaluation_options {
    size_t struct_size;
    encdiff_dataset *dataset; /* what is scored; NULL: what the trainer learns from */
    const encdiff_metrics_options
        *metrics;     /* NULL: defaults; metrics NULL: the configuration's data.evaluate_metrics */
    const char *best; /* "factor_vae.eval,mse": scores whose best checkpoint is kept; NULL: data.keep_best */
    int64_t interval; /* steps; 0 with epochs 0: data.evaluate_every and data.evaluate_every_epochs */
    int64_t epochs;   /* passes over what the trainer learns from; with interval, at both */
} encdiff_evaluation_options;

/* Set every option to its default; struct_size is sizeof(encdiff_evaluation_options) as the caller compiled it. */
ENCDIFF_API void encdiff_evaluation_options_init(encdiff_evaluation_options *options, size_t struct_size);

/**
 * Score the model while encdiff_trainer_run() trains it: every so many steps or epochs, and after the last
 * step. An epoch ends with the step that takes the last of its images.
 *
 * options  copied, with the texts in it; NULL: no longer
 *
 * The scores go to encdiff-scores.csv (step, score, value) and encdiff-scores.jsonl in the trainer's folder, and the
 * checkpoint that is best so far by a score of `best` to best-SCORE.safetensors: the least mse, lpips or fid, the
 * largest of any other. Training is not changed by it, and one that is resumed goes on with the best so far.
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_STATE for a trainer without a folder, or without any dataset;
 * ENCDIFF_ERROR_UNSUPPORTED in the autoencoder stage; ENCDIFF_ERROR_NOT_FOUND for an unknown metric or score, or a
 * score whose metric is not computed; ENCDIFF_ERROR_ARGUMENT for a negative interval, or none. encdiff_trainer_run()
 * may then return what encdiff_metrics_from_model() does.
 */
ENCDIFF_API encdiff_status encdiff_trainer_set_evaluation(encdiff_trainer *trainer,
                                                          const encdiff_evaluation_options *options);

/* The report of the last step, or of the state that was resumed. Returns ENCDIFF_OK. */
ENCDIFF_API encdiff_status encdiff_trainer_get_report(const encdiff_trainer *trainer, encdiff_train_report *report);

/* Change the base learning rate, which warm-up multiplies. Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT if negative. */
ENCDIFF_API encdiff_status encdiff_trainer_set_learning_rate(encdiff_trainer *trainer, double learning_rate);

/**
 * Save a checkpoint: model, optimiser, random state, position in the data. It is also a model file.
 *
 * folder  made where absent; the two newest checkpoints are kept, and no moment is without a whole one
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_IO.
 */
ENCDIFF_API encdiff_status encdiff_trainer_save(encdiff_trainer *trainer, const char *folder);

/**
 * Go on from a checkpoint exactly as if training had not stopped.
 *
 * path  a checkpoint, or a folder whose newest whole one is taken
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_NOT_FOUND when there is none; ENCDIFF_ERROR_IO; ENCDIFF_ERROR_FORMAT;
 * ENCDIFF_ERROR_CONFIG when it belongs to another configuration, stage or batch size. On failure nothing has changed.
 */
ENCDIFF_API encdiff_status encdiff_trainer_resume(encdiff_trainer *trainer, const char *path);

#ifdef __cplusplus
}
#endif
#endif
