/* The denoising U-Net with cross attention to the concept tokens (Rombach et al. 2022; Yang et al. 2024, section 3.3).
 */
#include <stdio.h>

#include "model/networks.h"

/* What all blocks of one U-Net share. */
typedef struct unet {
    ed_nn *nn;
    const ed_config *config;
    ed_value emb;    /* silu(time embedding), [n, 4 model_channels] */
    ed_value tokens; /* [n, N, context_dim] */
    ed_map_list *maps;
    int blocks; /* residual blocks so far: the dropout streams */
} unet;

typedef enum resample { KEEP, DOWN, UP } resample;

static ed_value resampled(const unet *u, ed_value x, resample how)
{
    if (how == DOWN) return ed_sum_pool(u->nn->graph, x, 2, 0.25f);
    return how == UP ? ed_upsample(u->nn->graph, x, 2, 1.0f) : x;
}

/*
 * h = conv(resample(silu(norm(x)))); (scale, shift) = linear(silu(emb)); h = conv(dropout(silu(norm(h) (1 + scale) +
 * shift))); y = skip(resample(x)) + h
 */
static ed_value res_block(unet *u, const char *name, ed_value x, int out, resample how)
{
    ed_nn nn = ed_nn_at(u->nn, "%s", name);
    bool modulated = u->config->unet.use_scale_shift_norm;
    ed_value h = resampled(u, ed_nn_group_norm(&nn, ".in_layers.0", x, 1e-5f, ED_ACT_SILU), how);
    ed_value skip = resampled(u, x, how);
    h = ed_nn_conv3(&nn, ".in_layers.2", h, out);
    ed_value e = ed_nn_linear(&nn, ".emb_layers.1", u->emb, modulated ? 2 * out : out, true, ED_NONE);
    if (!modulated) h = ed_add_vector(nn.graph, h, e);
    h = ed_nn_group_norm_modulated(&nn, ".out_layers.0", h, modulated ? e : ED_NONE, 1e-5f, ED_ACT_SILU);
    if (nn.training && u->config->unet.dropout > 0) h = ed_dropout(nn.graph, h, u->config->unet.dropout, u->blocks);
    u->blocks++;
    if (ed_nn_dim(&nn, skip, 3) != out) skip = ed_nn_conv1(&nn, ".skip_connection", skip, out, ED_NONE);
    return ed_nn_conv(&nn, ".out_layers.3", h, out,
                      &(ed_conv_options){.kernel = 3, .stride = 1, .pad = 1, .zero_init = true, .residual = skip});
}

static void record_map(unet *u, ed_value map, int size)
{
    if (!u->maps || map == ED_NONE || u->maps->count == ED_MAX_MAPS) return;
    ed_graph_output(u->nn->graph, map);
    u->maps->maps[u->maps->count] = map;
    u->maps->sizes[u->maps->count++] = size;
}

/* Self attention, cross attention to the tokens, GEGLU feed-forward; each on a layer norm, each added to its input. */
static ed_value transformer(unet *u, const char *name, ed_value x)
{
    ed_nn nn = ed_nn_at(u->nn, "%s", name), block = ed_nn_at(&nn, ".transformer_blocks.0");
    int n = ed_nn_dim(&nn, x, 0), size = ed_nn_dim(&nn, x, 1), width = ed_nn_dim(&nn, x, 2), c = ed_nn_dim(&nn, x, 3);
    int heads = u->config->unet.num_heads;
    ed_value map = ED_NONE;
    ed_value h = ed_nn_group_norm(&nn, ".norm", x, 1e-6f, ED_ACT_NONE);
    h = ed_reshape(nn.graph, ed_nn_conv1(&nn, ".proj_in", h, c, ED_NONE), ED_SHAPE3(n, size * width, c));
    h = ed_nn_attention(&block, ".attn1", ed_nn_layer_norm(&block, ".norm1", h), ED_NONE, heads, h, NULL);
    h = ed_nn_attention(&block, ".attn2", ed_nn_layer_norm(&block, ".norm2", h), u->tokens, heads, h,
                        u->maps ? &map : NULL);
    ed_value f = ed_nn_linear(&block, ".ff.net.0.proj", ed_nn_layer_norm(&block, ".norm3", h), 8 * c, true, ED_NONE);
    h = ed_nn_linear(&block, ".ff.net.2", ed_geglu(nn.graph, f), c, true, h);
    record_map(u, map, size);
    return ed_nn_conv1_zero(&nn, ".proj_out", ed_reshape(nn.graph, h, ED_SHAPE4(n, size, width, c)), c, x);
}

static bool attends(const ed_config *config, int downsampling)
{
    for (int i = 0; i < config->unet.attention_resolutions.count; i++)
        if (config->unet.attention_resolutions.values[i] == downsampling) return true;
    return false;
}

/* silu(linear(silu(linear(timestep embedding)))): every residual block begins with the outer silu. */
static ed_value time_embedding(ed_nn *nn, ed_value t, int channels)
{
    ed_value e = ed_to_compute(nn->graph, ed_timestep_embedding(nn->graph, t, channels));
    e = ed_nn_linear(nn, "time_embed.0", e, 4 * channels, true, ED_NONE);
    e = ed_nn_linear(nn, "time_embed.2", ed_activate(nn->graph, e, ED_ACT_SILU, 0), 4 * channels, true, ED_NONE);
    return ed_activate(nn->graph, e, ED_ACT_SILU, 0);
}

#define MAX_SKIPS (ED_MAX_LEVELS * 18)

typedef struct skips {
    ed_value values[MAX_SKIPS];
    int count;
} skips;

static void push(skips *s, ed_value v)
{
    if (s->count < MAX_SKIPS) s->values[s->count++] = v;
}

/* The contracting path. Returns its end; `s` holds what the expanding path reads again; *ds is the downsampling. */
static ed_value contract(unet *u, ed_value x, skips *s, int *ds)
{
    const ed_config *c = u->config;
    char name[64];
    int i = 1, levels = c->unet.channel_mult.count;
    ed_value h = ed_nn_conv3(u->nn, "input_blocks.0.0", x, c->unet.model_channels);
    push(s, h);
    for (int level = 0; level < levels; level++) {
        int width = c->unet.channel_mult.values[level] * c->unet.model_channels;
        for (int b = 0; b < c->unet.num_res_blocks; b++, i++) {
            snprintf(name, sizeof name, "input_blocks.%d.0", i);
            h = res_block(u, name, h, width, KEEP);
            snprintf(name, sizeof name, "input_blocks.%d.1", i);
            if (attends(c, *ds)) h = transformer(u, name, h);
            push(s, h);
        }
        if (level == levels - 1) break;
        snprintf(name, sizeof name, "input_blocks.%d.0", i++);
        h = res_block(u, name, h, width, DOWN);
        push(s, h);
        *ds *= 2;
    }
    return h;
}

static ed_value expand(unet *u, ed_value h, skips *s, int ds)
{
    const ed_config *c = u->config;
    char name[64];
    int i = 0;
    for (int level = c->unet.channel_mult.count - 1; level >= 0; level--) {
        int width = c->unet.channel_mult.values[level] * c->unet.model_channels;
        for (int b = 0; b <= c->unet.num_res_blocks; b++, i++) {
            int k = 1;
            snprintf(name, sizeof name, "output_blocks.%d.0", i);
            h = res_block(u, name, ed_concat(u->nn->graph, h, s->values[--s->count]), width, KEEP);
            snprintf(name, sizeof name, "output_blocks.%d.%d", i, k);
            if (attends(c, ds)) h = transformer(u, name, h), k++;
            if (level == 0 || b < c->unet.num_res_blocks) continue;
            snprintf(name, sizeof name, "output_blocks.%d.%d", i, k);
            h = res_block(u, name, h, width, UP);
            ds /= 2;
        }
    }
    return h;
}

ed_value ed_unet(ed_nn *nn, const ed_config *config, ed_value x, ed_value t, ed_value tokens, ed_map_list *maps)
{
    unet u = {.nn = nn, .config = config, .tokens = ed_to_compute(nn->graph, tokens), .maps = maps};
    skips s = {.count = 0};
    int ds = 1, out = ed_nn_dim(nn, x, 3);
    u.emb = time_embedding(nn, t, config->unet.model_channels);
    ed_value h = contract(&u, ed_to_compute(nn->graph, x), &s, &ds);
    int width = ed_nn_dim(nn, h, 3);
    h = res_block(&u, "middle_block.0", h, width, KEEP);
    h = transformer(&u, "middle_block.1", h);
    h = res_block(&u, "middle_block.2", h, width, KEEP);
    h = expand(&u, h, &s, ds);
    h = ed_nn_group_norm(nn, "out.0", h, 1e-5f, ED_ACT_SILU);
    h = ed_nn_conv(nn, "out.2", h, out,
                   &(ed_conv_options){.kernel = 3, .stride = 1, .pad = 1, .zero_init = true, .residual = ED_NONE});
    return ed_to_f32(nn->graph, h);
}
