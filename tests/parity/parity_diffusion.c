/* Noise schedules and timesteps in double; DDIM from given noise with the U-Net. */
#include <math.h>
#include <stdio.h>

#include "diffusion/sampler.h"
#include "model/infer.h"
#include "parity.h"

/* ---------------------------------------------------------------- schedules */

static encdiff_status compare_f64(parity *p, const char *name, const double *ours, int64_t count)
{
    double *theirs = NULL;
    int64_t theirs_count = 0;
    encdiff_status status = parity_read_f64(p, name, &theirs, &theirs_count);
    if (status == ENCDIFF_OK && count != theirs_count)
        status = ed_fail(p->env, ENCDIFF_ERROR_SHAPE, "%s: %lld values", name, (long long)theirs_count);
    if (status == ENCDIFF_OK) parity_row(p, name, parity_error_f64(ours, theirs, count), SCHEDULE_BOUND);
    ed_free(p->env, theirs);
    return status;
}

static encdiff_status compare_schedule(parity *p, ed_schedule_kind kind, const char *name)
{
    double start = 0.0015, end = 0.0155;
    int steps = 1000;
    char betas[48], products[48];
    ed_schedule schedule = {0};
    snprintf(betas, sizeof betas, "betas.%s", name);
    snprintf(products, sizeof products, "alphas_cumprod.%s", name);
    ED_TRY(ed_json_float(p->env, p->config, "linear_start", 0, 1, &start));
    ED_TRY(ed_json_float(p->env, p->config, "linear_end", 0, 1, &end));
    ED_TRY(ed_json_int32(p->env, p->config, "steps", 1, 100000, &steps));
    ED_TRY(ed_schedule_init(p->env, kind, steps, start, end, 8e-3, &schedule));
    encdiff_status status = compare_f64(p, betas, schedule.betas, steps);
    if (status == ENCDIFF_OK) status = compare_f64(p, products, schedule.alphas_cumprod, steps);
    ed_schedule_free(p->env, &schedule);
    return status;
}

static encdiff_status compare_timesteps(parity *p)
{
    float *theirs = NULL;
    int64_t theirs_count = 0;
    int32_t ours[1000];
    int count = ed_ddim_step_count(50, 1000), wrong = 0;
    ed_ddim_steps(50, 1000, ours);
    encdiff_status status = parity_read(p, "ddim_steps.50", &theirs, &theirs_count);
    for (int i = 0; i < count && i < theirs_count; i++) wrong += ours[i] != (int32_t)theirs[i];
    if (status == ENCDIFF_OK) parity_row(p, "ddim_steps.50", wrong + fabs((double)count - (double)theirs_count), 0);
    ed_free(p->env, theirs);
    return status;
}

encdiff_status parity_schedules(parity *p)
{
    ED_TRY(compare_schedule(p, ED_SCHEDULE_LINEAR, "linear"));
    ED_TRY(compare_schedule(p, ED_SCHEDULE_SQRT_LINEAR, "sqrt_linear"));
    ED_TRY(compare_schedule(p, ED_SCHEDULE_SQRT, "sqrt"));
    ED_TRY(compare_schedule(p, ED_SCHEDULE_COSINE, "cosine"));
    return compare_timesteps(p);
}

/* ---------------------------------------------------------------- DDIM */

typedef struct ddim {
    ed_networks networks;
    ed_team *team;
    ed_infer *infer;
    ed_schedule schedule;
    ed_sampler *sampler;
    int64_t n, channels, size;
    float *x_T, *tokens, *noise, *x, *inside, *predicted; /* the last two in NHWC */
} ddim;

static encdiff_status predict(void *user, int n, const float *x, const float *timesteps, float *out)
{
    ddim *d = user;
    ed_nchw_to_nhwc(x, d->inside, n, d->channels, d->size, d->size);
    ED_TRY(ed_infer_run(d->infer, ED_INFER_PREDICT, n, (const float *const[]){d->inside, timesteps, d->tokens},
                        &d->predicted));
    ed_nhwc_to_nchw(d->predicted, out, n, d->channels, d->size, d->size);
    return ENCDIFF_OK;
}

static void free_ddim(parity *p, ddim *d)
{
    float *const owned[] = {d->x_T, d->tokens, d->noise, d->x, d->inside, d->predicted};
    for (size_t i = 0; i < ED_COUNT(owned); i++) ed_free(p->env, owned[i]);
    ed_sampler_free(p->env, d->sampler);
    ed_schedule_free(p->env, &d->schedule);
    ed_infer_free(d->infer);
    ed_team_free(d->team);
    ed_networks_free(&d->networks);
}

/* Averages of 2x2 blocks as latents make a model whose latents have the file's size; only the U-Net is used. */
static encdiff_status create_ddim(parity *p, ddim *d)
{
    ed_config config;
    const ed_st_tensor *x;
    int64_t count;
    ED_TRY(parity_find(p, "x_T", &x));
    d->n = x->dim[0];
    d->channels = x->dim[1];
    d->size = x->dim[2];
    ED_TRY(parity_config(p, &config));
    ED_TRY(parity_config_unet(p, p->config, &config));
    config.autoencoder.kind = ED_AE_AVERAGE;
    config.autoencoder.factor = 2;
    config.image.resolution = 2 * (int)d->size;
    ED_TRY(parity_networks(p, &config, 1u << ED_SET_UNET, &d->networks));
    ED_TRY(ed_team_create(p->env, p->backend, p->ranks, &d->team));
    ED_TRY(ed_infer_create(d->team, &d->networks, &d->infer));
    ED_TRY(ed_schedule_from_config(p->env, &config, &d->schedule));
    ED_TRY(parity_read(p, "x_T", &d->x_T, &count));
    ED_TRY(parity_read(p, "tokens", &d->tokens, NULL));
    ED_TRY(parity_read(p, "noise", &d->noise, NULL));
    d->x = ed_alloc(p->env, (size_t)count, sizeof *d->x);
    d->inside = ed_alloc(p->env, (size_t)count, sizeof *d->inside);
    d->predicted = ed_alloc(p->env, (size_t)count, sizeof *d->predicted);
    return d->x && d->inside && d->predicted ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

static encdiff_status compare_run(parity *p, ddim *d, int steps, double eta, const char *name)
{
    size_t elements = (size_t)(d->channels * d->size * d->size);
    ed_sampler_options options = {.method = ED_SAMPLER_DDIM, .steps = steps, .eta = eta, .elements = elements};
    ed_denoiser denoiser = {.predict = predict, .user = d};
    ed_sampler_run_args args = {.n = (int)d->n, .x_T = d->x_T, .step_noise = d->noise, .x = d->x};
    ed_sampler_free(p->env, d->sampler);
    d->sampler = NULL;
    ED_TRY(ed_sampler_create(p->env, &d->schedule, &options, &d->sampler));
    ED_TRY(ed_sampler_run(p->env, d->sampler, &denoiser, &args));
    return parity_compare(p, name, d->x, d->n * (int64_t)elements, SAMPLE_BOUND);
}

encdiff_status parity_ddim(parity *p)
{
    ddim d = {0};
    encdiff_status status = create_ddim(p, &d);
    if (status == ENCDIFF_OK) status = compare_run(p, &d, 10, 0, "steps10_eta0");
    if (status == ENCDIFF_OK) status = compare_run(p, &d, 5, 1, "steps5_eta1");
    free_ddim(p, &d);
    return status;
}
