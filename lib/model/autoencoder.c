/* The first stage: VQ and KL autoencoder (Esser et al. 2021, Rombach et al. 2022), block averages, or pixels as they
 * are. */
#include <stdio.h>

#include "model/networks.h"

#define EPS 1e-6f

static ed_value conv3_plus(ed_nn *nn, const char *name, ed_value x, int out, ed_value residual)
{
    return ed_nn_conv(nn, name, x, out, &(ed_conv_options){.kernel = 3, .stride = 1, .pad = 1, .residual = residual});
}

static ed_value res_block(ed_nn *outer, const char *name, ed_value x, int out)
{
    ed_nn nn = ed_nn_at(outer, "%s", name);
    ed_value h = ed_nn_conv3(&nn, ".conv1", ed_nn_group_norm(&nn, ".norm1", x, EPS, ED_ACT_SILU), out);
    h = ed_nn_group_norm(&nn, ".norm2", h, EPS, ED_ACT_SILU);
    ed_value skip = ed_nn_dim(&nn, x, 3) == out ? x : ed_nn_conv1(&nn, ".nin_shortcut", x, out, ED_NONE);
    return conv3_plus(&nn, ".conv2", h, out, skip);
}

/* Self attention over all positions with one head as wide as the channels. */
static ed_value attention_block(ed_nn *outer, const char *name, ed_value x)
{
    ed_nn nn = ed_nn_at(outer, "%s", name);
    int n = ed_nn_dim(&nn, x, 0), h = ed_nn_dim(&nn, x, 1), w = ed_nn_dim(&nn, x, 2), c = ed_nn_dim(&nn, x, 3);
    ed_shape flat = ED_SHAPE3(n, h * w, c), image = ED_SHAPE4(n, h, w, c);
    ed_value y = ed_reshape(nn.graph, ed_nn_group_norm(&nn, ".norm", x, EPS, ED_ACT_NONE), flat);
    ed_value q = ed_nn_conv1(&nn, ".q", y, c, ED_NONE);
    ed_value k = ed_nn_conv1(&nn, ".k", y, c, ED_NONE);
    ed_value v = ed_nn_conv1(&nn, ".v", y, c, ED_NONE);
    y = ed_reshape(nn.graph, ed_attention(nn.graph, q, k, v, 1), image);
    return ed_nn_conv1(&nn, ".proj_out", y, c, x);
}

static ed_value middle(ed_nn *outer, const char *name, ed_value h)
{
    ed_nn nn = ed_nn_at(outer, "%s", name);
    int c = ed_nn_dim(&nn, h, 3);
    h = res_block(&nn, ".block_1", h, c);
    return res_block(&nn, ".block_2", attention_block(&nn, ".attn_1", h), c);
}

static ed_value encode(ed_nn *nn, const ed_config *config, ed_value x)
{
    int levels = config->autoencoder.ch_mult.count, ch = config->autoencoder.ch;
    int twice = config->autoencoder.kind == ED_AE_KL ? 2 : 1;
    char name[64];
    ed_value h = ed_nn_conv3(nn, "encoder.conv_in", ed_to_compute(nn->graph, x), ch);
    for (int l = 0; l < levels; l++) {
        int width = ch * config->autoencoder.ch_mult.values[l];
        for (int b = 0; b < config->autoencoder.num_res_blocks; b++) {
            snprintf(name, sizeof name, "encoder.down.%d.block.%d", l, b);
            h = res_block(nn, name, h, width);
        }
        if (l == levels - 1) break;
        snprintf(name, sizeof name, "encoder.down.%d.downsample.conv", l);
        h = ed_nn_conv(nn, name, h, width,
                       &(ed_conv_options){.kernel = 3, .stride = 2, .pad_right_only = true, .residual = ED_NONE});
    }
    h = ed_nn_group_norm(nn, "encoder.norm_out", middle(nn, "encoder.mid", h), EPS, ED_ACT_SILU);
    h = ed_nn_conv3(nn, "encoder.conv_out", h, twice * config->autoencoder.z_channels);
    h = ed_nn_conv1(nn, "quant_conv", h, twice * config->autoencoder.embed_dim, ED_NONE);
    return ed_to_f32(nn->graph, h);
}

static ed_value decode(ed_nn *nn, const ed_config *config, ed_value z)
{
    int levels = config->autoencoder.ch_mult.count, ch = config->autoencoder.ch;
    char name[64];
    ed_value h = ed_to_compute(nn->graph, z);
    h = ed_nn_conv1(nn, "post_quant_conv", h, config->autoencoder.z_channels, ED_NONE);
    h = ed_nn_conv3(nn, "decoder.conv_in", h, ch * config->autoencoder.ch_mult.values[levels - 1]);
    h = middle(nn, "decoder.mid", h);
    for (int l = levels - 1; l >= 0; l--) {
        int width = ch * config->autoencoder.ch_mult.values[l];
        for (int b = 0; b <= config->autoencoder.num_res_blocks; b++) {
            snprintf(name, sizeof name, "decoder.up.%d.block.%d", l, b);
            h = res_block(nn, name, h, width);
        }
        if (l == 0) break;
        snprintf(name, sizeof name, "decoder.up.%d.upsample.conv", l);
        h = ed_nn_conv3(nn, name, ed_upsample(nn->graph, h, 2, 1.0f), width);
    }
    h = ed_nn_group_norm(nn, "decoder.norm_out", h, EPS, ED_ACT_SILU);
    return ed_to_f32(nn->graph, ed_nn_conv3(nn, "decoder.conv_out", h, 3));
}

ed_value ed_autoencoder_encode(ed_nn *nn, const ed_config *config, ed_value images)
{
    int f = config->autoencoder.factor;
    switch (config->autoencoder.kind) {
    case ED_AE_VQ:
    case ED_AE_KL: return encode(nn, config, images);
    case ED_AE_AVERAGE: return ed_sum_pool(nn->graph, images, f, 1.0f / (float)(f * f));
    case ED_AE_NONE: break;
    }
    return images;
}

void ed_autoencoder_quantize(ed_nn *nn, const ed_config *config, ed_value latent, ed_value out[3])
{
    ed_value codebook = ed_nn_param(nn, "quantize.embedding.weight",
                                    ED_SHAPE2(config->autoencoder.n_embed, config->autoencoder.embed_dim),
                                    ED_LAYOUT_PLAIN, ED_INIT_CODEBOOK, 1);
    /* In the published 'legacy' mode beta weighs the codebook's term; as first meant it weighs the encoder's. */
    float beta = config->autoencoder.beta;
    bool legacy = config->autoencoder.legacy;
    ed_quantize(nn->graph, latent, codebook, legacy ? 1.0f : beta, legacy ? beta : 1.0f, out);
}

ed_value ed_autoencoder_decode(ed_nn *nn, const ed_config *config, ed_value latent)
{
    switch (config->autoencoder.kind) {
    case ED_AE_VQ:
    case ED_AE_KL: return decode(nn, config, latent);
    case ED_AE_AVERAGE: return ed_upsample(nn->graph, latent, config->autoencoder.factor, 1.0f);
    case ED_AE_NONE: break;
    }
    return latent;
}

ed_last_layer ed_autoencoder_last_layer(const ed_graph *graph, ed_value reconstruction)
{
    if (reconstruction == ED_NONE) return (ed_last_layer){ED_NONE, ED_NONE, ED_NONE};
    const ed_node *node = &graph->nodes[graph->values[reconstruction].node];
    return (ed_last_layer){.input = node->in[0], .weight = node->in[1], .output = reconstruction};
}
