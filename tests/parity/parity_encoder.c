/*
 * The concept encoder: evaluation with running statistics; training with those of the batch, the gradients, and the
 * running statistics afterwards. With two ranks the statistics are of both shards together.
 */
#include <math.h>

#include "parity.h"

typedef struct encoder {
    const ed_config *config;
    bool training;
    int64_t images_total;
    ed_value images, weight; /* loss = mean of tokens * weight */
    ed_value scalars, tokens;
} encoder;

static void build(ed_networks *networks, ed_graph *g, int64_t n, void *values)
{
    encoder *v = values;
    const ed_config *c = v->config;
    int size = c->image.resolution;
    ed_nn nn = ed_networks_nn(networks, g, ED_SET_ENCODER, v->training);
    v->images = ed_graph_input(g, "images", ED_SHAPE4(n, size, size, 3), ED_F32, false);
    v->weight = ed_graph_input(g, "weight", ED_SHAPE3(n, c->encoder.latent_unit, c->encoder.context_dim), ED_F32,
                               false);
    v->scalars = ed_concept_scalars(&nn, c, v->images);
    v->tokens = ed_concept_tokens(&nn, c, v->scalars);
    ed_graph_output(g, v->scalars);
    ed_graph_output(g, v->tokens);
    if (!v->training) return;
    int64_t items = v->images_total * c->encoder.latent_unit * c->encoder.context_dim;
    ed_value seed = ed_scale(g, v->weight, 1.0f / (float)items);
    ed_graph_backward(g, 1, &v->tokens, &seed);
}

static encdiff_status compare_evaluation(parity *p, ed_networks *networks, int64_t images)
{
    encoder v = {.config = &networks->config};
    parity_job job;
    ED_TRY(parity_job_create(p, networks, images, 0, build, &v, &job));
    encdiff_status status = parity_job_put(&job, v.images, "image");
    if (status == ENCDIFF_OK) status = parity_job_run(&job);
    if (status == ENCDIFF_OK) status = parity_job_compare(&job, v.scalars, "eval_scalars", FORWARD_BOUND);
    if (status == ENCDIFF_OK) status = parity_job_compare(&job, v.tokens, "eval_tokens", FORWARD_BOUND);
    parity_job_free(&job);
    return status;
}

/*
 * The loss is a sum of either sign that nearly cancels, up to 130 times smaller than its terms, which only serves to
 * make gradients: the error is taken relative to the terms, whose own relative error is the row of the tokens.
 */
static encdiff_status compare_loss(parity_job *job, const encoder *v)
{
    void *tokens = NULL;
    float *weight = NULL, *loss = NULL;
    int64_t count;
    double sum = 0, size = 0;
    encdiff_status status = parity_job_get(job, v->tokens, &tokens, &count);
    if (status == ENCDIFF_OK) status = parity_read(job->p, "loss_weight", &weight, NULL);
    if (status == ENCDIFF_OK) status = parity_read(job->p, "loss", &loss, NULL);
    for (int64_t i = 0; i < count && status == ENCDIFF_OK; i++) {
        double term = (double)((float *)tokens)[i] * (double)weight[i];
        sum += term;
        size += fabs(term);
    }
    if (status == ENCDIFF_OK)
        parity_row(job->p, "loss", fabs(sum - (double)loss[0] * (double)count) / size, FORWARD_BOUND);
    ed_free(job->p->env, loss);
    ed_free(job->p->env, weight);
    ed_free(job->p->env, tokens);
    return status;
}

static encdiff_status compare_training(parity_job *job, const encoder *v)
{
    const ed_params *params = &job->networks->sets[ED_SET_ENCODER];
    ED_TRY(parity_job_put(job, v->images, "image"));
    ED_TRY(parity_job_put(job, v->weight, "loss_weight"));
    ED_TRY(parity_job_run(job));
    ED_TRY(parity_job_compare(job, v->scalars, "train_scalars", FORWARD_BOUND));
    ED_TRY(parity_job_compare(job, v->tokens, "train_tokens", FORWARD_BOUND));
    ED_TRY(compare_loss(job, v));
    ED_TRY(parity_compare_values(job->p, params, params->values, "after.", "statistics", FORWARD_BOUND, 0));
    return parity_job_compare_gradients(job, ED_SET_ENCODER);
}

encdiff_status parity_encoder(parity *p)
{
    ed_config config;
    ed_networks networks;
    const ed_st_tensor *image;
    ED_TRY(parity_find(p, "image", &image));
    ED_TRY(parity_config(p, &config));
    ED_TRY(parity_config_encoder(p, p->config, &config));
    ED_TRY(parity_networks(p, &config, 1u << ED_SET_ENCODER, &networks));
    encoder v = {.config = &networks.config, .training = true, .images_total = image->dim[0]};
    parity_job job;
    encdiff_status status = compare_evaluation(p, &networks, image->dim[0]);
    if (status == ENCDIFF_OK)
        status = parity_job_create(p, &networks, image->dim[0], 1u << ED_SET_ENCODER, build, &v, &job);
    if (status == ENCDIFF_OK) {
        status = compare_training(&job, &v);
        parity_job_free(&job);
    }
    ed_networks_free(&networks);
    return status;
}
