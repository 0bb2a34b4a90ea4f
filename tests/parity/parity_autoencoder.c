/* The VQ autoencoder (L1 + codebook loss, indices) and the KL autoencoder (L1 + weighted divergence). */
#include <stdio.h>

#include "parity.h"

typedef struct autoencoder {
    const ed_config *config;
    ed_value images, noise;                     /* noise: kl */
    ed_value weight, latent_weight;             /* of an image's losses in the gradient */
    ed_value encoded, indices, latent, decoded; /* encoded: latents before quantisation, or moments */
    ed_value loss, latent_loss;                 /* per image; the latter is the codebook loss, or KL */
} autoencoder;

static void build(ed_networks *networks, ed_graph *g, int64_t n, void *values)
{
    autoencoder *v = values;
    const ed_config *c = v->config;
    int size = c->image.resolution, z = ed_config_latent_size(c);
    bool kl = c->autoencoder.kind == ED_AE_KL;
    ed_value out[3] = {ED_NONE, ED_NONE, ED_NONE};
    ed_nn nn = ed_networks_nn(networks, g, ED_SET_FIRST_STAGE, true);
    v->images = ed_graph_input(g, "images", ED_SHAPE4(n, size, size, 3), ED_F32, false);
    v->noise = ed_graph_input(g, "noise", ED_SHAPE4(n, z, z, ed_config_latent_channels(c)), ED_F32, false);
    v->weight = ed_graph_input(g, "weight", ED_SHAPE1(n), ED_F32, false);
    v->latent_weight = ed_graph_input(g, "latent weight", ED_SHAPE1(n), ED_F32, false);
    v->encoded = ed_autoencoder_encode(&nn, c, v->images);
    if (kl)
        ed_gaussian_sample(g, v->encoded, v->noise, out);
    else
        ed_autoencoder_quantize(&nn, c, v->encoded, out);
    v->latent = out[0];
    v->indices = kl ? ED_NONE : out[1];
    v->latent_loss = kl ? out[1] : out[2];
    v->decoded = ed_autoencoder_decode(&nn, c, v->latent);
    v->loss = ed_difference_loss(g, v->decoded, v->images, ED_LOSS_L1);
    const ed_value kept[] = {v->encoded, v->latent, v->indices, v->latent_loss, v->decoded, v->loss};
    for (int i = 0; i < 6; i++) ed_graph_output(g, kept[i]);
    ed_graph_backward(g, 2, (const ed_value[]){v->loss, v->latent_loss},
                      (const ed_value[]){v->weight, v->latent_weight});
}

static encdiff_status run(parity_job *job, const autoencoder *v, double latent_weight)
{
    ED_TRY(parity_job_put(job, v->images, "image"));
    ED_TRY(parity_job_fill(job, v->weight, 1.0 / (double)job->images));
    ED_TRY(parity_job_fill(job, v->latent_weight, latent_weight / (double)job->images));
    return parity_job_run(job);
}

/* Loss = L1 + latent_weight * latent loss, and gradients. */
static encdiff_status compare_losses(parity_job *job, const autoencoder *v, double latent_weight)
{
    double l1, latent;
    ED_TRY(parity_job_compare(job, v->decoded, "reconstruction", FORWARD_BOUND));
    ED_TRY(parity_job_mean(job, v->loss, &l1));
    ED_TRY(parity_job_mean(job, v->latent_loss, &latent));
    ED_TRY(parity_compare_scalar(job->p, "loss", l1 + latent_weight * latent, FORWARD_BOUND));
    return parity_job_compare_gradients(job, ED_SET_FIRST_STAGE);
}

/* ---------------------------------------------------------------- indices */

/* What decides a tie: our latents in NCHW, our indices and the file's, and the codebook, which is changed. */
typedef struct ties {
    float *z;
    int32_t *ours;
    float *theirs;
    float *codes;
    int64_t count, positions; /* of all images; of one */
    int channels;
    int64_t wrong, tied; /* indices that differ for a reason or for none */
} ties;

static float component(const ties *t, int64_t at, int c)
{
    return t->z[(at / t->positions * t->channels + c) * t->positions + at % t->positions];
}

static double distance(const ties *t, int64_t at, const float *code)
{
    double sum = 0;
    for (int c = 0; c < t->channels; c++) {
        double off = (double)component(t, at, c) - (double)code[c];
        sum += off * off;
    }
    return sum;
}

static void move_code(const ties *t, int64_t at, float *code, double step)
{
    for (int c = 0; c < t->channels; c++) code[c] += (float)(step * ((double)component(t, at, c) - (double)code[c]));
}

/*
 * Two codes that are equally near, but for rounding: everything behind the quantiser depends on which is taken. So the
 * file's is moved towards the latent, and ours away from it, by as little as makes the file's the nearer one here too.
 */
#define MARGIN 1e-6 /* between the two squared distances afterwards */

static void settle(ties *t, int64_t at)
{
    float *ours = t->codes + (int64_t)t->ours[at] * t->channels,
          *theirs = t->codes + (int64_t)t->theirs[at] * t->channels;
    double mine = distance(t, at, ours), wanted = distance(t, at, theirs);
    if (!(wanted - mine <= TIE_BOUND)) {
        t->wrong++;
        return;
    }
    t->tied++;
    double step = (wanted - mine + MARGIN) / (2 * (wanted + mine) + 1e-12);
    move_code(t, at, theirs, step);
    move_code(t, at, ours, -step);
}

static encdiff_status find_ties(parity_job *job, const autoencoder *v, ties *t)
{
    ed_params *params = &job->networks->sets[ED_SET_FIRST_STAGE];
    int codebook = ed_params_find(params, "first_stage_model.quantize.embedding.weight");
    void *z = NULL, *indices = NULL;
    int64_t z_count, theirs_count = 0;
    encdiff_status status = parity_job_get(job, v->encoded, &z, &z_count);
    t->z = z;
    if (status == ENCDIFF_OK) status = parity_job_get(job, v->indices, &indices, &t->count);
    t->ours = indices;
    if (status == ENCDIFF_OK) status = parity_read(job->p, "indices", &t->theirs, &theirs_count);
    if (status != ENCDIFF_OK) return status;
    if (theirs_count != t->count || codebook < 0)
        return ed_fail(job->p->env, ENCDIFF_ERROR_SHAPE, "%s: indices of another size", job->p->name);
    t->positions = t->count / job->images;
    t->channels = (int)(z_count / t->count);
    t->codes = params->values + params->items[codebook].offset;
    t->wrong = t->tied = 0;
    for (int64_t i = 0; i < t->count; i++)
        if (t->ours[i] != (int32_t)t->theirs[i]) settle(t, i);
    return ENCDIFF_OK;
}

static void free_ties(const parity_job *job, ties *t)
{
    ed_free(job->p->env, t->z);
    ed_free(job->p->env, t->ours);
    ed_free(job->p->env, t->theirs);
}

/* Run again with the codes as settle() left them. */
static encdiff_status run_settled(parity_job *job)
{
    ed_params *params = &job->networks->sets[ED_SET_FIRST_STAGE];
    params->version++;
    for (int r = 0; r < job->ranks; r++) ED_TRY(parity_job_bind(job, r, ED_SET_FIRST_STAGE));
    return parity_job_run(job);
}

/* Rows for latents and indices; afterwards the job has run with the file's indices, if all that differed were ties. */
static encdiff_status compare_indices(parity_job *job, const autoencoder *v)
{
    char quantity[64] = "indices that differ";
    ED_TRY(parity_job_compare(job, v->encoded, "latent", FORWARD_BOUND));
    for (int pass = 0; pass < 2; pass++) {
        ties t = {0};
        encdiff_status status = find_ties(job, v, &t);
        int64_t tied = t.tied, wrong = t.wrong;
        free_ties(job, &t);
        ED_TRY(status);
        if (pass == 0 && tied && !wrong) {
            snprintf(quantity, sizeof quantity, "indices that differ, %lld ties settled", (long long)tied);
            ED_TRY(run_settled(job));
            continue;
        }
        parity_row(job->p, quantity, (double)(wrong + tied), 0);
        break;
    }
    return ENCDIFF_OK;
}

static encdiff_status compare_vq(parity_job *job, const autoencoder *v)
{
    double codebook;
    ED_TRY(run(job, v, 1));
    ED_TRY(compare_indices(job, v));
    ED_TRY(parity_job_mean(job, v->latent_loss, &codebook));
    ED_TRY(parity_compare_scalar(job->p, "codebook_loss", codebook, FORWARD_BOUND));
    return compare_losses(job, v, 1);
}

/* ---------------------------------------------------------------- KL */

/* Moments are [mean, log variance] along the channels, which clamps to [-30, 20]. */
static encdiff_status compare_moments(parity_job *job, const autoencoder *v)
{
    void *data = NULL;
    int64_t count, item, half;
    encdiff_status status = parity_job_get(job, v->encoded, &data, &count);
    float *moments = data, *part = ed_alloc(job->p->env, (size_t)count / 2, sizeof *part);
    if (!part) status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    item = count / job->images;
    half = item / 2;
    for (int k = 0; k < 2 && status == ENCDIFF_OK; k++) {
        for (int64_t i = 0; i < count / 2; i++) {
            float x = moments[i / half * item + k * half + i % half];
            part[i] = k ? ED_MIN(ED_MAX(x, -30.0f), 20.0f) : x;
        }
        status = parity_compare(job->p, k ? "logvar" : "mean", part, count / 2, FORWARD_BOUND);
    }
    ed_free(job->p->env, part);
    ed_free(job->p->env, data);
    return status;
}

static encdiff_status compare_kl(parity_job *job, const autoencoder *v, double kl_weight)
{
    ED_TRY(parity_job_put(job, v->noise, "noise"));
    ED_TRY(run(job, v, kl_weight));
    ED_TRY(compare_moments(job, v));
    ED_TRY(parity_job_compare(job, v->latent, "latent", FORWARD_BOUND));
    ED_TRY(parity_job_compare(job, v->latent_loss, "kl", FORWARD_BOUND));
    return compare_losses(job, v, kl_weight);
}

/* ---------------------------------------------------------------- cases */

encdiff_status parity_autoencoder(parity *p)
{
    ed_config config;
    ed_networks networks;
    parity_job job;
    const ed_st_tensor *image;
    double kl_weight = 0;
    ED_TRY(parity_find(p, "image", &image));
    ED_TRY(parity_config(p, &config));
    ED_TRY(parity_config_autoencoder(p, p->config, &config));
    ED_TRY(ed_json_float(p->env, p->config, "kl_weight", 0, 1, &kl_weight));
    ED_TRY(parity_networks(p, &config, 1u << ED_SET_FIRST_STAGE, &networks));
    autoencoder v = {.config = &networks.config};
    encdiff_status status = parity_job_create(p, &networks, image->dim[0], 1u << ED_SET_FIRST_STAGE, build, &v, &job);
    if (status == ENCDIFF_OK) {
        bool kl = config.autoencoder.kind == ED_AE_KL;
        status = kl ? compare_kl(&job, &v, kl_weight) : compare_vq(&job, &v);
        parity_job_free(&job);
    }
    ed_networks_free(&networks);
    return status;
}
