/* Matrix products by cuBLASLt, in row-major terms. */
#ifndef ED_CUDA_GEMM_H
#define ED_CUDA_GEMM_H

#include "cuda/backend/cuda.h"

/*
 * out[rows, columns] = left[rows, inner] right[inner, columns] + add + bias[columns], for each of `batch` matrices.
 * A transposed operand lies in memory the other way round. A pitch is the distance of two rows in memory, a stride that
 * of two matrices, both in items.
 */
typedef struct ed_gemm_shape {
    int64_t rows, columns, inner, batch;
    bool left_transposed, right_transposed;
    int64_t left_pitch, right_pitch, out_pitch; /* 0: rows are close together */
    int64_t left_stride, right_stride, out_stride;
    ed_type type, out_type; /* of left and right; of out and add */
    bool adds, bias;        /* bias: f32, and so is the output then */
} ed_gemm_shape;

typedef struct ed_gemm ed_gemm;

/* Describe the product and choose an algorithm, which wants *scratch bytes. */
encdiff_status ed_gemm_create(ed_cuda *cuda, ed_env *env, const ed_gemm_shape *shape, size_t *scratch, ed_gemm **out);
void ed_gemm_free(ed_env *env, ed_gemm *gemm);
/* `add` and `bias` where the shape says so; add may be out. */
encdiff_status ed_gemm_run(const ed_gemm *gemm, ed_env *env, const void *left, const void *right, const void *add,
                           const float *bias, void *out, void *scratch);

#endif
