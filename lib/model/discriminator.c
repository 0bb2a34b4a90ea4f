/* The patch discriminator of the autoencoder's adversarial loss (Isola et al. 2017; Esser et al. 2021). */
#include <stdio.h>

#include "model/networks.h"

static ed_value conv4(ed_nn *nn, int index, ed_value x, int out, int stride, bool bias)
{
    char name[32];
    snprintf(name, sizeof name, "main.%d", index);
    return ed_nn_conv(
        nn, name, x, out,
        &(ed_conv_options){
            .kernel = 4, .stride = stride, .pad = 1, .no_bias = !bias, .normal_init = true, .residual = ED_NONE});
}

ed_value ed_discriminator(ed_nn *nn, int ndf, int layers, ed_value images)
{
    int index = 2;
    ed_value h = ed_activate(nn->graph, conv4(nn, 0, images, ndf, 2, true), ED_ACT_LEAKY_RELU, 0.2f);
    for (int l = 1; l <= layers; l++, index += 3) {
        char norm[32];
        snprintf(norm, sizeof norm, "main.%d", index + 1);
        h = conv4(nn, index, h, ndf * ED_MIN(1 << l, 8), l < layers ? 2 : 1, false);
        h = ed_nn_batch_norm(nn, norm, h, ED_ACT_LEAKY_RELU, 0.2f, true);
    }
    return conv4(nn, index, h, 1, 1, true);
}
