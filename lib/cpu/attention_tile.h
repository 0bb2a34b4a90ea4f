/*
 * The inner loops of attention with small heads: products of tiles that fit the registers.
 *
 * Lanes are queries. A block of `width` = vectors * ED_LANES queries is kept transposed, [dp][width]; keys and values
 * are kept as rows, [m][dp], whose floats are broadcast. d is padded to dp, a multiple of 8, with zeros, and m to a
 * multiple of 8 rows, so that tiles are whole: 2 vectors by 4 rows, or 1 vector by 8 rows, 8 independent sums either
 * way. `vectors` is a constant wherever these are inlined.
 */
#ifndef ED_CPU_ATTENTION_TILE_H
#define ED_CPU_ATTENTION_TILE_H

#include "cpu/kernel.h"

#define ED_TILE 8
#define ED_MOST_LANES (2 * ED_LANES) /* queries a block, at most */

ED_INLINE int64_t ed_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Vectors for a block of which `left` queries are left: a block is at least eight wide, for the transposition. */
ED_INLINE int ed_block_vectors(int64_t left) { return ED_LANES < ED_TILE || left > ED_LANES ? 2 : 1; }

/* ---------------------------------------------------------------- layout */

typedef float ed_row8 __attribute__((vector_size(32)));

ED_INLINE ed_row8 ed_load8_f32(const float *p)
{
    ed_row8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

ED_INLINE void ed_store8_f32(float *p, ed_row8 v) { memcpy(p, &v, sizeof v); }

typedef uint16_t ed_half8 __attribute__((vector_size(16)));
typedef uint32_t ed_word8 __attribute__((vector_size(32)));

ED_INLINE ed_row8 ed_load8_bf16(const ed_bf16 *p)
{
    ed_half8 half;
    memcpy(&half, p, sizeof half);
    return (ed_row8)(__builtin_convertvector(half, ed_word8) << 16);
}

/* As ed_store_bf16 rounds. */
ED_INLINE void ed_store8_bf16(ed_bf16 *p, ed_row8 v)
{
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
    __m128bh half = _mm256_cvtneps_pbh((__m256)v);
    memcpy(p, &half, sizeof half);
#else
    ed_word8 bits = (ed_word8)v, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, number = (ed_word8)(v == v);
    ed_half8 half = __builtin_convertvector((rounded & number) | (0x7fc0 & ~number), ed_half8);
    memcpy(p, &half, sizeof half);
#endif
}

#define ed_load8(p) _Generic(*(p), float : ed_load8_f32, ed_bf16 : ed_load8_bf16)(p)
#define ed_store8(p, v) _Generic(*(p), float : ed_store8_f32, ed_bf16 : ed_store8_bf16)(p, v)

/* alpha * rows of a head, `stride` apart -> [padded][dp]. */
ED_INLINE void ed_pack_rows(const ed_item *restrict from, int64_t stride, int64_t rows, int64_t padded, int64_t d,
                            int64_t dp, float alpha, float *restrict to)
{
    for (int64_t i = 0; i < rows; i++) {
        int64_t j = 0;
        for (; j + 8 <= d; j += 8) ed_store8(to + i * dp + j, alpha * ed_load8(from + i * stride + j));
        for (; j < dp; j++) to[i * dp + j] = j < d ? alpha * ed_get(from + i * stride + j) : 0;
    }
    memset(to + rows * dp, 0, (size_t)((padded - rows) * dp) * sizeof *to);
}

/* The first d of [rows][dp], times alpha, to rows `stride` apart. */
ED_INLINE void ed_unpack_rows(const float *restrict from, int64_t rows, int64_t d, int64_t dp, float alpha,
                              ed_item *restrict to, int64_t stride)
{
    for (int64_t i = 0; i < rows; i++) {
        int64_t j = 0;
        for (; j + 8 <= d; j += 8) ed_store8(to + i * stride + j, alpha * ed_load8(from + i * dp + j));
        for (; j < d; j++) ed_put(to + i * stride + j, alpha * from[i * dp + j]);
    }
}

/* Eight rows of eight floats -> their columns. */
ED_INLINE void ed_transpose8(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define LOW(a, b) SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH(a, b) SHUFFLE(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define LOW_PAIRS(a, b) SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define HIGH_PAIRS(a, b) SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
    ed_row8 half[2][4]; /* columns j and j + 4 of rows 0 .. 3, and of rows 4 .. 7 */
    for (int k = 0; k < 2; k++) {
        const float *rows = from + 4 * k * from_stride;
        ed_row8 r0 = ed_load8(rows), r1 = ed_load8(rows + from_stride), r2 = ed_load8(rows + 2 * from_stride),
                r3 = ed_load8(rows + 3 * from_stride);
        ed_row8 a = LOW(r0, r1), b = HIGH(r0, r1), c = LOW(r2, r3), d = HIGH(r2, r3);
        half[k][0] = LOW_PAIRS(a, c);
        half[k][1] = HIGH_PAIRS(a, c);
        half[k][2] = LOW_PAIRS(b, d);
        half[k][3] = HIGH_PAIRS(b, d);
    }
    for (int j = 0; j < 4; j++) {
        ed_store8(to + j * to_stride, SHUFFLE(half[0][j], half[1][j], 0, 1, 2, 3, 8, 9, 10, 11));
        ed_store8(to + (j + 4) * to_stride, SHUFFLE(half[0][j], half[1][j], 4, 5, 6, 7, 12, 13, 14, 15));
    }
#undef SHUFFLE
#undef LOW
#undef HIGH
#undef LOW_PAIRS
#undef HIGH_PAIRS
#else
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) to[j * to_stride + i] = from[i * from_stride + j];
#endif
}

/* [rows][columns] -> [columns][rows], both multiples of 8. */
ED_INLINE void ed_transpose(const float *from, int64_t rows, int64_t columns, float *to)
{
    for (int64_t i = 0; i < rows; i += 8)
        for (int64_t j = 0; j < columns; j += 8)
            ed_transpose8(from + i * columns + j, columns, to + j * rows + i, rows);
}

/* ---------------------------------------------------------------- products */

/* out[k] = -start + sum_j columns[j] * rows[k][j] for the tile's rows k. */
ED_INLINE void ed_tile_scores(const float *columns, const float *rows, int64_t dp, const ed_vec start[2], int vectors,
                              ed_vec out[ED_TILE])
{
    const int keys = ED_TILE / vectors, width = vectors * ED_LANES;
    for (int k = 0; k < keys; k++)
        for (int v = 0; v < vectors; v++) out[k * vectors + v] = -start[v];
    ED_UNROLL for (int64_t j = 0; j < dp; j++) for (int k = 0; k < keys; k++) for (int v = 0; v < vectors; v++)
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
    ED_UNROLL for (int64_t i = 0; i < count; i++) for (int j = 0; j < channels; j++) for (int v = 0; v < vectors; v++)
        sum[j * vectors + v] += ed_load(weights + i * width + v * ED_LANES) * rows[i * dp + j];
    for (int j = 0; j < channels; j++)
        for (int v = 0; v < vectors; v++) ed_store(to + j * width + v * ED_LANES, sum[j * vectors + v]);
}

#endif
