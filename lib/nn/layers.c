/* Layers that the models share. PyTorch's names: .weight, .bias, .running_mean, .running_var. */
#include <stdio.h>

#include "nn/nn.h"

#define NORM_GROUPS 32

static int channels(const ed_nn *nn, ed_value x)
{
    return x == ED_NONE ? 1 : (int)ed_shape_last(ed_graph_shape(nn->graph, x));
}

ed_value ed_nn_conv(ed_nn *nn, const char *name, ed_value x, int out, const ed_conv_options *o)
{
    ed_nn at = ed_nn_at(nn, "%s", name);
    int in = channels(nn, x), fan_in = in * o->kernel * o->kernel;
    ed_init init = o->zero_init ? ED_INIT_ZERO : o->normal_init ? ED_INIT_NORMAL : ED_INIT_FAN_IN;
    ed_value w = ed_nn_param(&at, ".weight", ED_SHAPE4(out, in, o->kernel, o->kernel), ED_LAYOUT_CONV, init, fan_in);
    ed_value b = ED_NONE;
    if (!o->no_bias)
        b = ed_nn_param(&at, ".bias", ED_SHAPE1(out), ED_LAYOUT_PLAIN, o->zero_init ? ED_INIT_ZERO : ED_INIT_FAN_IN,
                        fan_in);
    ed_conv conv = {o->stride, o->pad, o->pad, o->pad, o->pad};
    if (o->pad_right_only) conv = (ed_conv){o->stride, 0, 0, 1, 1};
    return ed_conv2d(nn->graph, x, w, b, o->residual, conv);
}

ed_value ed_nn_conv3(ed_nn *nn, const char *name, ed_value x, int out)
{
    return ed_nn_conv(nn, name, x, out, &(ed_conv_options){.kernel = 3, .stride = 1, .pad = 1, .residual = ED_NONE});
}

static ed_value conv1(ed_nn *nn, const char *name, ed_value x, int out, ed_value residual, ed_init init)
{
    ed_nn at = ed_nn_at(nn, "%s", name);
    int in = channels(nn, x);
    ed_value w = ed_nn_param(&at, ".weight", ED_SHAPE4(out, in, 1, 1), ED_LAYOUT_CONV, init, in);
    ed_value b = ed_nn_param(&at, ".bias", ED_SHAPE1(out), ED_LAYOUT_PLAIN, init, in);
    return ed_linear(nn->graph, x, w, b, residual);
}

ed_value ed_nn_conv1(ed_nn *nn, const char *name, ed_value x, int out, ed_value residual)
{
    return conv1(nn, name, x, out, residual, ED_INIT_FAN_IN);
}

ed_value ed_nn_conv1_zero(ed_nn *nn, const char *name, ed_value x, int out, ed_value residual)
{
    return conv1(nn, name, x, out, residual, ED_INIT_ZERO);
}

ed_value ed_nn_linear(ed_nn *nn, const char *name, ed_value x, int out, bool bias, ed_value residual)
{
    ed_nn at = ed_nn_at(nn, "%s", name);
    int in = channels(nn, x);
    ed_value w = ed_nn_param(&at, ".weight", ED_SHAPE2(out, in), ED_LAYOUT_PLAIN, ED_INIT_FAN_IN, in), b = ED_NONE;
    if (bias) b = ed_nn_param(&at, ".bias", ED_SHAPE1(out), ED_LAYOUT_PLAIN, ED_INIT_FAN_IN, in);
    return ed_linear(nn->graph, x, w, b, residual);
}

static void norm_parameters(ed_nn *nn, const char *name, int c, ed_init gain, ed_value out[2])
{
    ed_nn at = ed_nn_at(nn, "%s", name);
    out[0] = ed_nn_param(&at, ".weight", ED_SHAPE1(c), ED_LAYOUT_PLAIN, gain, 1);
    out[1] = ed_nn_param(&at, ".bias", ED_SHAPE1(c), ED_LAYOUT_PLAIN, ED_INIT_ZERO, 1);
}

ed_value ed_nn_group_norm_modulated(ed_nn *nn, const char *name, ed_value x, ed_value scale_shift, float eps,
                                    ed_activation activation)
{
    ed_value p[2];
    norm_parameters(nn, name, channels(nn, x), ED_INIT_ONE, p);
    return ed_group_norm(nn->graph, x, p[0], p[1], scale_shift, NORM_GROUPS, eps, activation);
}

ed_value ed_nn_group_norm(ed_nn *nn, const char *name, ed_value x, float eps, ed_activation activation)
{
    return ed_nn_group_norm_modulated(nn, name, x, ED_NONE, eps, activation);
}

ed_value ed_nn_layer_norm(ed_nn *nn, const char *name, ed_value x)
{
    ed_value p[2];
    norm_parameters(nn, name, channels(nn, x), ED_INIT_ONE, p);
    return ed_layer_norm(nn->graph, x, p[0], p[1], 1e-5f);
}

ed_value ed_nn_batch_norm(ed_nn *nn, const char *name, ed_value x, ed_activation activation, float slope,
                          bool normal_init)
{
    ed_nn at = ed_nn_at(nn, "%s", name);
    int c = channels(nn, x);
    ed_value p[4];
    norm_parameters(nn, name, c, normal_init ? ED_INIT_NORMAL_ONE : ED_INIT_ONE, p);
    p[2] = ed_nn_buffer(&at, ".running_mean", ED_SHAPE1(c), ED_INIT_ZERO);
    p[3] = ed_nn_buffer(&at, ".running_var", ED_SHAPE1(c), ED_INIT_ONE);
    return ed_batch_norm(nn->graph, x, p, nn->training, activation, slope);
}

/* Multi-head attention; `context` is ED_NONE for self attention. x [n, l, c], context [n, m, d]. */
ed_value ed_nn_attention(ed_nn *nn, const char *name, ed_value x, ed_value context, int heads, ed_value residual,
                         ed_value *map)
{
    ed_nn at = ed_nn_at(nn, "%s", name);
    int c = channels(nn, x);
    ed_value from = context == ED_NONE ? x : context;
    ed_value q = ed_nn_linear(&at, ".to_q", x, c, false, ED_NONE);
    ed_value k = ed_nn_linear(&at, ".to_k", from, c, false, ED_NONE);
    ed_value v = ed_nn_linear(&at, ".to_v", from, c, false, ED_NONE);
    if (map) *map = ed_attention_map(nn->graph, q, k, heads);
    return ed_nn_linear(&at, ".to_out.0", ed_attention(nn->graph, q, k, v, heads), c, true, residual);
}
