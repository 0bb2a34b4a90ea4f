/* The U-Net: predicted noise, L1 loss, gradients, and the attention maps by size. */
#include <stdio.h>

#include "parity.h"

typedef struct unet {
    ed_config config;
    int size;
    ed_value x, t, tokens, target, weight; /* weight: of an image's loss in the gradient */
    ed_value out, loss, grad_x, grad_tokens;
    ed_map_list maps;
} unet;

static void build(ed_networks *networks, ed_graph *g, int64_t n, void *values)
{
    unet *v = values;
    const ed_config *c = &v->config;
    ed_shape latent = ED_SHAPE4(n, v->size, v->size, ed_config_latent_channels(c));
    ed_nn nn = ed_networks_nn(networks, g, ED_SET_UNET, true);
    v->x = ed_graph_input(g, "x", latent, ED_F32, true);
    v->t = ed_graph_input(g, "t", ED_SHAPE1(n), ED_F32, false);
    v->tokens = ed_graph_input(g, "tokens", ED_SHAPE3(n, c->encoder.latent_unit, c->encoder.context_dim), ED_F32, true);
    v->target = ed_graph_input(g, "target", latent, ED_F32, false);
    v->weight = ed_graph_input(g, "weight", ED_SHAPE1(n), ED_F32, false);
    v->maps.count = 0;
    v->out = ed_unet(&nn, c, v->x, v->t, v->tokens, &v->maps);
    v->loss = ed_difference_loss(g, v->out, v->target, ED_LOSS_L1);
    ed_graph_backward(g, 1, &v->loss, &v->weight);
    v->grad_x = ed_graph_grad(g, v->x);
    v->grad_tokens = ed_graph_grad(g, v->tokens);
    const ed_value kept[] = {v->out, v->loss, v->grad_x, v->grad_tokens};
    for (int i = 0; i < 4; i++) ed_graph_output(g, kept[i]);
}

/* The mean over the layers of one size, as the file has it. */
static encdiff_status compare_maps(parity_job *job, const unet *v, int size)
{
    ed_env *env = job->p->env;
    float *sum = NULL;
    int64_t count = 0;
    int layers = 0;
    encdiff_status status = ENCDIFF_OK;
    for (int i = 0; i < v->maps.count && status == ENCDIFF_OK; i++) {
        void *map = NULL;
        if (v->maps.sizes[i] != size) continue;
        status = parity_job_get(job, v->maps.maps[i], &map, &count);
        if (status == ENCDIFF_OK && !sum && !(sum = ed_alloc(env, (size_t)count, sizeof *sum)))
            status = ENCDIFF_ERROR_OUT_OF_MEMORY;
        for (int64_t k = 0; k < count && status == ENCDIFF_OK; k++) sum[k] += ((float *)map)[k];
        ed_free(env, map);
        layers++;
    }
    char name[32];
    snprintf(name, sizeof name, "attention.%d", size * size);
    for (int64_t k = 0; k < count && status == ENCDIFF_OK; k++) sum[k] /= (float)layers;
    if (status == ENCDIFF_OK) status = parity_compare(job->p, name, sum, count, FORWARD_BOUND);
    ed_free(env, sum);
    return status;
}

static encdiff_status compare(parity_job *job, const unet *v)
{
    double loss;
    ED_TRY(parity_job_put(job, v->x, "x"));
    ED_TRY(parity_job_put(job, v->t, "t"));
    ED_TRY(parity_job_put(job, v->tokens, "tokens"));
    ED_TRY(parity_job_put(job, v->target, "target"));
    ED_TRY(parity_job_fill(job, v->weight, 1.0 / (double)job->images));
    ED_TRY(parity_job_run(job));
    ED_TRY(parity_job_compare(job, v->out, "out", FORWARD_BOUND));
    ED_TRY(parity_job_mean(job, v->loss, &loss));
    ED_TRY(parity_compare_scalar(job->p, "loss", loss, FORWARD_BOUND));
    for (int size = v->size, level = 0; level < v->config.unet.channel_mult.count; level++, size /= 2)
        ED_TRY(compare_maps(job, v, size));
    ED_TRY(parity_job_compare(job, v->grad_x, "grad_x", GRADIENT_BOUND));
    ED_TRY(parity_job_compare(job, v->grad_tokens, "grad_tokens", GRADIENT_BOUND));
    return parity_job_compare_gradients(job, ED_SET_UNET);
}

encdiff_status parity_unet(parity *p)
{
    unet v = {0};
    ed_networks networks;
    parity_job job;
    const ed_st_tensor *x;
    ED_TRY(parity_find(p, "x", &x));
    v.size = (int)x->dim[2];
    ED_TRY(parity_config(p, &v.config));
    ED_TRY(parity_config_unet(p, p->config, &v.config));
    ED_TRY(parity_networks(p, &v.config, 1u << ED_SET_UNET, &networks));
    encdiff_status status = parity_job_create(p, &networks, x->dim[0], 1u << ED_SET_UNET, build, &v, &job);
    if (status == ENCDIFF_OK) {
        status = compare(&job, &v);
        parity_job_free(&job);
    }
    ed_networks_free(&networks);
    return status;
}
