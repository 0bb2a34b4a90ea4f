/*
 * Inception v3 as FID uses it: the network of 2015 in the port whose weights are published as pt_inception-2015-12-05,
 * under that file's names. It differs from torchvision's in its pooling branches: means leave out padding, and the last
 * block takes the largest. Szegedy et al. 2016 (arXiv 1512.00567), figures 5, 6, 7, 10; Heusel et al. 2017.
 */
#include <stdio.h>

#include "model/networks.h"

#define EPS 1e-3f

/* Convolution without bias, batch norm with the running statistics, ReLU. */
static ed_value block(ed_nn *nn, const char *name, ed_value x, int out, int kh, int kw, int stride, int ph, int pw)
{
    static const char *const names[] = {".bn.weight", ".bn.bias", ".bn.running_mean", ".bn.running_var"};
    ed_nn at = ed_nn_at(nn, "%s", name);
    int in = ed_nn_dim(nn, x, 3);
    ed_value w = ed_nn_param(&at, ".conv.weight", ED_SHAPE4(out, in, kh, kw), ED_LAYOUT_CONV, ED_INIT_FAN_IN,
                             in * kh * kw);
    ed_value h = ed_conv2d(nn->graph, x, w, ED_NONE, ED_NONE, (ed_conv){stride, ph, pw, ph, pw}), p[4];
    for (int i = 0; i < 4; i++)
        p[i] = ed_nn_buffer(&at, names[i], ED_SHAPE1(out), i == 0 || i == 3 ? ED_INIT_ONE : ED_INIT_ZERO);
    ed_attributes attr = {.batch_norm = {EPS, 0, false, ED_ACT_RELU, 0}};
    const ed_value operands[] = {h, p[0], p[1], p[2], p[3]};
    return ed_graph_node(nn->graph, ED_OP_BATCH_NORM, operands, &attr, NULL, NULL);
}

static ed_value one(ed_nn *nn, const char *name, ed_value x, int out) { return block(nn, name, x, out, 1, 1, 1, 0, 0); }

static ed_value square(ed_nn *nn, const char *name, ed_value x, int out, int kernel, int stride, int pad)
{
    return block(nn, name, x, out, kernel, kernel, stride, pad, pad);
}

static ed_value row(ed_nn *nn, const char *name, ed_value x, int out, int size)
{
    return block(nn, name, x, out, 1, size, 1, 0, size / 2);
}

static ed_value column(ed_nn *nn, const char *name, ed_value x, int out, int size)
{
    return block(nn, name, x, out, size, 1, 1, size / 2, 0);
}

static ed_value concat(ed_nn *nn, int count, const ed_value *parts)
{
    ed_value all = parts[0];
    for (int i = 1; i < count; i++) all = ed_concat(nn->graph, all, parts[i]);
    return all;
}

static ed_value halve(ed_nn *nn, ed_value x) { return ed_window_pool(nn->graph, x, ED_WINDOW_MAX, 3, 2, 0); }

static ed_value pooled(ed_nn *nn, ed_value x, ed_window_kind kind, int out)
{
    return one(nn, "branch_pool", ed_window_pool(nn->graph, x, kind, 3, 1, 1), out);
}

static ed_value mixed_a(const ed_nn *outer, const char *name, ed_value x, int pool)
{
    ed_nn at = ed_nn_at(outer, "%s.", name), *nn = &at;
    ed_value parts[4] = {one(nn, "branch1x1", x, 64)};
    parts[1] = square(nn, "branch5x5_2", one(nn, "branch5x5_1", x, 48), 64, 5, 1, 2);
    ed_value h = square(nn, "branch3x3dbl_2", one(nn, "branch3x3dbl_1", x, 64), 96, 3, 1, 1);
    parts[2] = square(nn, "branch3x3dbl_3", h, 96, 3, 1, 1);
    parts[3] = pooled(nn, x, ED_WINDOW_MEAN, pool);
    return concat(nn, 4, parts);
}

static ed_value mixed_b(const ed_nn *outer, const char *name, ed_value x)
{
    ed_nn at = ed_nn_at(outer, "%s.", name), *nn = &at;
    ed_value parts[3] = {square(nn, "branch3x3", x, 384, 3, 2, 0)};
    ed_value h = square(nn, "branch3x3dbl_2", one(nn, "branch3x3dbl_1", x, 64), 96, 3, 1, 1);
    parts[1] = square(nn, "branch3x3dbl_3", h, 96, 3, 2, 0);
    parts[2] = halve(nn, x);
    return concat(nn, 3, parts);
}

static ed_value mixed_c(const ed_nn *outer, const char *name, ed_value x, int c7)
{
    ed_nn at = ed_nn_at(outer, "%s.", name), *nn = &at;
    ed_value parts[4] = {one(nn, "branch1x1", x, 192)};
    ed_value h = row(nn, "branch7x7_2", one(nn, "branch7x7_1", x, c7), c7, 7);
    parts[1] = column(nn, "branch7x7_3", h, 192, 7);
    h = column(nn, "branch7x7dbl_2", one(nn, "branch7x7dbl_1", x, c7), c7, 7);
    h = column(nn, "branch7x7dbl_4", row(nn, "branch7x7dbl_3", h, c7, 7), c7, 7);
    parts[2] = row(nn, "branch7x7dbl_5", h, 192, 7);
    parts[3] = pooled(nn, x, ED_WINDOW_MEAN, 192);
    return concat(nn, 4, parts);
}

static ed_value mixed_d(const ed_nn *outer, const char *name, ed_value x)
{
    ed_nn at = ed_nn_at(outer, "%s.", name), *nn = &at;
    ed_value parts[3] = {square(nn, "branch3x3_2", one(nn, "branch3x3_1", x, 192), 320, 3, 2, 0)};
    ed_value h = row(nn, "branch7x7x3_2", one(nn, "branch7x7x3_1", x, 192), 192, 7);
    parts[1] = square(nn, "branch7x7x3_4", column(nn, "branch7x7x3_3", h, 192, 7), 192, 3, 2, 0);
    parts[2] = halve(nn, x);
    return concat(nn, 3, parts);
}

static ed_value mixed_e(const ed_nn *outer, const char *name, ed_value x, ed_window_kind pool)
{
    ed_nn at = ed_nn_at(outer, "%s.", name), *nn = &at;
    ed_value parts[6] = {one(nn, "branch1x1", x, 320)};
    ed_value h = one(nn, "branch3x3_1", x, 384);
    parts[1] = row(nn, "branch3x3_2a", h, 384, 3);
    parts[2] = column(nn, "branch3x3_2b", h, 384, 3);
    h = square(nn, "branch3x3dbl_2", one(nn, "branch3x3dbl_1", x, 448), 384, 3, 1, 1);
    parts[3] = row(nn, "branch3x3dbl_3a", h, 384, 3);
    parts[4] = column(nn, "branch3x3dbl_3b", h, 384, 3);
    parts[5] = pooled(nn, x, pool, 192);
    return concat(nn, 6, parts);
}

ed_value ed_inception(ed_nn *nn, ed_value images)
{
    ed_value h = square(nn, "Conv2d_1a_3x3", images, 32, 3, 2, 0);
    h = square(nn, "Conv2d_2a_3x3", h, 32, 3, 1, 0);
    h = halve(nn, square(nn, "Conv2d_2b_3x3", h, 64, 3, 1, 1));
    h = one(nn, "Conv2d_3b_1x1", h, 80);
    h = halve(nn, square(nn, "Conv2d_4a_3x3", h, 192, 3, 1, 0));
    h = mixed_a(nn, "Mixed_5b", h, 32);
    h = mixed_a(nn, "Mixed_5c", h, 64);
    h = mixed_a(nn, "Mixed_5d", h, 64);
    h = mixed_b(nn, "Mixed_6a", h);
    h = mixed_c(nn, "Mixed_6b", h, 128);
    h = mixed_c(nn, "Mixed_6c", h, 160);
    h = mixed_c(nn, "Mixed_6d", h, 160);
    h = mixed_c(nn, "Mixed_6e", h, 192);
    h = mixed_d(nn, "Mixed_7a", h);
    h = mixed_e(nn, "Mixed_7b", h, ED_WINDOW_MEAN);
    h = mixed_e(nn, "Mixed_7c", h, ED_WINDOW_MAX);
    h = ed_sum_pool(nn->graph, h, 8, 1.0f / 64);
    return ed_reshape(nn->graph, h, ED_SHAPE2(ed_nn_dim(nn, images, 0), ED_INCEPTION_FEATURES));
}
