/* LPIPS (Zhang et al. 2018) on the convolutions of VGG16: the parameters come from a file of the user's. */
#include <stdio.h>

#include "model/networks.h"

static const struct block {
    int channels, layers, index[3];
} blocks[] = {
    {64, 2, {0, 2}}, {128, 2, {5, 7}}, {256, 3, {10, 12, 14}}, {512, 3, {17, 19, 21}}, {512, 3, {24, 26, 28}}};

static ed_value scaled(ed_nn *nn, ed_value images)
{
    ed_value s = ed_nn_buffer(nn, "scaling.multiply", ED_SHAPE1(3), ED_INIT_ONE);
    ed_value t = ed_nn_buffer(nn, "scaling.add", ED_SHAPE1(3), ED_INIT_ZERO);
    return ed_channel_affine(nn->graph, images, s, t);
}

void ed_lpips_set_constants(ed_params *params)
{
    static const float shift[] = {-.030f, -.088f, -.188f}, scale[] = {.458f, .448f, .450f};
    int multiply = ed_params_find(params, "perceptual_loss.scaling.multiply");
    int add = ed_params_find(params, "perceptual_loss.scaling.add");
    if (multiply < 0 || add < 0) return;
    for (int i = 0; i < 3; i++) {
        params->values[params->items[multiply].offset + (size_t)i] = 1 / scale[i];
        params->values[params->items[add].offset + (size_t)i] = -shift[i] / scale[i];
    }
}

/* The features after each block, before its pooling. */
static void trunk(ed_nn *nn, ed_value images, ed_value features[5])
{
    ed_value h = scaled(nn, images);
    for (int b = 0; b < 5; b++) {
        if (b) h = ed_max_pool(nn->graph, h);
        for (int l = 0; l < blocks[b].layers; l++) {
            char name[32];
            snprintf(name, sizeof name, "features.%d", blocks[b].index[l]);
            h = ed_activate(nn->graph, ed_nn_conv3(nn, name, h, blocks[b].channels), ED_ACT_RELU, 0);
        }
        features[b] = h;
    }
}

ed_value ed_lpips(ed_nn *nn, ed_value x, ed_value y)
{
    ed_value fx[5], fy[5], total = ED_NONE;
    trunk(nn, x, fx);
    trunk(nn, y, fy);
    for (int b = 0; b < 5; b++) {
        char name[32];
        int c = blocks[b].channels;
        snprintf(name, sizeof name, "lin%d.model.1.weight", b);
        ed_value w = ed_nn_param(nn, name, ED_SHAPE4(1, c, 1, 1), ED_LAYOUT_CONV, ED_INIT_ONE, c);
        ed_value d = ed_lpips_distance(nn->graph, fx[b], fy[b], ed_reshape(nn->graph, w, ED_SHAPE1(c)));
        total = b ? ed_add_values(nn->graph, total, d) : d;
    }
    return total;
}
