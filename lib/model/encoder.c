/* The concept encoder (Yang et al. 2024, section 3.2): an image to one scalar per concept, a scalar to a token. */
#include "model/networks.h"

static ed_value down(ed_nn *nn, const char *conv, const char *norm, ed_value x, int d, ed_activation activation)
{
    ed_conv_options options = {.kernel = 4, .stride = 2, .pad = 1, .residual = ED_NONE};
    return ed_nn_batch_norm(nn, norm, ed_nn_conv(nn, conv, x, d, &options), activation, 0, false);
}

/* x + conv1(relu(norm(conv3(relu(x))))) */
static ed_value residual(ed_nn *nn, const char *name, ed_value x, int d)
{
    ed_nn at = ed_nn_at(nn, "%s", name);
    ed_value h = ed_nn_conv3(&at, ".convs.1", ed_activate(nn->graph, x, ED_ACT_RELU, 0), d);
    h = ed_nn_batch_norm(&at, ".convs.2", h, ED_ACT_RELU, 0, false);
    return ed_nn_conv1(&at, ".convs.4", h, d, x);
}

/* The last linear layer reads the features in C, H, W order; here they lie as H, W, C and its weight is laid to match.
 */
static ed_value flatten_linear(ed_nn *nn, const char *name, ed_value x, int out)
{
    ed_nn at = ed_nn_at(nn, "%s", name);
    int n = ed_nn_dim(nn, x, 0), h = ed_nn_dim(nn, x, 1), w = ed_nn_dim(nn, x, 2), c = ed_nn_dim(nn, x, 3);
    ed_value weight = ed_nn_param(&at, ".weight", ED_SHAPE4(out, c, h, w), ED_LAYOUT_FLAT, ED_INIT_FAN_IN, c * h * w);
    ed_value bias = ed_nn_param(&at, ".bias", ED_SHAPE1(out), ED_LAYOUT_PLAIN, ED_INIT_FAN_IN, c * h * w);
    return ed_linear(nn->graph, ed_reshape(nn->graph, x, ED_SHAPE2(n, (int64_t)h * w * c)), weight, bias, ED_NONE);
}

ed_value ed_concept_scalars(ed_nn *nn, const ed_config *config, ed_value images)
{
    int d = config->encoder.d;
    ed_value h = down(nn, "encoder.0", "encoder.1", ed_to_compute(nn->graph, images), d, ED_ACT_RELU);
    h = down(nn, "encoder.3", "encoder.4", h, d, ED_ACT_RELU);
    h = down(nn, "encoder.6", "encoder.7", h, d, ED_ACT_NONE); /* published without an activation here */
    h = down(nn, "encoder.8", "encoder.9", h, d, ED_ACT_RELU);
    h = residual(nn, "encoder.11", h, d);
    h = residual(nn, "encoder.14", ed_nn_batch_norm(nn, "encoder.12", h, ED_ACT_RELU, 0, false), d);
    return ed_to_f32(nn->graph, flatten_linear(nn, "encoder.16", h, config->encoder.latent_unit));
}

/* Layer i of all concepts' networks at once: x [n, N, c] -> [n, N, out]. */
static ed_value concept_layer(ed_nn *nn, int layer, ed_value x, int out)
{
    ed_nn at = ed_nn_at(nn, "net.%%d.%d", layer);
    int concepts = ed_nn_dim(nn, x, 1), in = ed_nn_dim(nn, x, 2);
    ed_value w = ed_nn_stack(&at, ".weight", concepts, ED_SHAPE2(out, in), in);
    ed_value b = ed_nn_stack(&at, ".bias", concepts, ED_SHAPE1(out), in);
    return ed_batched_linear(nn->graph, x, w, b);
}

/* In f32 whatever the graph computes with: it is small, and codes are read by people. */
ed_value ed_concept_tokens(ed_nn *nn, const ed_config *config, ed_value scalars)
{
    int n = ed_nn_dim(nn, scalars, 0), concepts = ed_nn_dim(nn, scalars, 1);
    ed_value h = ed_reshape(nn->graph, scalars, ED_SHAPE3(n, concepts, 1));
    h = ed_activate(nn->graph, concept_layer(nn, 0, h, 64), ED_ACT_ELU, 0);
    h = ed_activate(nn->graph, concept_layer(nn, 2, h, 128), ED_ACT_ELU, 0);
    return concept_layer(nn, 4, h, config->encoder.context_dim);
}
