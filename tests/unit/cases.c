/*
 * The table of cases. Shapes are awkward on purpose: 1, odd sizes, not multiples of a vector's 8 or 16 lanes, more than
 * one block of whatever a kernel blocks by, and for the operators that matter one size as the networks have it.
 */
#include "cases.h"

#define UNPACK(...) __VA_ARGS__
#define CASE(id, name_, operands, ...)                                                                                 \
    {                                                                                                                  \
        .op = ED_OP_##id, .name = name_, .in = {UNPACK operands}, __VA_ARGS__                                          \
    }
#define SHAPE(...)                                                                                                     \
    {                                                                                                                  \
        sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), { __VA_ARGS__ }                                            \
    }
#define BATCH(...)                                                                                                     \
    {                                                                                                                  \
        .kind = BATCH, .shape = SHAPE(__VA_ARGS__)                                                                     \
    }
#define DATA(...)                                                                                                      \
    {                                                                                                                  \
        .kind = DATA, .shape = SHAPE(__VA_ARGS__)                                                                      \
    }
#define SHARED(...)                                                                                                    \
    {                                                                                                                  \
        .kind = SHARED, .shape = SHAPE(__VA_ARGS__)                                                                    \
    }
#define FIXED(...)                                                                                                     \
    {                                                                                                                  \
        .kind = FIXED, .shape = SHAPE(__VA_ARGS__)                                                                     \
    }
#define PART(...)                                                                                                      \
    {                                                                                                                  \
        .kind = PART, .shape = SHAPE(__VA_ARGS__)                                                                      \
    }
#define PARAM(...)                                                                                                     \
    {                                                                                                                  \
        .kind = PARAM, .shape = SHAPE(__VA_ARGS__)                                                                     \
    }
#define FROZEN(...)                                                                                                    \
    {                                                                                                                  \
        .kind = FROZEN, .shape = SHAPE(__VA_ARGS__)                                                                    \
    }
/* With values in a range of their own. */
#define FILLED(kind_, fill_, low_, high_, ...)                                                                         \
    {                                                                                                                  \
        .kind = kind_, .shape = SHAPE(__VA_ARGS__), .fill = fill_, .low = low_, .high = high_                          \
    }
#define NONE                                                                                                           \
    {                                                                                                                  \
        .kind = ABSENT                                                                                                 \
    }

/* Gains near 1 as norms have them, and running statistics. */
#define GAMMA(c) FILLED(PARAM, UNIFORM, 0.5f, 1.5f, c)
#define BETA(c) FILLED(PARAM, UNIFORM, -0.3f, 0.3f, c)
#define RUNNING_MEAN(c) FILLED(RUNNING, UNIFORM, -0.2f, 0.2f, c)
#define RUNNING_VAR(c) FILLED(RUNNING, UNIFORM, 0.5f, 2, c)

/* Latents near a code of the book, so that the choice is clear and a small step does not change it. */
static void near_codes(const op_case *c, float *const *data)
{
    int64_t codes = c->in[1].shape.dim[0], channels = c->in[1].shape.dim[1];
    for (int64_t i = 0; i < ed_shape_count(&c->in[0].shape); i++) {
        int64_t code = ed_below(5, ED_RANDOM_DATA, 0, (uint64_t)(i / channels), (uint32_t)codes);
        data[0][i] = 0.1f * data[0][i] + data[1][code * channels + i % channels];
    }
}

/* clang-format off */
const op_case op_cases[] = {
/* ---------------------------------------------------------------- conv2d */
CASE(CONV2D, "3x3", (BATCH(3, 5, 7, 3), PARAM(5, 3, 3, 3), PARAM(5), NONE), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "3x3 with residual", (BATCH(2, 4, 4, 8), PARAM(8, 3, 3, 8), PARAM(8), BATCH(2, 4, 4, 8)), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "3x3 without bias", (BATCH(2, 6, 5, 17), PARAM(9, 3, 3, 17), NONE, NONE), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "3x3 residual without bias", (BATCH(2, 3, 5, 4), PARAM(6, 3, 3, 4), NONE, BATCH(2, 3, 5, 6)), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "one pixel", (BATCH(1, 1, 1, 1), PARAM(1, 3, 3, 1), PARAM(1), NONE), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "2x2 image", (BATCH(3, 2, 2, 20), PARAM(24, 3, 3, 20), PARAM(24), NONE), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "1x1", (BATCH(2, 3, 3, 7), PARAM(11, 1, 1, 7), PARAM(11), NONE), .attr.conv = {1, 0, 0, 0, 0}),
CASE(CONV2D, "5x5 without padding", (BATCH(2, 7, 6, 3), PARAM(4, 5, 5, 3), PARAM(4), NONE), .attr.conv = {1, 0, 0, 0, 0}),
CASE(CONV2D, "stride 2, even", (BATCH(2, 8, 6, 5), PARAM(7, 3, 3, 5), PARAM(7), NONE), .attr.conv = {2, 1, 1, 1, 1}),
CASE(CONV2D, "stride 2, odd", (BATCH(2, 7, 5, 5), PARAM(7, 3, 3, 5), PARAM(7), NONE), .attr.conv = {2, 1, 1, 1, 1}),
CASE(CONV2D, "stride 2, padded below and right alone", (BATCH(2, 8, 8, 6), PARAM(6, 3, 3, 6), PARAM(6), NONE), .attr.conv = {2, 0, 0, 1, 1}),
CASE(CONV2D, "4x4 stride 2", (BATCH(3, 8, 8, 3), PARAM(9, 4, 4, 3), PARAM(9), NONE), .attr.conv = {2, 1, 1, 1, 1}),
CASE(CONV2D, "4x4 stride 1", (BATCH(2, 6, 6, 5), PARAM(1, 4, 4, 5), PARAM(1), NONE), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "stride 3 that skips the rest", (BATCH(1, 9, 8, 2), PARAM(3, 2, 2, 2), PARAM(3), NONE), .attr.conv = {3, 0, 0, 0, 0}),
CASE(CONV2D, "image without a gradient", (DATA(2, 5, 5, 3), PARAM(16, 3, 3, 3), PARAM(16), NONE), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "frozen weights", (BATCH(2, 5, 5, 3), FROZEN(8, 3, 3, 3), FROZEN(8), NONE), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "frozen bias", (BATCH(2, 5, 5, 3), PARAM(8, 3, 3, 3), FROZEN(8), NONE), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "as in the U-Net", (BATCH(3, 16, 16, 64), PARAM(64, 3, 3, 64), PARAM(64), BATCH(3, 16, 16, 64)), .attr.conv = {1, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "3x3 of many channels", (BATCH(3, 10, 8, 32), PARAM(40, 3, 3, 32), PARAM(40), BATCH(3, 10, 8, 40)), .attr.conv = {1, 1, 1, 1, 1}),
CASE(CONV2D, "3x3 of many channels, odd image", (BATCH(2, 9, 11, 40), PARAM(64, 3, 3, 40), PARAM(64), NONE), .attr.conv = {1, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "3x3 of many channels, odd height", (BATCH(3, 7, 14, 64), PARAM(32, 3, 3, 64), NONE, BATCH(3, 7, 14, 32)), .attr.conv = {1, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "3x3 of many channels, not whole vectors", (BATCH(2, 8, 9, 37), PARAM(51, 3, 3, 37), PARAM(51), BATCH(2, 8, 9, 51)), .attr.conv = {1, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "3x3 of many channels and tiles", (BATCH(5, 23, 16, 48), PARAM(33, 3, 3, 48), NONE, NONE), .attr.conv = {1, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "3x3 of many channels, frozen bias", (BATCH(3, 8, 8, 64), PARAM(64, 3, 3, 64), FROZEN(64), NONE), .attr.conv = {1, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "3x3 of many channels, small images", (BATCH(7, 4, 5, 64), PARAM(33, 3, 3, 64), PARAM(33), NONE), .attr.conv = {1, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "3x3 of many channels, whole tiles of 4x4", (BATCH(5, 12, 8, 37), PARAM(51, 3, 3, 37), PARAM(51), NONE), .attr.conv = {1, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "4x4 stride 2 of many channels", (BATCH(3, 16, 12, 32), PARAM(40, 4, 4, 32), PARAM(40), NONE), .attr.conv = {2, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "4x4 stride 2 of many channels, odd image", (BATCH(3, 13, 11, 37), PARAM(51, 4, 4, 37), NONE, BATCH(3, 6, 5, 51)), .attr.conv = {2, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "4x4 stride 2 of many channels and tiles", (BATCH(5, 32, 26, 33), PARAM(64, 4, 4, 33), PARAM(64), BATCH(5, 16, 13, 64)), .attr.conv = {2, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),
CASE(CONV2D, "1x7", (BATCH(2, 5, 9, 6), PARAM(7, 1, 7, 6), NONE, NONE), .attr.conv = {1, 0, 3, 0, 3}),
CASE(CONV2D, "7x1", (BATCH(2, 9, 5, 6), PARAM(7, 7, 1, 6), PARAM(7), NONE), .attr.conv = {1, 3, 0, 3, 0}),
CASE(CONV2D, "1x7 of many channels", (DATA(2, 17, 17, 128), FROZEN(160, 1, 7, 128), NONE, NONE), .attr.conv = {1, 0, 3, 0, 3}, .flags = NO_GRADIENT),
CASE(CONV2D, "7x1 of many channels", (DATA(2, 17, 17, 128), FROZEN(160, 7, 1, 128), NONE, NONE), .attr.conv = {1, 3, 0, 3, 0}, .flags = NO_GRADIENT),
CASE(CONV2D, "3x1 of many channels, small image", (DATA(2, 8, 8, 384), FROZEN(64, 3, 1, 384), NONE, NONE), .attr.conv = {1, 1, 0, 1, 0}, .flags = NO_GRADIENT),
CASE(CONV2D, "as in the U-Net's middle", (BATCH(5, 2, 2, 256), PARAM(256, 3, 3, 256), PARAM(256), NONE), .attr.conv = {1, 1, 1, 1, 1}, .flags = NO_DIFFERENCE),

/* ---------------------------------------------------------------- linear */
CASE(LINEAR, "plain", (BATCH(3, 5), PARAM(7, 5), PARAM(7), NONE)),
CASE(LINEAR, "one number", (BATCH(1, 1), PARAM(1, 1), PARAM(1), NONE)),
CASE(LINEAR, "tokens", (BATCH(3, 5, 17), PARAM(9, 17), PARAM(9), NONE)),
CASE(LINEAR, "pixels", (BATCH(2, 3, 5, 8), PARAM(16, 8), PARAM(16), NONE)),
CASE(LINEAR, "weights of a 1x1 convolution", (BATCH(2, 3, 5, 6), PARAM(10, 1, 1, 6), PARAM(10), BATCH(2, 3, 5, 10))),
CASE(LINEAR, "residual", (BATCH(2, 7, 12), PARAM(12, 12), PARAM(12), BATCH(2, 7, 12))),
CASE(LINEAR, "no bias", (BATCH(2, 7, 12), PARAM(5, 12), NONE, NONE)),
CASE(LINEAR, "residual without bias", (BATCH(2, 7, 12), PARAM(5, 12), NONE, BATCH(2, 7, 5))),
CASE(LINEAR, "x without a gradient", (DATA(4, 9), PARAM(3, 9), PARAM(3), NONE)),
CASE(LINEAR, "frozen weights", (BATCH(4, 9), FROZEN(3, 9), FROZEN(3), NONE)),
CASE(LINEAR, "frozen bias", (BATCH(4, 9), PARAM(3, 9), FROZEN(3), NONE)),
CASE(LINEAR, "computed weights", (BATCH(4, 9), SHARED(3, 9), SHARED(3), NONE)),
CASE(LINEAR, "as in the U-Net", (BATCH(3, 256, 64), PARAM(512, 64), PARAM(512), NONE), .flags = NO_DIFFERENCE),
CASE(LINEAR, "as the step embedding", (BATCH(5, 64), PARAM(256, 64), PARAM(256), NONE), .flags = NO_DIFFERENCE),

/* ---------------------------------------------------------------- batched linear */
CASE(BATCHED_LINEAR, "plain", (BATCH(3, 4, 5), PARAM(4, 7, 5), PARAM(4, 7))),
CASE(BATCHED_LINEAR, "one number", (BATCH(1, 1, 1), PARAM(1, 1, 1), PARAM(1, 1))),
CASE(BATCHED_LINEAR, "numbers to tokens", (BATCH(5, 20, 1), PARAM(20, 33, 1), PARAM(20, 33))),
CASE(BATCHED_LINEAR, "frozen weights", (BATCH(3, 2, 6), FROZEN(2, 3, 6), FROZEN(2, 3))),
CASE(BATCHED_LINEAR, "x without a gradient", (DATA(3, 2, 6), PARAM(2, 3, 6), PARAM(2, 3))),
CASE(BATCHED_LINEAR, "as in the concept encoder", (BATCH(9, 20, 16), PARAM(20, 16, 16), PARAM(20, 16)), .flags = NO_DIFFERENCE),

/* ---------------------------------------------------------------- group norm */
CASE(GROUP_NORM, "plain", (BATCH(3, 5, 3, 12), GAMMA(12), BETA(12), NONE), .attr.group_norm = {4, 1e-5f, ED_ACT_NONE}),
CASE(GROUP_NORM, "silu", (BATCH(3, 5, 3, 12), GAMMA(12), BETA(12), NONE), .attr.group_norm = {3, 1e-5f, ED_ACT_SILU}),
CASE(GROUP_NORM, "scale and shift", (BATCH(3, 4, 3, 12), GAMMA(12), BETA(12), BATCH(3, 24)), .attr.group_norm = {2, 1e-5f, ED_ACT_NONE}),
CASE(GROUP_NORM, "scale, shift and silu", (BATCH(2, 3, 3, 30), GAMMA(30), BETA(30), BATCH(2, 60)), .attr.group_norm = {5, 1e-5f, ED_ACT_SILU}),
CASE(GROUP_NORM, "scale and shift without a gradient", (BATCH(2, 3, 3, 8), GAMMA(8), BETA(8), DATA(2, 16)), .attr.group_norm = {2, 1e-5f, ED_ACT_SILU}),
CASE(GROUP_NORM, "residual gradient", (BATCH(2, 5, 5, 10), GAMMA(10), BETA(10), NONE), .attr.group_norm = {2, 1e-5f, ED_ACT_SILU}, .flags = SEED_INPUT),
CASE(GROUP_NORM, "all operands", (BATCH(2, 3, 5, 18), GAMMA(18), BETA(18), BATCH(2, 36)), .attr.group_norm = {3, 1e-5f, ED_ACT_SILU}, .flags = SEED_INPUT),
CASE(GROUP_NORM, "frozen", (BATCH(2, 3, 5, 6), FROZEN(6), FROZEN(6), NONE), .attr.group_norm = {3, 1e-5f, ED_ACT_SILU}, .flags = SEED_INPUT),
CASE(GROUP_NORM, "frozen gain", (BATCH(2, 3, 5, 6), FROZEN(6), BETA(6), NONE), .attr.group_norm = {3, 1e-5f, ED_ACT_NONE}),
CASE(GROUP_NORM, "frozen shift", (BATCH(2, 3, 5, 6), GAMMA(6), FROZEN(6), NONE), .attr.group_norm = {3, 1e-5f, ED_ACT_NONE}),
CASE(GROUP_NORM, "one group", (BATCH(2, 3, 3, 7), GAMMA(7), BETA(7), NONE), .attr.group_norm = {1, 1e-5f, ED_ACT_SILU}),
CASE(GROUP_NORM, "groups of two channels", (BATCH(2, 3, 5, 64), GAMMA(64), BETA(64), NONE), .attr.group_norm = {32, 1e-5f, ED_ACT_SILU}),
CASE(GROUP_NORM, "groups of one channel", (BATCH(2, 3, 5, 32), GAMMA(32), BETA(32), NONE), .attr.group_norm = {32, 1e-6f, ED_ACT_NONE}),
CASE(GROUP_NORM, "groups of three channels", (BATCH(2, 4, 4, 96), GAMMA(96), BETA(96), NONE), .attr.group_norm = {32, 1e-5f, ED_ACT_SILU}, .flags = SEED_INPUT),
CASE(GROUP_NORM, "tokens", (BATCH(2, 7, 12), GAMMA(12), BETA(12), NONE), .attr.group_norm = {4, 1e-5f, ED_ACT_NONE}),
CASE(GROUP_NORM, "vectors", (BATCH(3, 12), GAMMA(12), BETA(12), NONE), .attr.group_norm = {2, 1e-5f, ED_ACT_NONE}),
/* One pass in f32 would lose the variance here: the mean is a hundred times the deviation. */
CASE(GROUP_NORM, "far from zero", (FILLED(BATCH, UNIFORM, 99, 101, 2, 5, 5, 16), GAMMA(16), BETA(16), NONE), .attr.group_norm = {4, 1e-5f, ED_ACT_NONE}, .bf16_tolerance = 0.4 /* of x */,
 .forward_tolerance = 1e-4, .gradient_tolerance = 1e-4 /* x itself has 100 * 2^-24 = 6e-6 of its deviation */, .flags = NO_DIFFERENCE),
CASE(GROUP_NORM, "as in the U-Net", (BATCH(3, 16, 16, 64), GAMMA(64), BETA(64), BATCH(3, 128)), .attr.group_norm = {32, 1e-5f, ED_ACT_SILU}, .flags = NO_DIFFERENCE),
CASE(GROUP_NORM, "as in the decoder", (BATCH(1, 32, 32, 128), GAMMA(128), BETA(128), NONE), .attr.group_norm = {32, 1e-6f, ED_ACT_SILU}, .flags = NO_DIFFERENCE),

/* ---------------------------------------------------------------- layer norm */
CASE(LAYER_NORM, "plain", (BATCH(3, 5, 7), GAMMA(7), BETA(7)), .attr.layer_norm = {1e-5f}),
CASE(LAYER_NORM, "residual gradient", (BATCH(2, 5, 19), GAMMA(19), BETA(19)), .attr.layer_norm = {1e-5f}, .flags = SEED_INPUT),
CASE(LAYER_NORM, "frozen", (BATCH(2, 5, 19), FROZEN(19), FROZEN(19)), .attr.layer_norm = {1e-5f}),
CASE(LAYER_NORM, "frozen gain", (BATCH(2, 5, 9), FROZEN(9), BETA(9)), .attr.layer_norm = {1e-5f}),
CASE(LAYER_NORM, "frozen shift", (BATCH(2, 5, 9), GAMMA(9), FROZEN(9)), .attr.layer_norm = {1e-5f}, .flags = SEED_INPUT),
CASE(LAYER_NORM, "two channels", (BATCH(5, 2), GAMMA(2), BETA(2)), .attr.layer_norm = {0.1f}),
CASE(LAYER_NORM, "far from zero", (FILLED(BATCH, UNIFORM, 99, 101, 3, 5, 40), GAMMA(40), BETA(40)), .attr.layer_norm = {1e-5f}, .bf16_tolerance = 0.4 /* of x */,
 .forward_tolerance = 1e-4, .gradient_tolerance = 1e-4 /* x itself has 100 * 2^-24 = 6e-6 of its deviation */, .flags = NO_DIFFERENCE),
CASE(LAYER_NORM, "as in the U-Net", (BATCH(3, 256, 64), GAMMA(64), BETA(64)), .attr.layer_norm = {1e-5f}, .flags = NO_DIFFERENCE | SEED_INPUT),

/* ---------------------------------------------------------------- batch norm */
CASE(BATCH_NORM, "plain", (BATCH(5, 3, 3, 7), GAMMA(7), BETA(7), RUNNING_MEAN(7), RUNNING_VAR(7)), .attr.batch_norm = {1e-5f, 0.1f, true, ED_ACT_NONE, 0}),
/* Inputs of both signs and gains near 1 keep what the activation sees away from its kink. */
CASE(BATCH_NORM, "relu", (FILLED(BATCH, APART, 0.6f, 1, 7, 2, 3, 5), GAMMA(5), FILLED(PARAM, UNIFORM, -0.05f, 0.05f, 5), RUNNING_MEAN(5), RUNNING_VAR(5)), .attr.batch_norm = {1e-5f, 0.1f, true, ED_ACT_RELU, 0}),
CASE(BATCH_NORM, "leaky relu", (FILLED(BATCH, APART, 0.6f, 1, 7, 2, 3, 5), GAMMA(5), FILLED(PARAM, UNIFORM, -0.05f, 0.05f, 5), RUNNING_MEAN(5), RUNNING_VAR(5)), .attr.batch_norm = {1e-5f, 0.1f, true, ED_ACT_LEAKY_RELU, 0.2f}),
CASE(BATCH_NORM, "elu", (BATCH(4, 3, 3, 17), GAMMA(17), BETA(17), RUNNING_MEAN(17), RUNNING_VAR(17)), .attr.batch_norm = {1e-5f, 0.01f, true, ED_ACT_ELU, 0}),
CASE(BATCH_NORM, "silu", (BATCH(4, 3, 2, 9), GAMMA(9), BETA(9), RUNNING_MEAN(9), RUNNING_VAR(9)), .attr.batch_norm = {1e-5f, 0.5f, true, ED_ACT_SILU, 0}),
CASE(BATCH_NORM, "vectors", (BATCH(7, 11), GAMMA(11), BETA(11), RUNNING_MEAN(11), RUNNING_VAR(11)), .attr.batch_norm = {1e-5f, 0.1f, true, ED_ACT_NONE, 0}),
CASE(BATCH_NORM, "frozen", (BATCH(5, 3, 3, 7), FROZEN(7), FROZEN(7), RUNNING_MEAN(7), RUNNING_VAR(7)), .attr.batch_norm = {1e-5f, 0.1f, true, ED_ACT_NONE, 0}),
CASE(BATCH_NORM, "running statistics", (DATA(3, 3, 3, 7), GAMMA(7), BETA(7), RUNNING_MEAN(7), RUNNING_VAR(7)), .attr.batch_norm = {1e-5f, 0.1f, false, ED_ACT_LEAKY_RELU, 0.2f}, .flags = NO_GRADIENT),
CASE(BATCH_NORM, "far from zero", (FILLED(BATCH, UNIFORM, 99, 101, 4, 3, 3, 9), GAMMA(9), BETA(9), RUNNING_MEAN(9), RUNNING_VAR(9)), .attr.batch_norm = {1e-5f, 0.1f, true, ED_ACT_NONE, 0}, .bf16_tolerance = 0.4 /* of x */,
 .forward_tolerance = 1e-4, .gradient_tolerance = 1e-4 /* x itself has 100 * 2^-24 = 6e-6 of its deviation */, .flags = NO_DIFFERENCE),
CASE(BATCH_NORM, "as in the concept encoder", (BATCH(8, 16, 16, 64), GAMMA(64), BETA(64), RUNNING_MEAN(64), RUNNING_VAR(64)), .attr.batch_norm = {1e-5f, 0.1f, true, ED_ACT_NONE, 0}, .flags = NO_DIFFERENCE),

/* ---------------------------------------------------------------- attention */
CASE(ATTENTION, "one head", (BATCH(2, 5, 6), BATCH(2, 5, 6), BATCH(2, 5, 6)), .attr.attention = {1, 0.408248f}),
CASE(ATTENTION, "three heads", (BATCH(3, 7, 15), BATCH(3, 4, 15), BATCH(3, 4, 15)), .attr.attention = {3, 0.447214f}),
/* The only probability is 1 whatever q and k are: their gradients are differences of numbers near 1. */
CASE(ATTENTION, "one position, one token", (BATCH(1, 1, 4), BATCH(1, 1, 4), BATCH(1, 1, 4)), .attr.attention = {2, 0.707107f}, .scale = 1),
CASE(ATTENTION, "channels of one", (BATCH(2, 9, 4), BATCH(2, 3, 4), BATCH(2, 3, 4)), .attr.attention = {4, 1}),
CASE(ATTENTION, "17 queries, 33 keys", (BATCH(2, 17, 16), BATCH(2, 33, 16), BATCH(2, 33, 16)), .attr.attention = {2, 0.353553f}),
CASE(ATTENTION, "keys without a gradient", (BATCH(2, 6, 8), DATA(2, 5, 8), DATA(2, 5, 8)), .attr.attention = {2, 0.5f}),
CASE(ATTENTION, "head size 20", (BATCH(2, 19, 40), BATCH(2, 10, 40), BATCH(2, 10, 40)), .attr.attention = {2, 0.223607f}),
CASE(ATTENTION, "head size 48", (BATCH(2, 5, 48), BATCH(2, 5, 48), BATCH(2, 5, 48)), .attr.attention = {1, 0.144338f}),
CASE(ATTENTION, "head size 64", (BATCH(1, 21, 64), BATCH(1, 21, 64), BATCH(1, 21, 64)), .attr.attention = {1, 0.125f}),
CASE(ATTENTION, "head size 512", (BATCH(1, 9, 512), BATCH(1, 9, 512), BATCH(1, 9, 512)), .attr.attention = {1, 0.0441942f}, .flags = NO_DIFFERENCE),
/* Scores up to a few hundred: exp of them overflows unless the largest is taken away first. */
CASE(ATTENTION, "large scores", (FILLED(BATCH, UNIFORM, -20, 20, 2, 9, 8), FILLED(BATCH, UNIFORM, -20, 20, 2, 11, 8), BATCH(2, 11, 8)), .attr.attention = {1, 0.353553f}, .bf16_tolerance = 0.2 /* dy y cancels */,
 .gradient_tolerance = 1e-4 /* scores of 300 in f32 are wrong by 300 * 2^-24 = 2e-5, and so are their exps */, .flags = NO_DIFFERENCE),
CASE(ATTENTION, "as self attention of the U-Net", (BATCH(2, 256, 64), BATCH(2, 256, 64), BATCH(2, 256, 64)), .attr.attention = {8, 0.353553f}, .flags = NO_DIFFERENCE),
CASE(ATTENTION, "as cross attention of the U-Net", (BATCH(3, 256, 64), BATCH(3, 20, 64), BATCH(3, 20, 64)), .attr.attention = {8, 0.353553f}, .flags = NO_DIFFERENCE),
CASE(ATTENTION, "as in the U-Net's middle", (BATCH(5, 4, 256), BATCH(5, 20, 256), BATCH(5, 20, 256)), .attr.attention = {8, 0.176777f}, .flags = NO_DIFFERENCE),
CASE(ATTENTION_MAP, "three heads", (DATA(3, 7, 15), DATA(3, 4, 15)), .attr.attention = {3, 0.447214f}, .flags = NO_GRADIENT),
CASE(ATTENTION_MAP, "one", (DATA(1, 1, 1), DATA(1, 1, 1)), .attr.attention = {1, 1}, .flags = NO_GRADIENT),
CASE(ATTENTION_MAP, "as in the U-Net", (DATA(2, 256, 64), DATA(2, 20, 64)), .attr.attention = {8, 0.353553f}, .flags = NO_GRADIENT),

/* ---------------------------------------------------------------- pointwise */
CASE(ACTIVATION, "none", (BATCH(3, 5)), .attr.activation = {ED_ACT_NONE, 0}),
CASE(ACTIVATION, "relu", (FILLED(BATCH, APART, 0.1f, 1, 3, 5, 7)), .attr.activation = {ED_ACT_RELU, 0}),
CASE(ACTIVATION, "leaky relu", (FILLED(BATCH, APART, 0.1f, 1, 3, 3, 2, 19)), .attr.activation = {ED_ACT_LEAKY_RELU, 0.2f}),
CASE(ACTIVATION, "silu", (FILLED(BATCH, UNIFORM, -6, 6, 3, 37)), .attr.activation = {ED_ACT_SILU, 0}),
CASE(ACTIVATION, "silu far out", (FILLED(BATCH, UNIFORM, -120, 120, 2, 4, 4, 33)), .attr.activation = {ED_ACT_SILU, 0}, .flags = NO_DIFFERENCE),
CASE(ACTIVATION, "elu", (FILLED(BATCH, APART, 0.1f, 5, 3, 37)), .attr.activation = {ED_ACT_ELU, 0}),
CASE(ACTIVATION, "elu near zero", (FILLED(BATCH, APART, 1e-6f, 1e-3f, 1, 37)), .attr.activation = {ED_ACT_ELU, 0}, .flags = NO_DIFFERENCE),
CASE(ACTIVATION, "one number", (BATCH(1, 1)), .attr.activation = {ED_ACT_SILU, 0}),
CASE(GEGLU, "plain", (FILLED(BATCH, UNIFORM, -4, 4, 3, 5, 14))),
CASE(GEGLU, "two channels", (BATCH(3, 2))),
CASE(GEGLU, "far out", (FILLED(BATCH, UNIFORM, -30, 30, 2, 3, 70)), .flags = NO_DIFFERENCE),
CASE(GEGLU, "as in the U-Net", (FILLED(BATCH, UNIFORM, -3, 3, 2, 256, 512)), .flags = NO_DIFFERENCE),
CASE(ADD, "plain", (BATCH(3, 5, 7), BATCH(3, 5, 7))),
CASE(ADD, "one side without a gradient", (BATCH(3, 19), DATA(3, 19))),
CASE(ADD_VECTOR, "pixels", (BATCH(3, 3, 5, 7), BATCH(3, 7))),
CASE(ADD_VECTOR, "tokens", (BATCH(3, 5, 18), BATCH(3, 18))),
CASE(ADD_VECTOR, "vectors", (BATCH(3, 4), BATCH(3, 4))),
CASE(ADD_VECTOR, "as in the U-Net", (BATCH(3, 16, 16, 64), BATCH(3, 64)), .flags = NO_DIFFERENCE),
CASE(CHANNEL_AFFINE, "plain", (BATCH(3, 3, 5, 3), FIXED(3), FIXED(3))),
CASE(CHANNEL_AFFINE, "many channels", (BATCH(2, 21), FIXED(21), FIXED(21))),
CASE(SCALE, "plain", (BATCH(3, 5, 7)), .attr.scale = {-1.75f}),
CASE(SCALE_BY, "plain", (BATCH(3, 5, 7), FIXED(1))),
CASE(CONCAT, "plain", (BATCH(3, 2, 3, 5), BATCH(3, 2, 3, 7))),
CASE(CONCAT, "one channel", (BATCH(3, 1), BATCH(3, 18))),
CASE(CONCAT, "one side without a gradient", (DATA(3, 2, 16), BATCH(3, 2, 8))),
CASE(SLICE, "front", (BATCH(3, 2, 3, 7)), .attr.slice = {0, 3}),
CASE(SLICE, "middle", (BATCH(3, 5, 19)), .attr.slice = {3, 12}),
CASE(SLICE, "back", (BATCH(3, 16)), .attr.slice = {8, 16}),
CASE(SLICE, "all", (BATCH(3, 5)), .attr.slice = {0, 5}),
CASE(DROPOUT, "plain", (BATCH(5, 3, 3, 7)), .attr.dropout = {0.3f, 5}),
CASE(DROPOUT, "nothing is dropped", (BATCH(3, 11)), .attr.dropout = {0, 0}),
CASE(DROPOUT, "nearly everything", (BATCH(3, 45)), .attr.dropout = {0.9f, 4095}),
CASE(ZEROS, "plain", (NONE), .given = SHAPE(3, 5, 7), .flags = NO_GRADIENT),
CASE(CONVERT, "to bf16", (BATCH(3, 5, 7)), .attr.typed = {ED_BF16}, .flags = NO_DIFFERENCE /* a staircase */),
CASE(CONVERT, "to f32", (BATCH(2, 71)), .attr.typed = {ED_F32}),
CASE(RESHAPE, "pixels to tokens", (BATCH(3, 2, 5, 7)), .given = SHAPE(3, 10, 7)),
CASE(RESHAPE, "flat", (BATCH(3, 2, 5, 7)), .given = SHAPE(3, 70)),

/* ---------------------------------------------------------------- resampling */
CASE(UPSAMPLE, "by 2", (BATCH(3, 2, 5, 7)), .attr.resample = {2, 1}),
CASE(UPSAMPLE, "by 3, scaled", (BATCH(2, 3, 1, 18)), .attr.resample = {3, 0.25f}),
CASE(UPSAMPLE, "by 1", (BATCH(2, 3, 1, 3)), .attr.resample = {1, 2}),
CASE(UPSAMPLE, "as in the U-Net", (BATCH(2, 8, 8, 128)), .attr.resample = {2, 1}, .flags = NO_DIFFERENCE),
CASE(POOL, "mean of 2x2", (BATCH(3, 4, 6, 7)), .attr.resample = {2, 0.25f}),
CASE(POOL, "sum of 3x3", (BATCH(2, 3, 6, 18)), .attr.resample = {3, 1}),
CASE(POOL, "4x4 of an image", (BATCH(2, 16, 16, 3)), .attr.resample = {4, 0.0625f}),
CASE(MAX_POOL, "even", (FILLED(BATCH, DISTINCT, -6, 6, 3, 4, 4, 2))),
CASE(MAX_POOL, "odd", (FILLED(BATCH, DISTINCT, -8, 8, 1, 5, 7, 3))),
CASE(MAX_POOL, "one window", (FILLED(BATCH, DISTINCT, -1, 1, 1, 2, 2, 1))),
/* Ties: the first maximum gets the gradient. */
CASE(MAX_POOL, "ties", (FILLED(BATCH, WHOLE, 0, 3, 3, 6, 6, 17)), .flags = NO_DIFFERENCE),
CASE(MAX_POOL, "as in VGG", (BATCH(1, 16, 16, 64)), .flags = NO_DIFFERENCE),
CASE(WINDOW_POOL, "largest of 3x3, stride 2", (DATA(3, 7, 9, 5)), .attr.window = {ED_WINDOW_MAX, 3, 2, 0}, .flags = NO_GRADIENT),
CASE(WINDOW_POOL, "largest of 3x3, padded, all negative", (FILLED(DATA, UNIFORM, -2, -1, 3, 5, 6, 19)), .attr.window = {ED_WINDOW_MAX, 3, 1, 1}, .flags = NO_GRADIENT),
CASE(WINDOW_POOL, "mean of 3x3, padded", (DATA(3, 5, 6, 19)), .attr.window = {ED_WINDOW_MEAN, 3, 1, 1}, .flags = NO_GRADIENT),
CASE(WINDOW_POOL, "mean of 3x3 of one pixel", (DATA(2, 1, 1, 3)), .attr.window = {ED_WINDOW_MEAN, 3, 1, 1}, .flags = NO_GRADIENT),
CASE(WINDOW_POOL, "mean of 4x4, stride 3, rows left over", (DATA(2, 9, 6, 16)), .attr.window = {ED_WINDOW_MEAN, 4, 3, 2}, .flags = NO_GRADIENT),
CASE(WINDOW_POOL, "one pixel", (DATA(3, 1, 1, 1)), .attr.window = {ED_WINDOW_MAX, 1, 1, 0}, .flags = NO_GRADIENT),
CASE(WINDOW_POOL, "as in Inception", (DATA(1, 35, 35, 192)), .attr.window = {ED_WINDOW_MEAN, 3, 1, 1}, .flags = NO_GRADIENT),

/* ---------------------------------------------------------------- diffusion */
CASE(TIMESTEP_EMBEDDING, "even", (FILLED(DATA, WHOLE, 0, 1000, 5)), .given = SHAPE(5, 64), .flags = NO_GRADIENT,
 .forward_tolerance = 3e-5 /* angles of up to 1000 in f32 are wrong by up to 1000 * 2^-24 = 6e-5 */),
CASE(TIMESTEP_EMBEDDING, "odd", (FILLED(DATA, WHOLE, 0, 1000, 3)), .given = SHAPE(3, 7), .flags = NO_GRADIENT,
 .forward_tolerance = 3e-5 /* as above */),
CASE(TIMESTEP_EMBEDDING, "two", (FILLED(DATA, WHOLE, 0, 1000, 3)), .given = SHAPE(3, 2), .flags = NO_GRADIENT,
 .forward_tolerance = 3e-5 /* as above */),
CASE(Q_SAMPLE, "images", (DATA(3, 3, 5, 7), DATA(3, 3, 5, 7), DATA(3, 2)), .flags = NO_GRADIENT),
CASE(Q_SAMPLE, "one number each", (DATA(5, 1), DATA(5, 1), DATA(5, 2)), .flags = NO_GRADIENT),

/* ---------------------------------------------------------------- losses */
CASE(DIFFERENCE_LOSS, "l2", (BATCH(3, 3, 5, 7), DATA(3, 3, 5, 7)), .attr.difference = {ED_LOSS_L2}),
CASE(DIFFERENCE_LOSS, "l1", (FILLED(BATCH, APART, 0.5f, 1, 3, 3, 5, 7), FILLED(DATA, UNIFORM, -0.4f, 0.4f, 3, 3, 5, 7)), .attr.difference = {ED_LOSS_L1}),
CASE(DIFFERENCE_LOSS, "l1 of equals", (FILLED(BATCH, WHOLE, 0, 2, 2, 37), FILLED(DATA, WHOLE, 0, 2, 2, 37)), .attr.difference = {ED_LOSS_L1}, .flags = NO_DIFFERENCE),
CASE(DIFFERENCE_LOSS, "one number each", (BATCH(3, 1), DATA(3, 1)), .attr.difference = {ED_LOSS_L2}),
CASE(DIFFERENCE_LOSS, "as latents", (BATCH(3, 16, 16, 3), DATA(3, 16, 16, 3)), .attr.difference = {ED_LOSS_L1}, .flags = NO_DIFFERENCE),
CASE(MEAN_LOSS, "negative", (BATCH(3, 3, 5, 1)), .attr.mean = {ED_MEAN_NEGATIVE}),
CASE(MEAN_LOSS, "hinge of real", (FILLED(BATCH, APART, 1.2f, 3, 3, 3, 5, 1)), .attr.mean = {ED_MEAN_HINGE_REAL}),
CASE(MEAN_LOSS, "hinge of fake", (FILLED(BATCH, APART, 1.2f, 3, 3, 3, 5, 1)), .attr.mean = {ED_MEAN_HINGE_FAKE}),
CASE(MEAN_LOSS, "hinge of real between the kinks", (FILLED(BATCH, UNIFORM, -0.9f, 0.9f, 3, 7)), .attr.mean = {ED_MEAN_HINGE_REAL}),
CASE(MEAN_LOSS, "hinge of fake between the kinks", (FILLED(BATCH, UNIFORM, -0.9f, 0.9f, 3, 7)), .attr.mean = {ED_MEAN_HINGE_FAKE}),
CASE(MEAN_LOSS, "softplus of real", (FILLED(BATCH, UNIFORM, -5, 5, 3, 19)), .attr.mean = {ED_MEAN_SOFTPLUS_REAL}),
CASE(MEAN_LOSS, "softplus of fake", (FILLED(BATCH, UNIFORM, -5, 5, 3, 19)), .attr.mean = {ED_MEAN_SOFTPLUS_FAKE}),
CASE(MEAN_LOSS, "softplus far out", (FILLED(BATCH, UNIFORM, -200, 200, 3, 19)), .attr.mean = {ED_MEAN_SOFTPLUS_FAKE}, .flags = NO_DIFFERENCE),

/* ---------------------------------------------------------------- quantisation, sampling, perceptual distance */
/* The straight-through gradient is no derivative, and each half of the loss has one for its side only; so differences
 * are taken of the loss, with one half and the other side's gradient left out. */
CASE(QUANTIZE, "commitment", (BATCH(2, 3, 2, 3), FILLED(FROZEN, UNIFORM, -4, 4, 5, 3)), .attr.quantize = {0.25f, 0}, .seeded = 4, .tune = near_codes),
CASE(QUANTIZE, "codebook", (DATA(2, 3, 2, 3), FILLED(PARAM, UNIFORM, -4, 4, 5, 3)), .attr.quantize = {0, 1.5f}, .seeded = 4, .tune = near_codes),
CASE(QUANTIZE, "both", (BATCH(3, 3, 5, 3), PARAM(37, 3)), .attr.quantize = {0.25f, 1}, .seeded = 5, .flags = NO_DIFFERENCE, .tune = near_codes),
CASE(QUANTIZE, "straight through alone", (BATCH(3, 3, 5, 3), PARAM(37, 3)), .attr.quantize = {0.25f, 1}, .seeded = 1, .flags = NO_DIFFERENCE, .tune = near_codes),
CASE(QUANTIZE, "frozen codebook", (BATCH(3, 3, 5, 3), FROZEN(37, 3)), .attr.quantize = {0.25f, 1}, .seeded = 5, .flags = NO_DIFFERENCE, .tune = near_codes),
CASE(QUANTIZE, "one code, one channel", (BATCH(1, 1, 1, 1), PARAM(1, 1)), .attr.quantize = {1, 0.25f}, .seeded = 5, .flags = NO_DIFFERENCE, .tune = near_codes),
/* Whole numbers make exact ties: the lowest index wins. */
CASE(QUANTIZE, "ties", (FILLED(BATCH, WHOLE, -2, 3, 3, 4, 5, 2), FILLED(PARAM, WHOLE, -2, 3, 40, 2)), .attr.quantize = {0.25f, 1}, .seeded = 5, .flags = NO_DIFFERENCE),
CASE(QUANTIZE, "as in the autoencoder", (BATCH(2, 16, 16, 3), PARAM(2048, 3)), .attr.quantize = {0.25f, 1}, .seeded = 5, .flags = NO_DIFFERENCE, .tune = near_codes),
CASE(GAUSSIAN_SAMPLE, "plain", (BATCH(3, 2, 3, 10), DATA(3, 2, 3, 5)), .seeded = 3),
CASE(GAUSSIAN_SAMPLE, "sample alone", (BATCH(3, 2, 3, 8), DATA(3, 2, 3, 4)), .seeded = 1),
CASE(GAUSSIAN_SAMPLE, "divergence alone", (BATCH(3, 2, 3, 8), DATA(3, 2, 3, 4)), .seeded = 2),
CASE(GAUSSIAN_SAMPLE, "clamped below", (FILLED(BATCH, UNIFORM, -40, -31, 2, 3, 2, 4), DATA(2, 3, 2, 2)), .seeded = 3),
CASE(GAUSSIAN_SAMPLE, "clamped here and there", (FILLED(BATCH, UNIFORM, -60, 40, 2, 5, 3, 34), DATA(2, 5, 3, 17)), .seeded = 3, .flags = NO_DIFFERENCE),
CASE(LPIPS_DISTANCE, "plain", (DATA(3, 2, 3, 5), BATCH(3, 2, 3, 5), FILLED(FROZEN, UNIFORM, 0, 1, 5))),
/* A positive number of unit length is 1: distance and gradient are differences of numbers near 1. */
CASE(LPIPS_DISTANCE, "one channel", (FILLED(DATA, UNIFORM, 0.5f, 1, 2, 2, 3, 1), FILLED(BATCH, UNIFORM, 0.5f, 1, 2, 2, 3, 1), FILLED(FROZEN, UNIFORM, 0, 1, 1)), .scale = 1),
/* Features after a ReLU: many are exactly zero, and some positions wholly. */
CASE(LPIPS_DISTANCE, "zero features", (FILLED(DATA, WHOLE, 0, 2, 2, 5, 5, 2), FILLED(BATCH, WHOLE, 0, 2, 2, 5, 5, 2), FILLED(FROZEN, UNIFORM, 0, 1, 2)), .flags = NO_DIFFERENCE),
CASE(LPIPS_DISTANCE, "as in VGG", (FILLED(DATA, UNIFORM, 0, 1, 2, 8, 8, 128), FILLED(BATCH, UNIFORM, 0, 1, 2, 8, 8, 128), FILLED(FROZEN, UNIFORM, 0, 0.1f, 128)), .flags = NO_DIFFERENCE),
CASE(ADAPTIVE_WEIGHT, "plain", (PART(3, 3, 3, 5), PART(3, 3, 3, 5), FIXED(1)), .flags = NO_GRADIENT),
CASE(ADAPTIVE_WEIGHT, "one number", (PART(1), PART(1), FIXED(1)), .flags = NO_GRADIENT),
CASE(ADAPTIVE_WEIGHT, "bounded", (PART(33), FILLED(PART, UNIFORM, 0, 1e-12f, 33), FIXED(1)), .flags = NO_GRADIENT),
};
/* clang-format on */

const size_t op_case_count = sizeof op_cases / sizeof op_cases[0];
