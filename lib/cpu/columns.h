/*
 * Sums down c columns of a matrix whose rows are `stride` floats apart. What normalisations and bias gradients need.
 *
 * A chunk of rows is summed in f32 vectors and added to double totals, so that the error does not grow with the number
 * of rows; within a chunk the strip of columns that a register holds is walked down, and the rows stay in the cache.
 */
#ifndef ED_CPU_COLUMNS_H
#define ED_CPU_COLUMNS_H

#include "cpu/kernel.h"

#define ED_CHUNK_ROWS 64

ED_INLINE void ed_add_lanes(double *total, ed_vec part, int lanes)
{
    for (int i = 0; i < lanes; i++) total[i] += part[i];
}

ED_INLINE void ed_strip_moments(const ed_item *x, int64_t stride, int64_t rows, const float *shift, double *sum,
                                double *square, int lanes)
{
    ed_vec s = {0}, q = {0}, centre = ed_load_some(shift, lanes);
    for (int64_t i = 0; i < rows; i++) {
        ed_vec d = ed_load_some(x + i * stride, lanes) - centre;
        s += d;
        q += d * d;
    }
    ed_add_lanes(sum, s, lanes);
    ed_add_lanes(square, q, lanes);
}

/* sum[j] += sum_i (x[i,j] - shift[j]) and square[j] += sum_i (x[i,j] - shift[j])^2. */
ED_INLINE void ed_column_moments(const ed_item *x, int64_t stride, int64_t rows, int64_t c, const float *shift,
                                 double *sum, double *square)
{
    for (int64_t first = 0; first < rows; first += ED_CHUNK_ROWS) {
        const ed_item *chunk = x + first * stride;
        int64_t n = ED_MIN(ED_CHUNK_ROWS, rows - first), j = 0;
        for (; j + ED_LANES <= c; j += ED_LANES)
            ed_strip_moments(chunk + j, stride, n, shift + j, sum + j, square + j, ED_LANES);
        if (j < c) ed_strip_moments(chunk + j, stride, n, shift + j, sum + j, square + j, (int)(c - j));
    }
}

ED_INLINE void ed_strip_sum(const ed_item *x, int64_t stride, int64_t rows, double *sum, int lanes)
{
    ed_vec s = {0};
    for (int64_t i = 0; i < rows; i++) s += ed_load_some(x + i * stride, lanes);
    ed_add_lanes(sum, s, lanes);
}

/* sum[j] += sum_i x[i,j], rows packed. */
ED_INLINE void ed_column_sums(const ed_item *x, int64_t rows, int64_t c, double *sum)
{
    for (int64_t first = 0; first < rows; first += ED_CHUNK_ROWS) {
        int64_t n = ED_MIN(ED_CHUNK_ROWS, rows - first), j = 0;
        for (; j + ED_LANES <= c; j += ED_LANES) ed_strip_sum(x + first * c + j, c, n, sum + j, ED_LANES);
        if (j < c) ed_strip_sum(x + first * c + j, c, n, sum + j, (int)(c - j));
    }
}

/* db[j] += sum_i dy[i,j]; `sum` is scratch for c numbers. */
ED_INLINE void ed_add_bias(const ed_item *dy, int64_t rows, int64_t c, double *sum, float *db)
{
    memset(sum, 0, (size_t)c * sizeof *sum);
    ed_column_sums(dy, rows, c, sum);
    for (int64_t j = 0; j < c; j++) db[j] += (float)sum[j];
}

/*
 * Something near the mean of every column, for ed_column_moments: the variance is then right however far the mean is
 * from zero. The mean of at most eight rows spread over the matrix, so that no single outlier decides.
 */
ED_INLINE void ed_column_shift(const ed_item *x, int64_t stride, int64_t rows, int64_t c, float *shift)
{
    int64_t samples = ED_MIN(rows, 8);
    for (int64_t j = 0; j < c; j++) shift[j] = 0;
    for (int64_t i = 0; i < samples; i++) {
        const ed_item *row = x + rows * i / samples * stride;
        for (int64_t j = 0; j < c; j++) shift[j] += ed_get(row + j) / (float)samples;
    }
}

#endif
