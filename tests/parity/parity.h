/*
 * parity: networks, losses, gradients, schedules, the sampler and training against golden numbers that an independent
 * PyTorch program wrote.
 *
 *   parity.c              the cases, the ways to compute them, the table
 *   parity_fixture.c      a golden file: its tensors, its configuration, relative errors
 *   parity_params.c       parameters as functions of their names; gradients by name
 *   parity_job.c          a graph on the shards of a batch, one rank each
 *   parity_unet.c parity_encoder.c parity_autoencoder.c parity_losses.c parity_diffusion.c parity_train.c   the cases
 *
 * The files are in the folder ENCDIFF_FIXTURES, or in tests/data/fixtures. They hold inputs, outputs and gradients in
 * PyTorch's layout, and the configuration and seed as metadata; parameters are made from name, shape and seed alike on
 * both sides. Errors are relative: |ours - theirs| / |theirs| in the Euclidean norm over a whole tensor.
 */
#ifndef PARITY_H
#define PARITY_H

#include "graph/team.h"
#include "io/safetensors.h"
#include "model/networks.h"

/* f32 has 6e-8; sums over some hundred layers lose one to two digits of that, and gradients another. */
#define FORWARD_BOUND 1e-5
#define GRADIENT_BOUND 1e-4
#define TRAINED_BOUND 1e-4   /* parameters after some steps */
#define SAMPLE_BOUND 1e-4    /* latents after some steps of the sampler */
#define SCHEDULE_BOUND 1e-12 /* computed in double on both sides */
#define TIE_BOUND 1e-5       /* squared distances of a latent to two codes that may be taken for one another */

typedef struct parity {
    ed_env *env;
    const char *name; /* of the case */
    ed_safetensors *file;
    ed_json *config;
    uint64_t seed;
    ed_backend *backend;
    int ranks;
    char way[32];          /* backend and ranks, for the table */
    int moved;             /* 0: inputs as they are; else which random move, see parity_move() */
    int rows, failed_rows; /* of this try */
    int failures;          /* of the case */
    ed_text table;
} parity;

typedef encdiff_status parity_case(parity *p);
parity_case parity_unet, parity_encoder, parity_autoencoder, parity_discriminator, parity_lpips, parity_vqgan_generator,
    parity_ddim, parity_schedules, parity_train;

/* ---------------------------------------------------------------- parity.c */

/* A line of the table; an error that is not at most `bound`, NaN too, is a failure. */
void parity_row(parity *p, const char *quantity, double error, double bound);

/* ---------------------------------------------------------------- fixtures */

encdiff_status parity_open(parity *p, const char *path);
void parity_close(parity *p);
/* ENCDIFF_ERROR_NOT_FOUND when the file has no such tensor. */
encdiff_status parity_find(const parity *p, const char *name, const ed_st_tensor **out);
/* The tensor as f32 (f64), owned by the caller; `count` may be NULL. */
encdiff_status parity_read(const parity *p, const char *name, float **out, int64_t *count);
encdiff_status parity_read_f64(const parity *p, const char *name, double **out, int64_t *count);
/* Other images within rounding: each factor is 1 +- PARITY_MOVE; nothing is done when p->moved is 0. */
#define PARITY_MOVE 3e-7
void parity_move(const parity *p, float *images, int64_t count);
/* |ours - theirs| / |theirs|; the first factor alone where theirs is zero. */
double parity_error(const float *ours, const float *theirs, int64_t count);
double parity_error_f64(const double *ours, const double *theirs, int64_t count);
/* A row for `ours` in PyTorch's layout against the tensor `name`. */
encdiff_status parity_compare(parity *p, const char *name, const float *ours, int64_t count, double bound);

/* The released configuration, changed by the keys of the case's own: one function per network. */
encdiff_status parity_config(const parity *p, ed_config *config);
encdiff_status parity_config_unet(const parity *p, ed_json *json, ed_config *config);
encdiff_status parity_config_encoder(const parity *p, ed_json *json, ed_config *config);
encdiff_status parity_config_autoencoder(const parity *p, ed_json *json, ed_config *config);
encdiff_status parity_config_discriminator(const parity *p, ed_json *json, ed_config *config);

/* ---------------------------------------------------------------- parameters */

/* The networks with the parameters of the sets in the mask (1 << ED_SET_UNET, ...) made from their names. */
encdiff_status parity_networks(const parity *p, const ed_config *config, uint32_t sets, ed_networks *out);
/* Gradients, summed over `parts` buffers of the backend laid out like the values, against the file's tensors
 * "grad.NAME". */
encdiff_status parity_compare_gradients(parity *p, const ed_params *params, float *const *parts, int part_count);
/*
 * Values, or a buffer laid out like them, against the file's tensors whose names are `prefix` before the parameter's;
 * `what` names them in the table. An element of a running mean may be off by `drift` besides.
 */
encdiff_status parity_compare_values(parity *p, const ed_params *params, const float *values, const char *prefix,
                                     const char *what, double bound, double drift);

/* ---------------------------------------------------------------- jobs */

#define PARITY_MAX_RANKS 2

typedef struct parity_shard {
    int64_t first, count; /* of the batch's images */
    ed_graph graph;
    ed_exec *exec;
    float *grads[ED_SET_COUNT]; /* of the trained sets */
} parity_shard;

typedef struct parity_job {
    parity *p;
    ed_networks *networks;
    ed_team *team;
    int64_t images;
    int ranks;
    parity_shard shards[PARITY_MAX_RANKS];
} parity_job;

/* Builds the graph of n images and notes its values, which are the same numbers for every shard. */
typedef void parity_build(ed_networks *networks, ed_graph *graph, int64_t n, void *values);

/* On failure nothing is owned. `trained` is the mask of sets that get gradients. */
encdiff_status parity_job_create(parity *p, ed_networks *networks, int64_t images, uint32_t trained,
                                 parity_build *build, void *values, parity_job *out);
void parity_job_free(parity_job *job);
/* Values and gradients of a set where the backend has them, after a change of the values. */
encdiff_status parity_job_bind(parity_job *job, int rank, ed_set set);
/* Give an input the tensor `name`, each shard its images; rank 4 is turned from NCHW, and moved. */
encdiff_status parity_job_put(parity_job *job, ed_value input, const char *name);
encdiff_status parity_job_fill(parity_job *job, ed_value input, double x);
/* Run every shard from zero gradients. */
encdiff_status parity_job_run(parity_job *job);
/* All images of an output, in PyTorch's layout, owned by the caller; i32 as it is. */
encdiff_status parity_job_get(parity_job *job, ed_value output, void **out, int64_t *count);
/* The mean of a loss per image. */
encdiff_status parity_job_mean(parity_job *job, ed_value output, double *mean);
encdiff_status parity_job_compare(parity_job *job, ed_value output, const char *name, double bound);
/* A scalar against the tensor `name` of one element. */
encdiff_status parity_compare_scalar(parity *p, const char *name, double ours, double bound);
encdiff_status parity_job_compare_gradients(parity_job *job, ed_set set);

#endif
