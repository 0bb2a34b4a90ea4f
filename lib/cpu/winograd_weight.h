/*
 * What winograd_weight.c and winograd_strided_weight.c share: in every plane the gradient of the transformed kernel is
 * a matrix product, [o,tiles] by [tiles,c]. It is made for a block of tiles and a strip of some output channels by a
 * panel of input channels at once, and taken back to the kernel while it is in the cache: dw is then all that is kept
 * between the blocks.
 */
#ifndef ED_CPU_WINOGRAD_WEIGHT_H
#define ED_CPU_WINOGRAD_WEIGHT_H

#include "cpu/columns.h"
#include "cpu/winograd.h"

/* Cache for a block's inputs and gradients, and for the sums of a strip; measured, and the speed is flat around them.
 */
#define ED_BLOCK_BYTES ((int64_t)512 << 10)
#define ED_STRIP_BYTES ((int64_t)256 << 10)

/* Distances in floats. */
typedef struct ed_weight_plan {
    int64_t c, o, planes;
    int64_t block;                   /* tiles */
    int64_t rows, columns;           /* o made even, c in whole panels */
    int64_t strip;                   /* rows of a strip, an even number */
    int64_t input_pitch, grad_pitch; /* from one tile to the next */
    int64_t input_plane, grad_plane, sum_plane;
} ed_weight_plan;

/* A tile's row in a plane; rows a multiple of 256 bytes apart would share a few cache sets. */
static inline int64_t ed_tile_pitch(int64_t columns) { return columns % 64 ? columns : columns + 16; }

/* Blocks of as many tiles as the cache holds, but fewest .. most. */
static inline ed_weight_plan ed_weight_describe(int64_t c, int64_t o, int64_t planes, int64_t tiles, int64_t fewest,
                                                int64_t most)
{
    ed_weight_plan p = {.c = c, .o = o, .planes = planes};
    p.rows = ed_whole(o, 2), p.columns = ed_whole(c, ED_PRODUCT_COLUMNS);
    p.input_pitch = ed_tile_pitch(p.columns), p.grad_pitch = ed_tile_pitch(p.rows);
    int64_t tile = planes * (int64_t)sizeof(float) * (p.input_pitch + p.grad_pitch);
    most = ED_MIN(ED_MAX(ED_BLOCK_BYTES / tile, fewest), most);
    int64_t blocks = (tiles + most - 1) / most;
    p.block = (tiles + blocks - 1) / blocks;
    int64_t high = ED_STRIP_BYTES / (planes * (int64_t)sizeof(float) * ED_PRODUCT_COLUMNS);
    p.strip = ED_MIN(high / ED_PRODUCT_ROWS * ED_PRODUCT_ROWS, p.rows);
    p.input_plane = p.block * p.input_pitch + ED_PLANE_GAP;
    p.grad_plane = p.block * p.grad_pitch + ED_PLANE_GAP;
    p.sum_plane = p.strip * ED_PRODUCT_COLUMNS + ED_PLANE_GAP;
    return p;
}

/* Scratch, cut in this order. `outside` is read as zeros for pixels that an image lacks. */
typedef struct ed_weight_work {
    float *inputs, *grads, *sums, *outside;
    double *bias;
} ed_weight_work;

static inline size_t ed_weight_scratch(const ed_weight_plan *p)
{
    return ed_cut_size((size_t)(p->planes * p->input_plane), sizeof(float)) +
           ed_cut_size((size_t)(p->planes * p->grad_plane), sizeof(float)) +
           ed_cut_size((size_t)(p->planes * p->sum_plane), sizeof(float)) +
           ed_cut_size((size_t)ED_MAX(p->c, p->o), sizeof(float)) + ed_cut_size((size_t)p->o, sizeof(double));
}

/* Where a plane has more columns than there are channels, the rest is zeros, which the transforms leave alone. */
static inline ed_weight_work ed_weight_cut(const ed_weight_plan *p, char *scratch)
{
    ed_weight_work s;
    size_t inputs = (size_t)(p->planes * p->input_plane), grads = (size_t)(p->planes * p->grad_plane);
    s.inputs = ed_cut(&scratch, inputs, sizeof(float));
    s.grads = ed_cut(&scratch, grads, sizeof(float));
    s.sums = ed_cut(&scratch, (size_t)(p->planes * p->sum_plane), sizeof(float));
    s.outside = ed_cut(&scratch, (size_t)ED_MAX(p->c, p->o), sizeof(float));
    s.bias = ed_cut(&scratch, (size_t)p->o, sizeof(double));
    if (p->columns > p->c) memset(s.inputs, 0, inputs * sizeof(float));
    if (p->rows > p->o) memset(s.grads, 0, grads * sizeof(float));
    memset(s.outside, 0, (size_t)ED_MAX(p->c, p->o) * sizeof(float));
    return s;
}

/* The gradient of the kernels comes from memory, row by row far apart: a row a few rows ahead is asked for, a panel's
 * columns of all its taps. */
#define ED_ROWS_AHEAD 4
ED_INLINE void ed_prefetch_row(const float *dw, int taps, int64_t c)
{
    for (int k = 0; k < taps; k++)
        for (int j = 0; j < ED_PRODUCT_COLUMNS; j += 16) __builtin_prefetch(dw + k * c + j, 1);
}

/* dw += G^T S G for some input channels of one kernel; the vectors of S are `plane` floats apart, the taps c. */
typedef void (*ed_kernel_lanes)(const float *sums, int64_t plane, float *dw, int64_t c, int lanes);

/* `rows` output channels of a panel's input channels from .. to-1. dw[o][taps][c] begins at the first of the rows. */
ED_INLINE void ed_weight_add_strip(const ed_weight_plan *p, const float *sums, int64_t rows, int64_t from, int64_t to,
                                   float *dw, int taps, bool ahead, ed_kernel_lanes add)
{
    const int64_t c = p->c;
    for (int64_t i = 0; i < rows; i++, sums += ED_PRODUCT_COLUMNS, dw += taps * c) {
        int64_t j = from;
        if (ahead && i + ED_ROWS_AHEAD < rows) ed_prefetch_row(dw + ED_ROWS_AHEAD * taps * c + from, taps, c);
        for (; j + ED_LANES <= to; j += ED_LANES) add(sums + j - from, p->sum_plane, dw + j, c, ED_LANES);
        if (j < to) add(sums + j - from, p->sum_plane, dw + j, c, (int)(to - j));
    }
}

/* A block of `tiles`; `ahead`: with rows of dw asked for before they are added to. */
ED_INLINE void ed_weight_add_block(const ed_weight_plan *p, const ed_weight_work *s, int64_t tiles, float *dw, int taps,
                                   bool ahead, ed_kernel_lanes add)
{
    const ed_outer shape = {tiles, p->grad_pitch, p->input_pitch};
    for (int64_t j = 0; j < p->columns; j += ED_PRODUCT_COLUMNS) {
        for (int64_t i = 0; i < p->rows; i += p->strip) {
            int64_t rows = ED_MIN(p->strip, p->rows - i), end = ED_MIN(j + ED_PRODUCT_COLUMNS, p->c);
            for (int64_t q = 0; q < p->planes; q++)
                ed_outer_rows(&shape, s->grads + q * p->grad_plane + i, rows, s->inputs + q * p->input_plane + j,
                              s->sums + q * p->sum_plane);
            ed_weight_add_strip(p, s->sums, ED_MIN(rows, p->o - i), j, end, dw + i * taps * p->c, taps, ahead, add);
        }
    }
}

#endif
