/*
 * Matrix products of rows by panels. A panel is ED_PRODUCT_COLUMNS columns of the right operand, [depth][columns] one
 * behind the other, which is the order in which the innermost loop reads them; rows of the left operand are read where
 * they are. Right operands whose memory has another order are packed first, or once (ed_packing).
 */
#ifndef ED_CPU_PRODUCT_H
#define ED_CPU_PRODUCT_H

#include "cpu/attention_tile.h" /* ed_transpose8 */
#include "cpu/kernel.h"

/* A tile of a product in registers, of 16 or 32: six rows by two vectors are 12 sums, enough to hide the latency of an
 * FMA; twelve rows read each vector of a panel half as often. */
#define ED_PRODUCT_ROWS (ED_LANES == 16 ? 12 : 6)
#define ED_PRODUCT_COLUMNS (2 * ED_LANES)
/* Floats of a panel that are asked for ahead: one that comes from memory is then read as fast as memory allows, where
 * the processor's own prefetching makes a product wait for half of its time. Flat from 2 to 8 kB. */
#define ED_PRODUCT_AHEAD 2048

ED_INLINE int64_t ed_whole(int64_t n, int64_t of) { return (n + of - 1) / of * of; }

/* What is between two rows of a product's operands, in floats. */
typedef struct ed_product {
    int64_t depth;
    int64_t pitch_v, pitch_m;
    bool add; /* to what m holds */
} ed_product;

/* sum += `rows` rows of v times a panel. A row's sums are taken in the same order whatever the rows beside it. */
ED_INLINE void ed_product_sums(int64_t depth, const float *v, int64_t pitch, const float *panel, int rows,
                               ed_vec sum[ED_PRODUCT_ROWS][2])
{
    for (int64_t k = 0; k < depth; k++, panel += ED_PRODUCT_COLUMNS) {
        ed_vec b0 = ed_load(panel), b1 = ed_load(panel + ED_LANES);
        __builtin_prefetch(panel + ED_PRODUCT_AHEAD);
        if (ED_LANES == 16) __builtin_prefetch(panel + ED_PRODUCT_AHEAD + ED_LANES);
        for (int r = 0; r < rows; r++) {
            float a = v[r * pitch + k];
            sum[r][0] += a * b0;
            sum[r][1] += a * b1;
        }
    }
}

ED_INLINE void ed_product_tile(const ed_product *p, const float *v, const float *panel, float *m, int rows)
{
    ed_vec sum[ED_PRODUCT_ROWS][2] = {{{0}}};
    ed_product_sums(p->depth, v, p->pitch_v, panel, rows, sum);
    for (int r = 0; r < rows; r++, m += p->pitch_m) {
        ed_store(m, p->add ? ed_load(m) + sum[r][0] : sum[r][0]);
        ed_store(m + ED_LANES, p->add ? ed_load(m + ED_LANES) + sum[r][1] : sum[r][1]);
    }
}

/* An even number of rows. */
static inline void ed_product_rows(const ed_product *p, const float *v, int64_t rows, const float *panel, float *m)
{
    int64_t i = 0;
    for (; i + ED_PRODUCT_ROWS <= rows; i += ED_PRODUCT_ROWS)
        ed_product_tile(p, v + i * p->pitch_v, panel, m + i * p->pitch_m, ED_PRODUCT_ROWS);
    for (; i + 6 <= rows; i += 6) ed_product_tile(p, v + i * p->pitch_v, panel, m + i * p->pitch_m, 6);
    if (rows - i == 4) ed_product_tile(p, v + i * p->pitch_v, panel, m + i * p->pitch_m, 4);
    if (rows - i == 2) ed_product_tile(p, v + i * p->pitch_v, panel, m + i * p->pitch_m, 2);
}

/* ---------------------------------------------------------------- products summed over the rows of both operands */

/* What is between two rows of a[depth][..] and of b[depth][..], in floats. */
typedef struct ed_outer {
    int64_t depth;
    int64_t pitch_a, pitch_b;
} ed_outer;

/* `rows` columns of a by a panel's width of columns of b. */
ED_INLINE void ed_outer_tile(const ed_outer *p, const float *a, const float *b, int rows, float *to)
{
    ed_vec sum[ED_PRODUCT_ROWS][2] = {{{0}}};
    for (int64_t t = 0; t < p->depth; t++, a += p->pitch_a, b += p->pitch_b) {
        ed_vec b0 = ed_load(b), b1 = ed_load(b + ED_LANES);
        for (int r = 0; r < rows; r++) {
            sum[r][0] += a[r] * b0;
            sum[r][1] += a[r] * b1;
        }
    }
    for (int r = 0; r < rows; r++, to += ED_PRODUCT_COLUMNS) {
        ed_store(to, sum[r][0]);
        ed_store(to + ED_LANES, sum[r][1]);
    }
}

/* to[rows][ED_PRODUCT_COLUMNS] = a^T b of an even number of columns of a. */
static inline void ed_outer_rows(const ed_outer *p, const float *a, int64_t rows, const float *b, float *to)
{
    int64_t i = 0;
    for (; i + ED_PRODUCT_ROWS <= rows; i += ED_PRODUCT_ROWS)
        ed_outer_tile(p, a + i, b, ED_PRODUCT_ROWS, to + i * ED_PRODUCT_COLUMNS);
    for (; i + 6 <= rows; i += 6) ed_outer_tile(p, a + i, b, 6, to + i * ED_PRODUCT_COLUMNS);
    if (rows - i == 4) ed_outer_tile(p, a + i, b, 4, to + i * ED_PRODUCT_COLUMNS);
    if (rows - i == 2) ed_outer_tile(p, a + i, b, 2, to + i * ED_PRODUCT_COLUMNS);
}

/* ---------------------------------------------------------------- panels of w[o][in], whose rows become columns */

ED_INLINE int64_t ed_panel_floats(int64_t depth) { return depth * ED_PRODUCT_COLUMNS; }

/* Eight columns of a panel from up to eight rows of w, zeros for those beyond. */
ED_INLINE void ed_panel_eight(const float *w, int64_t pitch, int64_t rows, int64_t depth, float *panel)
{
    int64_t k = 0;
    for (; rows >= 8 && k + 8 <= depth; k += 8)
        ed_transpose8(w + k, pitch, panel + k * ED_PRODUCT_COLUMNS, ED_PRODUCT_COLUMNS);
    for (; k < depth; k++)
        for (int64_t j = 0; j < 8; j++) panel[k * ED_PRODUCT_COLUMNS + j] = j < rows ? w[j * pitch + k] : 0;
}

/* The panel of the first rows of w, of which there are `rows`, `pitch` floats apart. */
static inline void ed_panel_make(const float *w, int64_t pitch, int64_t rows, int64_t depth, float *panel)
{
    for (int64_t j = 0; j < ED_PRODUCT_COLUMNS; j += 8)
        ed_panel_eight(w + j * pitch, pitch, rows - j, depth, panel + j);
}

/* All panels of weights w[o][...], whose further dimensions are the depth: [panel][depth][columns]. linear.c */
extern const ed_packing ED_CPU(panels);

#endif
