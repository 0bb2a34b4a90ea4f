/*
 * model: the networks of EncDiff as graphs, their parameters, configuration and presets.
 *
 *   unet.c encoder.c autoencoder.c discriminator.c lpips.c   one network each, written with lib/nn
 *   inception.c  extractor.c   what FID and LPIPS measure images with, apart from any model
 *   networks.c   all parameter sets of a configuration: declaration, initialisation, names
 *   weights.c    to and from safetensors
 *   published.c  to and from checkpoints of the published code
 *   place.c      the sets in the memory of a backend
 *   config.c presets.c
 *
 * The mathematics: Yang et al. 2024 (arXiv 2402.09712); U-Net and autoencoder as in Rombach et al. 2022 (arXiv
 * 2112.10752) and Esser et al. 2021 (arXiv 2012.09841); LPIPS Zhang et al. 2018 (arXiv 1801.03924). Called by
 * diffusion, train and api.
 */
#ifndef ED_NETWORKS_H
#define ED_NETWORKS_H

#include "model/config.h"
#include "nn/nn.h"

/* The parameter sets; the graph's set numbers. */
typedef enum ed_set {
    ED_SET_UNET,
    ED_SET_ENCODER,
    ED_SET_FIRST_STAGE,
    ED_SET_DISCRIMINATOR,
    ED_SET_LPIPS,
    ED_SET_COUNT
} ed_set;

typedef struct ed_networks {
    ed_env *env;
    ed_config config;
    ed_params sets[ED_SET_COUNT];  /* LPIPS: empty until added; discriminator: where there is one */
    float *averages[ED_SET_COUNT]; /* moving averages, laid out like the sets' values; NULL without */
    float scale_factor;            /* of the latents; 1 until training measured it */
    bool scale_known;
    int64_t steps;               /* of the encdiff stage so far */
    struct ed_weight_file *file; /* what is not read yet (weights.h); NULL: nothing is missing */
} ed_networks;

/* Declare every set: names and shapes. On failure nothing is owned, of this and the next two. */
encdiff_status ed_networks_declare(ed_env *env, const ed_config *config, ed_networks *networks);
/* Memory for what was declared, without values. */
encdiff_status ed_networks_allocate(ed_networks *networks);
/* Both, with values from the seed. */
encdiff_status ed_networks_create(ed_env *env, const ed_config *config, uint64_t seed, ed_networks *networks);
/* The LPIPS network, which only training the autoencoder needs; its weights are random until they are loaded. */
encdiff_status ed_networks_add_lpips(ed_networks *networks);
void ed_networks_free(ed_networks *networks);
const char *ed_set_prefix(ed_set set); /* "model.diffusion_model." */
/* A builder for graphs that use set `set` of the networks. */
ed_nn ed_networks_nn(ed_networks *networks, ed_graph *graph, ed_set set, bool training);

/* Cross-attention maps collected while a U-Net is built. */
#define ED_MAX_MAPS 64
typedef struct ed_map_list {
    int count;
    ed_value maps[ED_MAX_MAPS]; /* [n, l, tokens], mean over the heads */
    int sizes[ED_MAX_MAPS];     /* height = width of the layer */
} ed_map_list;

/* Predicted noise (or x0). x [n, h, w, c], t [n], tokens [n, N, context_dim]; `maps` may be NULL. */
ed_value ed_unet(ed_nn *nn, const ed_config *config, ed_value x, ed_value t, ed_value tokens, ed_map_list *maps);
/* Images [n, s, s, 3] to scalars [n, N], and scalars to tokens [n, N, context_dim]. */
ed_value ed_concept_scalars(ed_nn *nn, const ed_config *config, ed_value images);
ed_value ed_concept_tokens(ed_nn *nn, const ed_config *config, ed_value scalars);
/* Images to latents before quantisation (vq), to moments (kl: [.., 2 embed_dim]), to averages, or the images (none). */
ed_value ed_autoencoder_encode(ed_nn *nn, const ed_config *config, ed_value images);
void ed_autoencoder_quantize(ed_nn *nn, const ed_config *config, ed_value latent, ed_value out[3]); /* vq only */
ed_value ed_autoencoder_decode(ed_nn *nn, const ed_config *config, ed_value latent);
/* Weight of the decoder's last convolution, its input and options: what the adaptive weight differentiates. */
typedef struct ed_last_layer {
    ed_value input, weight, output;
} ed_last_layer;
ed_last_layer ed_autoencoder_last_layer(const ed_graph *graph, ed_value reconstruction);
/* PatchGAN logits [n, h', w', 1]. */
ed_value ed_discriminator(ed_nn *nn, int ndf, int layers, ed_value images);
/* LPIPS distance [n]; the gradient goes to y only. */
ed_value ed_lpips(ed_nn *nn, ed_value x, ed_value y);
/* Images [n, 299, 299, 3] in [-1, 1] to the features of FID [n, 2048]. */
#define ED_INCEPTION_FEATURES 2048
ed_value ed_inception(ed_nn *nn, ed_value images);
/* The input scaling of LPIPS, which is part of its definition and in no file. */
void ed_lpips_set_constants(ed_params *params);

#endif
