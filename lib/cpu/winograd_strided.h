/*
 * What winograd_strided.c and winograd_strided_weight.c share: 4x4 kernels of stride 2 and padding 1 by Winograd's
 * algorithm.
 *
 * Output row y reads input rows 2 y - 1 .. 2 y + 2. Of the odd rows, X_0[i] = x[2 i - 1], and the even ones,
 * X_1[i] = x[2 i], it reads two each: y = X_b[y] g[b] + X_b[y + 1] g[2 + b], summed over both b. Along both sides of
 * the image that makes four phases of 2x2 kernels with stride 1, which F(4x4,2x2) computes with 25 products instead of
 * 64. Evaluated at a, -a, b, -b and infinity, a = 1/2 and b = 3/2, s = a^2 + b^2, q = a^2 b^2:
 *
 *   B^T = -a b^2  -b^2   a  1  0     G = -1/2 -1/4     A^T = 1    1    1    1   0
 *          a b^2  -b^2  -a  1  0          1/2 -1/4           a   -a    b   -b   0
 *         -a^2 b  -a^2   b  1  0          1/6  1/4           a^2  a^2  b^2  b^2 0
 *          a^2 b  -a^2  -b  1  0         -1/6  1/4           a^3 -a^3  b^3 -b^3 1
 *            q      0   -s  0  1           0    1
 *
 * These points have an error of 1.0e-6 (256 channels, root of the mean square), 0, 1, -1 and 2 have 1.9e-6 and a direct
 * sum 0.6e-6.
 */
#ifndef ED_CPU_WINOGRAD_STRIDED_H
#define ED_CPU_WINOGRAD_STRIDED_H

#include "cpu/winograd.h"

#define ED_STRIDED_SIDE 4 /* outputs along a tile's, and one more input of a phase */
#define ED_STRIDED_PLANES 25
#define ED_STRIDED_PHASES 4
#define ED_STRIDED_TAPS 16

#define ED_STRIDED_A 0.5f
#define ED_STRIDED_B 1.5f
#define ED_STRIDED_A2 0.25f
#define ED_STRIDED_B2 2.25f

typedef struct ed_strided {
    int64_t h, w, c, o; /* x[n,h,w,c] */
    ed_winograd y;      /* the outputs y[n,h,w,o], in tiles of 4x4 */
} ed_strided;

/* Describes the convolution of x by w to y; false where it is not one of 4x4, stride 2 and padding 1 of many channels,
 * or where tiles are mostly outside of the image. */
ED_INLINE bool ed_strided_describe(const ed_graph *graph, const ed_node *node, ed_value x, ed_value w, ed_value y,
                                   ed_strided *g)
{
    const int64_t *xd = ed_graph_shape(graph, x)->dim, *wd = ed_graph_shape(graph, w)->dim;
    const int64_t *yd = ed_graph_shape(graph, y)->dim, side = ED_STRIDED_SIDE;
    *g = (ed_strided){.h = xd[1], .w = xd[2], .c = xd[3], .o = wd[0]};
    g->y = (ed_winograd){.n = yd[0], .h = yd[1], .w = yd[2], .c = g->c, .o = g->o, .side = side};
    g->y.high = (g->y.h + side - 1) / side, g->y.wide = (g->y.w + side - 1) / side;
    g->y.tiles = g->y.n * g->y.high * g->y.wide;
    bool suits = node->attr.conv.stride == 2 && node->attr.conv.pad_top == 1 && node->attr.conv.pad_left == 1;
    bool filled = g->y.high * g->y.wide * side * side * 4 <= g->y.h * g->y.w * 9;
    return suits && wd[1] == 4 && wd[2] == 4 && g->c >= 32 && g->o >= 32 && filled;
}

/* out = B^T in, of vectors `pitch` apart. */
ED_INLINE void ed_strided_inputs(const ed_vec *in, int pitch, ed_vec out[5])
{
    ed_vec d0 = in[0], d1 = in[pitch], d2 = in[2 * pitch], d3 = in[3 * pitch], d4 = in[4 * pitch];
    ed_vec even = d3 - ED_STRIDED_B2 * d1, odd = ED_STRIDED_A * d2 - ED_STRIDED_A * ED_STRIDED_B2 * d0;
    out[0] = even + odd;
    out[1] = even - odd;
    even = d3 - ED_STRIDED_A2 * d1, odd = ED_STRIDED_B * d2 - ED_STRIDED_B * ED_STRIDED_A2 * d0;
    out[2] = even + odd;
    out[3] = even - odd;
    out[4] = d4 + (ED_STRIDED_A2 * ED_STRIDED_B2 * d0 - (ED_STRIDED_A2 + ED_STRIDED_B2) * d2);
}

/* B^T d B at channels j .. j+lanes-1. */
ED_INLINE void ed_strided_input_lanes(const ed_item *const *pixels, int64_t j, float *to, int64_t plane, int lanes)
{
    ed_vec columns[5][5];
    for (int k = 0; k < 5; k++) {
        ed_vec d[5];
        for (int i = 0; i < 5; i++) d[i] = ed_load_some(pixels[5 * i + k] + j, lanes);
        ed_strided_inputs(d, 1, columns[k]);
    }
    for (int i = 0; i < 5; i++, to += 5 * plane) {
        ed_vec out[5];
        ed_strided_inputs(&columns[0][i], 5, out);
        for (int k = 0; k < 5; k++) ed_store_some(to + k * plane + j, out[k], lanes);
    }
}

/* The 5x5 pixels of a phase that a tile reads, `outside` for those that the image lacks. */
ED_INLINE void ed_phase_pixels(const ed_strided *p, const ed_tile_at *at, int phase, const ed_item *x,
                               const ed_item *outside, const ed_item *pixels[25])
{
    for (int i = 0; i < 5; i++) {
        int64_t row = 2 * (ED_STRIDED_SIDE * at->y + i) - 1 + phase / 2;
        const ed_item *line = x + (at->image * p->h + row) * p->w * p->c;
        for (int k = 0; k < 5; k++) {
            int64_t column = 2 * (ED_STRIDED_SIDE * at->x + k) - 1 + phase % 2;
            bool inside = row >= 0 && row < p->h && column >= 0 && column < p->w;
            pixels[5 * i + k] = inside ? line + column * p->c : outside;
        }
    }
}

/* What a phase has of tiles first .. first+count-1, to rows of the planes, `pitch` floats apart. */
ED_INLINE void ed_strided_input_tiles(const ed_strided *g, int phase, const ed_item *x, const ed_item *outside,
                                      int64_t first, int64_t count, float *to, int64_t pitch, int64_t plane)
{
    ed_tile_at at = ed_tile_number(&g->y, first);
    for (int64_t t = 0; t < count; t++, ed_tile_next(&g->y, &at), to += pitch) {
        const ed_item *pixels[25];
        int64_t j = 0;
        ed_phase_pixels(g, &at, phase, x, outside, pixels);
        for (; j + ED_LANES <= g->c; j += ED_LANES) ed_strided_input_lanes(pixels, j, to, plane, ED_LANES);
        if (j < g->c) ed_strided_input_lanes(pixels, j, to, plane, (int)(g->c - j));
    }
}

/* The row of the kernel's first tap that a phase has, times four, and its column; the others are two further. */
ED_INLINE int ed_phase_tap(int phase) { return phase / 2 * 4 + phase % 2; }

#endif
