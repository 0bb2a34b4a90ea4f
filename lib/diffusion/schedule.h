/* Noise schedules: x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps, where a_t is the product of 1 - beta up to t. */
#ifndef ED_SCHEDULE_H
#define ED_SCHEDULE_H

#include "model/config.h"

typedef struct ed_schedule {
    int timesteps;
    double *betas, *alphas_cumprod; /* [timesteps] */
    float *signal, *noise;          /* [timesteps]: sqrt(a_t) and sqrt(1 - a_t) */
} ed_schedule;

/*
 * "linear" is linear in sqrt(beta) and "sqrt_linear" in beta: the names are the literature's. `start` and `end` are of
 * the first three kinds, `cosine_s` of the last (Nichol and Dhariwal 2021, eq. 17). Sizes and ranges are the
 * configuration's; a schedule whose a_t leaves (0, 1) is ENCDIFF_ERROR_CONFIG.
 */
encdiff_status ed_schedule_init(ed_env *env, ed_schedule_kind kind, int timesteps, double start, double end,
                                double cosine_s, ed_schedule *out);
encdiff_status ed_schedule_from_config(ed_env *env, const ed_config *config, ed_schedule *out);
void ed_schedule_free(ed_env *env, ed_schedule *schedule); /* a zeroed one is fine */

/*
 * Noise clean latents: out[i] = signal[t[i]] x0[i] + noise[t[i]] eps[i] for n images of `elements` floats. `out` may be
 * x0 or eps. ENCDIFF_ERROR_ARGUMENT for a timestep that the schedule does not have.
 */
encdiff_status ed_q_sample(ed_env *env, const ed_schedule *schedule, int n, size_t elements, const int32_t *t,
                           const float *x0, const float *eps, float *out);
/* What parameterization "v" predicts: signal[t[i]] eps[i] - noise[t[i]] x0[i] (Salimans and Ho 2022, appendix D). */
encdiff_status ed_velocity(ed_env *env, const ed_schedule *schedule, int n, size_t elements, const int32_t *t,
                           const float *x0, const float *eps, float *out);

/*
 * The published "uniform" choice of timesteps for a run of `steps`: 1, 1 + k, 1 + 2k, ... below `timesteps`, where k is
 * timesteps / steps rounded down. When that does not divide there are more than `steps` of them, and one fewer at
 * steps == timesteps. Needs 1 <= steps <= timesteps and timesteps >= 2.
 */
int ed_ddim_step_count(int steps, int timesteps);
void ed_ddim_steps(int steps, int timesteps, int32_t *ascending);

#endif
