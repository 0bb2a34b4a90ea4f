/* All parameter sets of a configuration. The smallest graphs, built once, declare them. */
#include "model/networks.h"
#include "model/weights.h"

const char *ed_set_prefix(ed_set set)
{
    static const char *const prefixes[] = {
        [ED_SET_UNET] = "model.diffusion_model.",    [ED_SET_ENCODER] = "cond_stage_model.",
        [ED_SET_FIRST_STAGE] = "first_stage_model.", [ED_SET_DISCRIMINATOR] = "first_stage_model.loss.discriminator.",
        [ED_SET_LPIPS] = "perceptual_loss.",
    };
    return prefixes[set];
}

ed_nn ed_networks_nn(ed_networks *networks, ed_graph *graph, ed_set set, bool training)
{
    ed_nn nn = {.graph = graph, .params = &networks->sets[set], .set = (int)set, .training = training};
    return ed_nn_at(&nn, "%s", ed_set_prefix(set));
}

static void declare_unet(ed_networks *n, ed_graph *g)
{
    const ed_config *c = &n->config;
    int size = ed_config_latent_size(c);
    ed_nn nn = ed_networks_nn(n, g, ED_SET_UNET, false);
    ed_value x = ed_graph_input(g, "x", ED_SHAPE4(1, size, size, ed_config_latent_channels(c)), ED_F32, false);
    ed_value t = ed_graph_input(g, "t", ED_SHAPE1(1), ED_F32, false);
    ed_value tokens = ed_graph_input(g, "tokens", ED_SHAPE3(1, c->encoder.latent_unit, c->encoder.context_dim), ED_F32,
                                     false);
    ed_unet(&nn, c, x, t, tokens, NULL);
}

static void declare_encoder(ed_networks *n, ed_graph *g, ed_value image)
{
    ed_nn nn = ed_networks_nn(n, g, ED_SET_ENCODER, false);
    ed_concept_tokens(&nn, &n->config, ed_concept_scalars(&nn, &n->config, image));
}

static void declare_first_stage(ed_networks *n, ed_graph *g, ed_value image)
{
    const ed_config *c = &n->config;
    ed_nn nn = ed_networks_nn(n, g, ED_SET_FIRST_STAGE, false);
    int size = ed_config_latent_size(c);
    ed_value z = ed_autoencoder_encode(&nn, c, image), out[3];
    if (c->autoencoder.kind == ED_AE_VQ) ed_autoencoder_quantize(&nn, c, z, out);
    z = ed_graph_input(g, "latent", ED_SHAPE4(1, size, size, ed_config_latent_channels(c)), ED_F32, false);
    ed_autoencoder_decode(&nn, c, z);
}

static void declare_discriminator(ed_networks *n, ed_graph *g, ed_value image)
{
    const ed_config *c = &n->config;
    bool trained = c->autoencoder.kind == ED_AE_VQ || c->autoencoder.kind == ED_AE_KL;
    if (!trained || !c->train_autoencoder.discriminator) return;
    ed_nn nn = ed_networks_nn(n, g, ED_SET_DISCRIMINATOR, false);
    ed_discriminator(&nn, c->train_autoencoder.disc_ndf, c->train_autoencoder.disc_num_layers, image);
}

static encdiff_status declare(ed_networks *n)
{
    ed_graph graph;
    ed_graph_init(&graph, n->env);
    int s = n->config.image.resolution;
    ed_value image = ed_graph_input(&graph, "image", ED_SHAPE4(1, s, s, 3), ED_F32, false);
    declare_unet(n, &graph);
    declare_encoder(n, &graph, image);
    declare_first_stage(n, &graph, image);
    declare_discriminator(n, &graph, image);
    encdiff_status status = graph.status;
    ed_graph_free(&graph);
    return status;
}

void ed_networks_free(ed_networks *n)
{
    if (!n->env) return;
    for (int i = 0; i < ED_SET_COUNT; i++) {
        ed_params_free(&n->sets[i]);
        ed_free(n->env, n->averages[i]);
    }
    ed_weight_file_close(n->env, n->file);
    *n = (ed_networks){0};
}

encdiff_status ed_networks_declare(ed_env *env, const ed_config *config, ed_networks *n)
{
    *n = (ed_networks){.env = env, .config = *config, .scale_factor = 1};
    for (int i = 0; i < ED_SET_COUNT; i++) ed_params_init(&n->sets[i], env);
    encdiff_status status = declare(n);
    if (status != ENCDIFF_OK) ed_networks_free(n);
    return status;
}

encdiff_status ed_networks_allocate(ed_networks *n)
{
    encdiff_status status = ENCDIFF_OK;
    for (int i = 0; i < ED_SET_LPIPS && status == ENCDIFF_OK; i++) status = ed_params_allocate(&n->sets[i]);
    if (status != ENCDIFF_OK) ed_networks_free(n);
    return status;
}

encdiff_status ed_networks_create(ed_env *env, const ed_config *config, uint64_t seed, ed_networks *n)
{
    ED_TRY(ed_networks_declare(env, config, n));
    ED_TRY(ed_networks_allocate(n));
    for (int i = 0; i < ED_SET_LPIPS; i++) ed_params_initialise(&n->sets[i], seed);
    return ENCDIFF_OK;
}

encdiff_status ed_networks_add_lpips(ed_networks *n)
{
    if (n->sets[ED_SET_LPIPS].values) return ENCDIFF_OK;
    ed_graph graph;
    ed_graph_init(&graph, n->env);
    ed_nn nn = ed_networks_nn(n, &graph, ED_SET_LPIPS, false);
    ed_value image = ed_graph_input(&graph, "image", ED_SHAPE4(1, 32, 32, 3), ED_F32, false);
    ed_lpips(&nn, image, image);
    encdiff_status status = graph.status;
    ed_graph_free(&graph);
    if (status == ENCDIFF_OK) status = ed_params_allocate(&n->sets[ED_SET_LPIPS]);
    if (status != ENCDIFF_OK) return status;
    ed_params_initialise(&n->sets[ED_SET_LPIPS], 0);
    ed_lpips_set_constants(&n->sets[ED_SET_LPIPS]);
    return status;
}
