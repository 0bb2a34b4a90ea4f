/*
 * The inner loops of attention with small heads: products of tiles that fit the registers.
 *
 * Lanes are queries. A block of `width` = vectors * ED_LANES queries is kept transposed, [d][width]; keys and values
 * are kept as rows, [m][dp], whose floats are broadcast. m is padded to a multiple of 8 rows and d to dp, a multiple of
 * 8, with zeros, so that tiles are whole: 2 vectors by 4 rows, or 1 vector by 8 rows, 8 independent sums either way.
 * `vectors` is a constant wherever these are inlined.
 */
#ifndef ED_CPU_ATTENTION_TILE_H
#define ED_CPU_ATTENTION_TILE_H

#include "cpu/vector.h"

#define ED_TILE 8
ED_INLINE int64_t ed_round_tile(int64_t n) { return (n + ED_TILE - 1) / ED_TILE * ED_TILE; }

/* alpha * rows of a head, `stride` apart -> [padded][dp]. */
ED_INLINE void ed_pack_rows(const float *restrict from, int64_t stride, int64_t rows, int64_t padded, int64_t d,
                            int64_t dp, float alpha, float *restrict to)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < d; j++) to[i * dp + j] = alpha * from[i * stride + j];
        for (int64_t j = d; j < dp; j++) to[i * dp + j] = 0;
    }
    memset(to + rows * dp, 0, (size_t)((padded - rows) * dp) * sizeof *to);
}

/* Rows [width][dp] -> columns [dp][width]. */
ED_INLINE void ed_transpose_rows(const float *restrict rows, int64_t dp, int width, float *restrict columns)
{
    for (int64_t j = 0; j < dp; j++)
        for (int t = 0; t < width; t++) columns[j * width + t] = rows[t * dp + j];
}

/* to[k] = -start + sum_j columns[j] * rows[k][j] for the tile's rows k; to is [rows][width]. */
ED_INLINE void ed_tile_scores(const float *columns, const float *rows, int64_t d, int64_t dp, const ed_vec start[2],
                              int vectors, ed_vec out[ED_TILE])
{
    const int keys = ED_TILE / vectors, width = vectors * ED_LANES;
    for (int k = 0; k < keys; k++)
        for (int v = 0; v < vectors; v++) out[k * vectors + v] = -start[v];
    for (int64_t j = 0; j < d; j++)
        for (int k = 0; k < keys; k++)
            for (int v = 0; v < vectors; v++)
                out[k * vectors + v] += ed_load(columns + j * width + v * ED_LANES) * rows[k * dp + j];
}

/* to[j] = (add ? to[j] : 0) + sum_i weights[i] * rows[i][j] for the tile's channels j; to and weights have `width`. */
ED_INLINE void ed_tile_weighted(const float *weights, const float *rows, int64_t count, int64_t dp, int vectors,
                                bool add, float *to)
{
    const int channels = ED_TILE / vectors, width = vectors * ED_LANES;
    ed_vec sum[ED_TILE];
    for (int j = 0; j < channels; j++)
        for (int v = 0; v < vectors; v++)
            sum[j * vectors + v] = add ? ed_load(to + j * width + v * ED_LANES) : (ed_vec){0};
    for (int64_t i = 0; i < count; i++)
        for (int j = 0; j < channels; j++)
            for (int v = 0; v < vectors; v++)
                sum[j * vectors + v] += ed_load(weights + i * width + v * ED_LANES) * rows[i * dp + j];
    for (int j = 0; j < channels; j++)
        for (int v = 0; v < vectors; v++) ed_store(to + j * width + v * ED_LANES, sum[j * vectors + v]);
}

#endif
