/*
 * A denoiser whose best prediction is known in closed form: data that are normal with mean MEAN and deviation
 * DEVIATION. The probability-flow ODE keeps z = (x_t - sqrt(a) mu) / sqrt(a s^2 + 1 - a), and stochastic samplers must
 * arrive at the data's moments.
 */
#ifndef GAUSSIAN_H
#define GAUSSIAN_H

#include <stdlib.h>

#include "diffusion/diffusion.h"
#include "test.h"

typedef struct place {
    ed_memory memory;
    atomic_bool cancel;
    ed_env env;
} place;

static inline ed_env *place_init(place *p)
{
    memset(p, 0, sizeof *p);
    ed_memory_init(&p->memory, NULL);
    p->env = (ed_env){.memory = &p->memory, .cancel = &p->cancel};
    return &p->env;
}

static inline ed_schedule make_schedule(ed_env *env, ed_schedule_kind kind, int timesteps)
{
    ed_schedule schedule;
    CHECK_THAT(ed_schedule_init(env, kind, timesteps, 0.0015, 0.0155, 0.008, &schedule) == ENCDIFF_OK, "%s",
               env->message);
    return schedule;
}

#define MEAN 0.7
#define DEVIATION 0.4
#define PARAMETERIZATIONS 3

typedef struct gaussian {
    const ed_schedule *schedule;
    ed_parameterization parameterization;
    size_t elements;
    int calls, fail_at; /* fail_at: the call that returns a NaN; 0: none */
    ed_env *cancel_at_call_3;
} gaussian;

static inline encdiff_status best_prediction(void *user, int n, const float *x, const float *timesteps, float *out)
{
    gaussian *g = user;
    size_t count = (size_t)n * g->elements;
    double a = g->schedule->alphas_cumprod[(int)timesteps[n - 1]], variance = a * DEVIATION * DEVIATION + 1 - a;
    g->calls++;
    if (g->cancel_at_call_3 && g->calls == 3) atomic_store(g->cancel_at_call_3->cancel, true);
    for (size_t i = 0; i < count; i++) {
        double centred = (x[i] - sqrt(a) * MEAN) / variance;
        double eps = sqrt(1 - a) * centred, x0 = MEAN + sqrt(a) * DEVIATION * DEVIATION * centred;
        out[i] = (float)(g->parameterization == ED_PREDICT_EPS  ? eps
                         : g->parameterization == ED_PREDICT_X0 ? x0
                                                                : sqrt(a) * eps - sqrt(1 - a) * x0);
    }
    if (g->fail_at == g->calls) out[count - 1] = NAN;
    return ENCDIFF_OK;
}

enum { IMAGES = 3, ELEMENTS = 12, COUNT = IMAGES * ELEMENTS };

typedef struct bench {
    place place;
    ed_env *env;
    ed_schedule schedule;
    gaussian gaussian;
    ed_denoiser denoiser;
    ed_sampler *sampler;
} bench;

static inline bool bench_init(bench *b, ed_schedule_kind kind, ed_sampler_options options)
{
    b->env = place_init(&b->place);
    b->schedule = make_schedule(b->env, kind, 1000);
    b->gaussian = (gaussian){
        .schedule = &b->schedule, .parameterization = options.parameterization, .elements = options.elements};
    b->denoiser = (ed_denoiser){.predict = best_prediction, .user = &b->gaussian};
    return CHECK_THAT(ed_sampler_create(b->env, &b->schedule, &options, &b->sampler) == ENCDIFF_OK, "%s",
                      b->env->message);
}

static inline void bench_free(bench *b)
{
    ed_sampler_free(b->env, b->sampler);
    ed_schedule_free(b->env, &b->schedule);
    CHECK_EQUAL(atomic_load(&b->place.memory.in_use), 0);
}

#endif
