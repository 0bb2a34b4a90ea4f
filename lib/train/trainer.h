/* Training of one stage: batches from a dataset, learning-rate schedule, updates, reports, log, pictures, checkpoints.
 */
#ifndef ED_TRAINER_H
#define ED_TRAINER_H

#include "data/data.h"
#include "data/loader.h"
#include "diffusion/schedule.h"
#include "train/stages.h"

typedef enum ed_stage { ED_STAGE_AUTOENCODER = 1, ED_STAGE_ENCDIFF = 2 } ed_stage;

typedef struct ed_trainer_options {
    ed_stage stage;
    int64_t batch; /* images of a batch; accumulated batches count separately */
    uint64_t seed;
    double learning_rate; /* base, before warm-up */
    bool ema;
    bool cache_latents;
    const char *output;                                 /* folder, or NULL */
    int64_t log_every, checkpoint_every, picture_every; /* steps; 0: never */
    int64_t evaluate_every, evaluate_epochs;            /* steps, and epochs, between calls of: */
    encdiff_status (*evaluate)(void *user);             /* or NULL; before the checkpoint of the step */
    void *evaluate_user;
} ed_trainer_options;

typedef struct ed_train_report {
    int64_t step, epoch;
    double learning_rate, images_per_second, wait_seconds; /* the last: waiting for data, of the last step */
    ed_losses losses;
} ed_train_report;

typedef int (*ed_train_progress)(const ed_train_report *report, void *user);

/* What a step changes before it is sure to succeed, with room for a copy; both in the backend's memory. */
typedef struct ed_guarded {
    ed_params *params; /* whose values these are; NULL: `live` is given */
    float *live, *copy;
    size_t count;
} ed_guarded;

#define ED_MAX_GUARDED 5

typedef struct ed_latent_cache ed_latent_cache;
typedef struct ed_train_log ed_train_log;

typedef struct ed_trainer {
    ed_env *env;
    ed_team *team;
    ed_networks *networks;
    ed_infer *infer;
    ed_dataset *dataset; /* may be NULL */
    ed_loader *loader;
    ed_trainer_options options;
    char *output;

    ed_optimizer *optimizer;     /* of the stage */
    ed_optimizer *discriminator; /* autoencoder stage, or NULL */
    ed_stage_encdiff *encdiff;
    ed_stage_autoencoder *autoencoder;
    int64_t stage_batch; /* images that the stage's graphs were built for */

    ed_schedule schedule;
    float *images, *latents, *noise;
    int32_t *timesteps;
    size_t capacity; /* images these have room for */
    ed_latent_cache *cache;

    int64_t step;     /* updates done */
    int64_t batches;  /* batches seen: the random numbers' step */
    uint64_t samples; /* images taken from the loader */
    ed_guarded guarded[ED_MAX_GUARDED];
    int guarded_count;
    ed_train_report report;
    ed_train_log *log;
} ed_trainer;

/* What a step works on when it is given: any of timesteps and noise may be NULL, to be drawn. Library layout. */
typedef struct ed_given {
    int64_t n;
    const float *images;
    const int32_t *timesteps;
    const float *noise;
} ed_given;

/* `infer` is the model's, used for latents and pictures. The dataset is retained. */
encdiff_status ed_trainer_create(ed_team *team, ed_networks *networks, ed_infer *infer, ed_dataset *dataset,
                                 const ed_trainer_options *options, ed_trainer **out);
void ed_trainer_free(ed_trainer *trainer);
/* One update: on the next batches, or on the given one. ENCDIFF_ERROR_NUMERIC leaves the parameters as they were. */
encdiff_status ed_trainer_step(ed_trainer *trainer, const ed_given *given);
/* Losses without an update, BatchNorm with its running statistics. */
encdiff_status ed_trainer_evaluate(ed_trainer *trainer, const ed_given *given, ed_train_report *report);
/* `steps` updates (0: up to the configuration's total), with log, pictures and checkpoints. */
encdiff_status ed_trainer_run(ed_trainer *trainer, int64_t steps, ed_train_progress progress, void *user);
double ed_trainer_learning_rate(const ed_trainer *trainer); /* of the next step, with warm-up */
/* Whether an evaluation follows the last step: a function of the counters alone, so the same after resuming. */
bool ed_trainer_evaluation_due(const ed_trainer *trainer);

/* checkpoint.c: `folder`/checkpoint-<step>.safetensors; the two newest are kept. */
encdiff_status ed_trainer_save(ed_trainer *trainer, const char *folder);
/* The same as a file of its own, which is no part of that order. */
encdiff_status ed_trainer_save_as(ed_trainer *trainer, const char *path);
/* A file, or a folder whose newest whole checkpoint is taken. On failure nothing has changed. */
encdiff_status ed_trainer_resume(ed_trainer *trainer, const char *path);

/* latents.c: latents of a batch, cached by dataset index where asked. */
encdiff_status ed_latent_cache_create(ed_env *env, int64_t images, size_t floats, ed_latent_cache **out);
void ed_latent_cache_clear(ed_latent_cache *cache); /* forget all; NULL is fine */
void ed_latent_cache_free(ed_env *env, ed_latent_cache *cache);
/* Fill trainer->latents for images in trainer->images; indices NULL: not cached. Sets the scale factor at the first
 * batch. */
encdiff_status ed_trainer_latents(ed_trainer *trainer, int64_t n, const int64_t *indices);

/* log.c: <stage>.csv and <stage>.jsonl, a row per logged step; rows after `step` are dropped on opening. */
const char *ed_stage_name(ed_stage stage); /* "autoencoder", "encdiff" */
encdiff_status ed_train_log_open(ed_env *env, const char *folder, ed_stage stage, int64_t step, ed_train_log **out);
encdiff_status ed_train_log_add(ed_env *env, ed_train_log *log, const ed_train_report *report);
void ed_train_log_close(ed_env *env, ed_train_log *log);

/* The step of a log's row, {"step":12,... or 12,...; -1 for a header. */
int64_t ed_log_row_step(const char *row);

/* score_log.c: <stage>-scores.csv and <stage>-scores.jsonl */
typedef struct ed_score {
    const char *name;
    double value;
} ed_score;
encdiff_status ed_score_log_clear(ed_env *env, const char *folder, ed_stage stage);
/* Adds an evaluation; rows of this and of later steps go first. */
encdiff_status ed_score_log_add(ed_env *env, const char *folder, ed_stage stage, int64_t step, const ed_score *scores,
                                size_t count);
/* The best value of a score before step `below`, NaN where there is none. */
encdiff_status ed_score_log_best(ed_env *env, const char *folder, ed_stage stage, int64_t below, const char *name,
                                 bool least, double *best);
encdiff_status ed_score_log_has(ed_env *env, const char *folder, ed_stage stage, int64_t step, bool *has);

/* pictures.c: reconstruction, swap and sample grids of the first images of the dataset. */
encdiff_status ed_trainer_pictures(ed_trainer *trainer, const char *folder);

#endif
