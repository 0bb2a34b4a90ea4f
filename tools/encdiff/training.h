/* training: the two stages one after the other, with checkpoints and going on after an interruption. */
#ifndef CLI_TRAINING_H
#define CLI_TRAINING_H

#include "cli.h"

typedef struct training {
    const char *config; /* complete JSON */
    encdiff_dataset *dataset;
    const char *out;         /* folder */
    const char *autoencoder; /* model whose autoencoder is taken where that stage does not run; NULL: out's */
    const char *lpips;
    uint64_t seed;
    bool autoencoder_stage, encdiff_stage;
    bool resume;
    encdiff_dataset *scored;    /* evaluated while training; NULL: what is learnt from */
    const char *score_settings; /* of its metrics, JSON; or NULL */
    uint64_t score_seed;
} training;

typedef struct stage_result {
    const char *name; /* "autoencoder", "encdiff"; NULL: the stage did not run */
    int64_t first_step, steps, batch;
    double loss, seconds, images_per_second;
} stage_result;

/* The configuration with --set, and --steps (0: not given) for both stages behind it. */
const char *training_config(cli *c, const char *config, const cli_texts *set, int64_t steps);
/* Whether the configuration's autoencoder has parameters to learn. */
bool training_has_autoencoder(const char *config);
/* The step of the newest checkpoint of a stage in a folder; -1: there is none. */
int64_t training_checkpoint(const char *folder, const char *stage);
/* Removes the checkpoints of a stage. */
void training_remove_checkpoints(cli *c, const char *folder, const char *stage);
/* Makes the folder and those above it. */
void training_make_folder(cli *c, const char *path);
/* The scores by which the configuration keeps the best checkpoint: step and value of each, as far as there is one. */
void training_report_best(cli *c, const training *t);
/* Whether the configuration asks for scores while training. */
bool training_evaluates(const char *config);
/* Seed from --seed, or else the configuration's data.seed. */
uint64_t training_seed(const cli *c, const char *config);

/*
 * Trains; out/model.safetensors is written at the end of each stage. When interrupted a checkpoint is saved and the
 * program ends. results: of both stages.
 */
encdiff_model *training_run(cli *c, const training *t, stage_result results[2]);

#endif
