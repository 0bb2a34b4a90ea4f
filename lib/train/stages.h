/*
 * train: the two training stages over a team of ranks.
 *
 *   optimizer.c           AdamW and moving averages over parameter sets
 *   stage_autoencoder.c   autoencoder and discriminator: losses and gradients of one batch
 *   stage_encdiff.c       encoder and U-Net: losses and gradients of one batch
 *   trainer.c             batches, schedules, updates, reports
 *   latents.c             latents of a batch, kept by index
 *   checkpoint.c          saving and exact resuming
 *   log.c pictures.c      loss curves, grids
 *
 * A stage has one set of graphs per rank, for that rank's shard of the batch. Called by api; calls model, diffusion,
 * data.
 */
#ifndef ED_STAGES_H
#define ED_STAGES_H

#include "diffusion/schedule.h"
#include "model/infer.h"
#include "train/optimizer.h"

#define ED_MAX_TERMS 10

/* Named losses of a batch; the first is the sum that is minimised. */
typedef struct ed_losses {
    int count;
    const char *names[ED_MAX_TERMS];
    double values[ED_MAX_TERMS];
    int64_t bad_image; /* the first image whose loss is not finite, or -1 */
} ed_losses;

/* ---------------------------------------------------------------- encoder and U-Net */

/* One batch, in the library's layout. */
typedef struct ed_encdiff_batch {
    int64_t n;
    const float *images;  /* [n, s, s, 3] in [-1, 1] */
    const float *latents; /* [n, h, w, c], scaled */
    const int32_t *timesteps;
    const float *noise;  /* as latents */
    uint64_t seed, step; /* of dropout */
    float weight;        /* of an image in the gradient: 1 / n */
} ed_encdiff_batch;

typedef struct ed_stage_encdiff ed_stage_encdiff;

/* The schedule is borrowed. */
encdiff_status ed_stage_encdiff_create(ed_team *team, ed_networks *networks, ed_optimizer *optimizer, int64_t batch,
                                       const ed_schedule *schedule, ed_stage_encdiff **out);
void ed_stage_encdiff_free(ed_stage_encdiff *stage);
/* Losses, and gradients added to the optimizer's buffers. */
encdiff_status ed_stage_encdiff_run(ed_stage_encdiff *stage, const ed_encdiff_batch *batch, ed_losses *losses);
/* The graphs of a shard of `count` images, for plans and benchmarks; to be freed, also on failure. */
encdiff_status ed_stage_encdiff_graphs(const ed_team *team, ed_networks *networks, int64_t count, ed_graph *encoder,
                                       ed_graph *unet);
/* The encoder's or the U-Net's execution on rank 0. */
ed_exec *ed_stage_encdiff_exec(ed_stage_encdiff *stage, bool encoder);

/* ---------------------------------------------------------------- autoencoder and discriminator */

typedef struct ed_autoencoder_batch {
    int64_t n;
    const float *images;
    const float *noise; /* kl: [n, h, w, c] of the posterior sample, else NULL */
    bool adversarial;   /* disc_start has been reached */
} ed_autoencoder_batch;

typedef struct ed_stage_autoencoder ed_stage_autoencoder;

/* `discriminator` is NULL where the configuration has none. */
encdiff_status ed_stage_autoencoder_create(ed_team *team, ed_networks *networks, ed_optimizer *generator,
                                           ed_optimizer *discriminator, int64_t batch, ed_stage_autoencoder **out);
void ed_stage_autoencoder_free(ed_stage_autoencoder *stage);
/* Gradients of the autoencoder; then, separately, those of the discriminator on a fresh reconstruction. */
encdiff_status ed_stage_autoencoder_generator(ed_stage_autoencoder *stage, const ed_autoencoder_batch *batch,
                                              ed_losses *losses);
encdiff_status ed_stage_autoencoder_discriminator(ed_stage_autoencoder *stage, const ed_autoencoder_batch *batch,
                                                  ed_losses *losses);
/* The generator's graph for a shard of `count` images, as above. */
encdiff_status ed_stage_autoencoder_graph(ed_env *env, ed_networks *networks, int64_t count, ed_graph *graph);
ed_exec *ed_stage_autoencoder_exec(ed_stage_autoencoder *stage);

#endif
