/* The discriminator's loss, the LPIPS distance, and the generator's step with its adaptive adversarial weight. */
#include "parity.h"
#include "train/stages.h"

/* ---------------------------------------------------------------- discriminator */

typedef struct discriminator {
    int size;
    ed_value real, fake, weight;
    ed_value logits[2], losses[2]; /* real, fake */
} discriminator;

static void build_discriminator(ed_networks *networks, ed_graph *g, int64_t n, void *values)
{
    discriminator *v = values;
    const ed_config *c = &networks->config;
    int ndf = c->train_autoencoder.disc_ndf, layers = c->train_autoencoder.disc_num_layers;
    ed_shape image = ED_SHAPE4(n, v->size, v->size, 3);
    ed_nn nn = ed_networks_nn(networks, g, ED_SET_DISCRIMINATOR, true);
    v->real = ed_graph_input(g, "real", image, ED_F32, false);
    v->fake = ed_graph_input(g, "fake", image, ED_F32, false);
    v->weight = ed_graph_input(g, "weight", ED_SHAPE1(n), ED_F32, false);
    v->logits[0] = ed_discriminator(&nn, ndf, layers, v->real);
    v->logits[1] = ed_discriminator(&nn, ndf, layers, v->fake);
    v->losses[0] = ed_mean_loss(g, v->logits[0], ED_MEAN_HINGE_REAL);
    v->losses[1] = ed_mean_loss(g, v->logits[1], ED_MEAN_HINGE_FAKE);
    for (int i = 0; i < 2; i++) {
        ed_graph_output(g, v->logits[i]);
        ed_graph_output(g, v->losses[i]);
    }
    ed_graph_backward(g, 2, v->losses, (const ed_value[]){v->weight, v->weight});
}

static encdiff_status compare_discriminator(parity_job *job, const discriminator *v)
{
    double losses[2];
    ED_TRY(parity_job_put(job, v->real, "real"));
    ED_TRY(parity_job_put(job, v->fake, "fake"));
    ED_TRY(parity_job_fill(job, v->weight, 0.5 / (double)job->images));
    ED_TRY(parity_job_run(job));
    ED_TRY(parity_job_compare(job, v->logits[0], "logits_real", FORWARD_BOUND));
    ED_TRY(parity_job_compare(job, v->logits[1], "logits_fake", FORWARD_BOUND));
    for (int i = 0; i < 2; i++) ED_TRY(parity_job_mean(job, v->losses[i], &losses[i]));
    ED_TRY(parity_compare_scalar(job->p, "loss", 0.5 * (losses[0] + losses[1]), FORWARD_BOUND));
    return parity_job_compare_gradients(job, ED_SET_DISCRIMINATOR);
}

encdiff_status parity_discriminator(parity *p)
{
    ed_config config;
    ed_networks networks;
    parity_job job;
    const ed_st_tensor *real;
    ED_TRY(parity_find(p, "real", &real));
    discriminator v = {.size = (int)real->dim[2]};
    ED_TRY(parity_config(p, &config));
    ED_TRY(parity_config_discriminator(p, p->config, &config));
    ED_TRY(parity_networks(p, &config, 1u << ED_SET_DISCRIMINATOR, &networks));
    encdiff_status status = parity_job_create(p, &networks, real->dim[0], 1u << ED_SET_DISCRIMINATOR,
                                              build_discriminator, &v, &job);
    if (status == ENCDIFF_OK) {
        status = compare_discriminator(&job, &v);
        parity_job_free(&job);
    }
    ed_networks_free(&networks);
    return status;
}

/* ---------------------------------------------------------------- LPIPS */

typedef struct lpips {
    int size;
    ed_value x, y, weight, distance, grad_y;
} lpips;

static void build_lpips(ed_networks *networks, ed_graph *g, int64_t n, void *values)
{
    lpips *v = values;
    ed_shape image = ED_SHAPE4(n, v->size, v->size, 3);
    ed_nn nn = ed_networks_nn(networks, g, ED_SET_LPIPS, false);
    v->x = ed_graph_input(g, "x", image, ED_F32, false);
    v->y = ed_graph_input(g, "y", image, ED_F32, true);
    v->weight = ed_graph_input(g, "weight", ED_SHAPE1(n), ED_F32, false);
    v->distance = ed_lpips(&nn, v->x, v->y);
    ed_graph_backward(g, 1, &v->distance, &v->weight);
    v->grad_y = ed_graph_grad(g, v->y);
    ed_graph_output(g, v->distance);
    ed_graph_output(g, v->grad_y);
}

static encdiff_status compare_lpips(parity_job *job, const lpips *v)
{
    ED_TRY(parity_job_put(job, v->x, "image_x"));
    ED_TRY(parity_job_put(job, v->y, "image_y"));
    ED_TRY(parity_job_fill(job, v->weight, 1.0 / (double)job->images));
    ED_TRY(parity_job_run(job));
    ED_TRY(parity_job_compare(job, v->distance, "distance", FORWARD_BOUND));
    return parity_job_compare(job, v->grad_y, "grad_y", GRADIENT_BOUND);
}

encdiff_status parity_lpips(parity *p)
{
    ed_config config;
    ed_networks networks;
    parity_job job;
    const ed_st_tensor *image;
    ED_TRY(parity_find(p, "image_x", &image));
    lpips v = {.size = (int)image->dim[2]};
    ED_TRY(parity_config(p, &config));
    ED_TRY(parity_networks(p, &config, 1u << ED_SET_LPIPS, &networks));
    encdiff_status status = parity_job_create(p, &networks, image->dim[0], 0, build_lpips, &v, &job);
    if (status == ENCDIFF_OK) {
        status = compare_lpips(&job, &v);
        parity_job_free(&job);
    }
    ed_networks_free(&networks);
    return status;
}

/* ---------------------------------------------------------------- the generator, as training runs it */

typedef struct generator {
    ed_networks networks;
    ed_team *team;
    ed_optimizer *autoencoder, *discriminator;
    ed_stage_autoencoder *stage;
    ed_infer *infer;
    float *images;  /* NHWC */
    float *outputs; /* NHWC, then NCHW behind */
    int64_t n, size;
} generator;

static void free_generator(parity *p, generator *g)
{
    ed_free(p->env, g->images);
    ed_free(p->env, g->outputs);
    ed_infer_free(g->infer);
    ed_stage_autoencoder_free(g->stage);
    ed_optimizer_free(g->discriminator);
    ed_optimizer_free(g->autoencoder);
    ed_team_free(g->team);
    ed_networks_free(&g->networks);
}

static encdiff_status read_images(parity *p, generator *g)
{
    float *images = NULL;
    int64_t count = 0;
    encdiff_status status = parity_read(p, "image", &images, &count);
    if (status == ENCDIFF_OK) {
        g->images = ed_alloc(p->env, (size_t)count, sizeof *g->images);
        g->outputs = ed_alloc(p->env, 3 * (size_t)count, sizeof *g->outputs);
        status = g->images && g->outputs ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    if (status == ENCDIFF_OK) parity_move(p, images, count);
    if (status == ENCDIFF_OK) ed_nchw_to_nhwc(images, g->images, g->n, 3, g->size, g->size);
    ed_free(p->env, images);
    return status;
}

static encdiff_status create_generator(parity *p, generator *g)
{
    ed_config config;
    const ed_st_tensor *image;
    ED_TRY(parity_find(p, "image", &image));
    g->n = image->dim[0];
    g->size = image->dim[2];
    ED_TRY(parity_config(p, &config));
    ED_TRY(parity_config_autoencoder(p, p->config, &config));
    ED_TRY(parity_config_discriminator(p, p->config, &config));
    ED_TRY(parity_networks(p, &config, 1u << ED_SET_FIRST_STAGE | 1u << ED_SET_DISCRIMINATOR, &g->networks));
    ed_params *sets = g->networks.sets, *autoencoder = &sets[ED_SET_FIRST_STAGE], *critic = &sets[ED_SET_DISCRIMINATOR];
    ED_TRY(ed_team_create(p->env, p->backend, p->ranks, &g->team));
    ED_TRY(ed_optimizer_create(g->team, 1, &autoencoder, NULL, &g->autoencoder));
    ED_TRY(ed_optimizer_create(g->team, 1, &critic, NULL, &g->discriminator));
    ED_TRY(ed_stage_autoencoder_create(g->team, &g->networks, g->autoencoder, g->discriminator, g->n, &g->stage));
    ED_TRY(ed_infer_create(g->team, &g->networks, &g->infer));
    return read_images(p, g);
}

static encdiff_status compare_reconstruction(parity *p, generator *g)
{
    int64_t count = g->n * 3 * g->size * g->size;
    float *latents = g->outputs, *decoded = g->outputs + count, *turned = g->outputs + 2 * count;
    ED_TRY(ed_infer_run(g->infer, ED_INFER_LATENTS, g->n, (const float *const[]){g->images}, &latents));
    ED_TRY(ed_infer_run(g->infer, ED_INFER_DECODE_QUANTIZED, g->n, (const float *const[]){latents}, &decoded));
    ed_nhwc_to_nchw(decoded, turned, g->n, 3, g->size, g->size);
    return parity_compare(p, "reconstruction", turned, count, FORWARD_BOUND);
}

static encdiff_status compare_generator(parity *p, generator *g)
{
    static const struct {
        const char *ours, *theirs;
    } terms[] = {{"loss", "loss"},
                 {"reconstruction", "nll_loss"},
                 {"codebook", "codebook_loss"},
                 {"adversarial", "g_loss"},
                 {"adaptive_weight", "d_weight"}};
    ed_autoencoder_batch batch = {.n = g->n, .images = g->images, .adversarial = true};
    ed_losses losses;
    ED_TRY(compare_reconstruction(p, g));
    ED_TRY(ed_stage_autoencoder_generator(g->stage, &batch, &losses));
    for (size_t t = 0; t < ED_COUNT(terms); t++)
        for (int i = 0; i < losses.count; i++)
            if (strcmp(losses.names[i], terms[t].ours) == 0)
                ED_TRY(parity_compare_scalar(p, terms[t].theirs, losses.values[i], FORWARD_BOUND));
    if (losses.count < (int)ED_COUNT(terms))
        return ed_fail(p->env, ENCDIFF_ERROR_INTERNAL, "the generator has %d losses", losses.count);
    return parity_compare_gradients(p, &g->networks.sets[ED_SET_FIRST_STAGE], g->autoencoder->sets[0].grads,
                                    g->team->ranks);
}

encdiff_status parity_vqgan_generator(parity *p)
{
    generator g = {0};
    encdiff_status status = create_generator(p, &g);
    if (status == ENCDIFF_OK) status = compare_generator(p, &g);
    free_generator(p, &g);
    return status;
}
