/*
 * Samplers: from noise to clean latents with a network that predicts noise, clean latents or v, and back.
 *
 * A sampler holds the coefficients of its steps and its work buffers; running it allocates nothing after the first run
 * with that many images. One thread at a time.
 */
#ifndef ED_SAMPLER_H
#define ED_SAMPLER_H

#include "diffusion/schedule.h"

typedef struct ed_sampler ed_sampler;

/* The numbers are those of encdiff_sampler_method. */
typedef enum ed_sampler_method {
    ED_SAMPLER_DDIM = 1,         /* Song et al. 2021, eq. 12, with the published choice of timesteps */
    ED_SAMPLER_DDPM = 2,         /* Ho et al. 2020, algorithm 2, with the posterior's variance; every timestep */
    ED_SAMPLER_PLMS = 3,         /* Liu et al. 2022, eq. 12, begun by one improved Euler step */
    ED_SAMPLER_DPM_SOLVER_PP = 4 /* Lu et al. 2022, arXiv 2211.01095, algorithm 2: second order, multistep */
} ed_sampler_method;

typedef struct ed_sampler_options {
    ed_sampler_method method;
    int steps;  /* as in ed_ddim_steps(); 0: 50 or, where the schedule has fewer, all. DDPM takes all: 0 or timesteps */
    double eta; /* DDIM: share of DDPM's noise, 0 to 1; 0 for the others */
    ed_parameterization parameterization;
    uint64_t seed;       /* of noise that is not given */
    int inversion_calls; /* predictions for each step of ed_sampler_invert(); 0: 2 */
    size_t elements;     /* floats of an image's latents, in C, H, W order */
} ed_sampler_options;

/* The network, for n images: `timesteps` float[n], all the same; `out` float[n][elements], what it predicts. */
typedef struct ed_denoiser {
    encdiff_status (*predict)(void *user, int n, const float *x, const float *timesteps, float *out);
    /* May be NULL. Changes the predicted clean latents before they are used: the codebook's nearest entries. */
    encdiff_status (*quantize)(void *user, int n, float *x0);
    void *user;
} ed_denoiser;

/* After each step, `done` of `total`; `x0` float[n][elements] is the step's prediction. Non-zero stops: CANCELLED. */
typedef int (*ed_sampler_progress)(void *user, int done, int total, int n, const float *x0);

/* ENCDIFF_ERROR_ARGUMENT for options out of range. The schedule is borrowed until the sampler is freed. */
encdiff_status ed_sampler_create(ed_env *env, const ed_schedule *schedule, const ed_sampler_options *options,
                                 ed_sampler **out);
void ed_sampler_free(ed_env *env, ed_sampler *sampler); /* NULL is fine */
/* Take the buffers for n images now. */
encdiff_status ed_sampler_reserve(ed_env *env, ed_sampler *sampler, int n);
int ed_sampler_step_count(const ed_sampler *sampler); /* updates of a run, and rows of step_noise */
void ed_sampler_set_seed(ed_sampler *sampler, uint64_t seed);
bool ed_sampler_is_deterministic(const ed_sampler *sampler); /* reads no step noise */

/* The images of one run. */
typedef struct ed_sampler_run_args {
    int n;
    uint64_t first_image;    /* number of image 0 among all that are drawn from the seed: batching changes nothing */
    const float *x_T;        /* float[n][elements], or NULL to draw it */
    const float *step_noise; /* float[step_count][n][elements] in the order taken, or NULL to draw it */
    float *x;                /* out, float[n][elements]; may be x_T */
    ed_sampler_progress progress; /* may be NULL */
    void *progress_user;
} ed_sampler_run_args;

/*
 * Sample. ENCDIFF_ERROR_NUMERIC when a step gives a number that is not finite; ENCDIFF_CANCELLED; what the denoiser
 * returns. On failure x is unspecified.
 */
encdiff_status ed_sampler_run(ed_env *env, ed_sampler *sampler, const ed_denoiser *denoiser,
                              const ed_sampler_run_args *args);
/*
 * The noise from which deterministic DDIM comes to given latents: x_T of the arguments is the latents, x the noise.
 * Each step of the sampler is inverted by fixed-point iteration, of which one prediction is the usual explicit
 * inversion. ENCDIFF_ERROR_UNSUPPORTED unless the sampler is DDIM with eta 0; otherwise as ed_sampler_run().
 */
encdiff_status ed_sampler_invert(ed_env *env, ed_sampler *sampler, const ed_denoiser *denoiser,
                                 const ed_sampler_run_args *args);
/* Starting noise as ed_sampler_run() draws it: images first_image ... of the seed. */
void ed_sampler_draw(const ed_sampler *sampler, uint64_t first_image, int n, float *x_T);

#endif
