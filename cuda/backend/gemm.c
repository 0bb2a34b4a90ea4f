/*
 * cuBLASLt counts down columns: what is row-major here is its transpose there, so it is asked for
 * out^T[columns, rows] = right^T left^T, with `right` as its A, `left` as its B and the columns as its m.
 */
#include "cuda/backend/gemm.h"

#define MOST_SCRATCH ((size_t)32 << 20)

struct ed_gemm {
    ed_cuda *cuda;
    ed_gemm_shape shape;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
    size_t scratch;
};

static cudaDataType_t type_of(ed_type type) { return type == ED_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

static encdiff_status layout(ed_env *env, cublasLtMatrixLayout_t *out, ed_type type, int64_t rows, int64_t columns,
                             int64_t pitch, int64_t batch, int64_t stride)
{
    int32_t count = (int32_t)batch;
    ED_TRY(ED_BLAS_CALL(
        env, cublasLtMatrixLayoutCreate(out, type_of(type), (uint64_t)rows, (uint64_t)columns, pitch ? pitch : rows)));
    if (batch <= 1) return ENCDIFF_OK;
    ED_TRY(ED_BLAS_CALL(
        env, cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count)));
    return ED_BLAS_CALL(env, cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                              &stride, sizeof stride));
}

static encdiff_status describe(ed_gemm *g, ed_env *env)
{
    const ed_gemm_shape *s = &g->shape;
    bool tf32 = g->cuda->tf32 && s->type == ED_F32;
    cublasOperation_t op_a = s->right_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t op_b = s->left_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    ED_TRY(ED_BLAS_CALL(env, cublasLtMatmulDescCreate(
                                 &g->product, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F)));
    ED_TRY(
        ED_BLAS_CALL(env, cublasLtMatmulDescSetAttribute(g->product, CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof op_a)));
    ED_TRY(
        ED_BLAS_CALL(env, cublasLtMatmulDescSetAttribute(g->product, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof op_b)));
    if (s->bias)
        ED_TRY(ED_BLAS_CALL(env, cublasLtMatmulDescSetAttribute(g->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                                sizeof epilogue)));
    ED_TRY(layout(env, &g->a, s->type, s->right_transposed ? s->inner : s->columns,
                  s->right_transposed ? s->columns : s->inner, s->right_pitch, s->batch, s->right_stride));
    ED_TRY(layout(env, &g->b, s->type, s->left_transposed ? s->rows : s->inner, s->left_transposed ? s->inner : s->rows,
                  s->left_pitch, s->batch, s->left_stride));
    return layout(env, &g->d, s->out_type, s->columns, s->rows, s->out_pitch, s->batch, s->out_stride);
}

/* Whole buffers begin at 64 bytes; a matrix of a batch begins where its stride says. */
static uint32_t alignment_of(ed_type type, int64_t stride)
{
    uint32_t alignment = 64;
    while (alignment > ed_type_size(type) && (uint64_t)stride * ed_type_size(type) % alignment) alignment /= 2;
    return alignment;
}

static encdiff_status prefer(ed_env *env, const ed_gemm_shape *s, cublasLtMatmulPreference_t preference)
{
    size_t most = MOST_SCRATCH;
    uint32_t a = alignment_of(s->type, s->right_stride), b = alignment_of(s->type, s->left_stride),
             d = alignment_of(s->out_type, s->out_stride);
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const void *value;
        size_t size;
    } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a, sizeof a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b, sizeof b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &d, sizeof d},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &d, sizeof d},
    };
    for (size_t i = 0; i < ED_COUNT(wishes); i++)
        ED_TRY(ED_BLAS_CALL(
            env, cublasLtMatmulPreferenceSetAttribute(preference, wishes[i].name, wishes[i].value, wishes[i].size)));
    return ENCDIFF_OK;
}

static encdiff_status choose(ed_gemm *g, ed_env *env)
{
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found = {0};
    int count = 0;
    const ed_gemm_shape *s = &g->shape;
    ED_TRY(ED_BLAS_CALL(env, cublasLtMatmulPreferenceCreate(&preference)));
    encdiff_status status = prefer(env, s, preference);
    if (status == ENCDIFF_OK)
        status = ED_BLAS_CALL(env, cublasLtMatmulAlgoGetHeuristic(g->cuda->blas, g->product, g->a, g->b, g->d, g->d,
                                                                  preference, 1, &found, &count));
    (void)cublasLtMatmulPreferenceDestroy(preference);
    ED_TRY(status);
    if (count < 1)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "cuBLASLt has no product [%lld, %lld] x [%lld, %lld] in %s",
                       (long long)s->rows, (long long)s->inner, (long long)s->inner, (long long)s->columns,
                       ed_type_name(s->type));
    g->algorithm = found.algo;
    g->scratch = found.workspaceSize;
    return ENCDIFF_OK;
}

encdiff_status ed_gemm_create(ed_cuda *cuda, ed_env *env, const ed_gemm_shape *shape, size_t *scratch, ed_gemm **out)
{
    ed_gemm *g = *out = ed_alloc(env, 1, sizeof *g);
    if (!g) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    g->cuda = cuda;
    g->shape = *shape;
    encdiff_status status = describe(g, env);
    if (status == ENCDIFF_OK) status = choose(g, env);
    if (status != ENCDIFF_OK) {
        ed_gemm_free(env, g);
        *out = NULL;
        return status;
    }
    *scratch = g->scratch;
    return ENCDIFF_OK;
}

void ed_gemm_free(ed_env *env, ed_gemm *g)
{
    if (!g) return;
    if (g->a) (void)cublasLtMatrixLayoutDestroy(g->a);
    if (g->b) (void)cublasLtMatrixLayoutDestroy(g->b);
    if (g->d) (void)cublasLtMatrixLayoutDestroy(g->d);
    if (g->product) (void)cublasLtMatmulDescDestroy(g->product);
    ed_free(env, g);
}

encdiff_status ed_gemm_run(const ed_gemm *g, ed_env *env, const void *left, const void *right, const void *add,
                           const float *bias, void *out, void *scratch)
{
    const float one = 1, factor = g->shape.adds;
    if (g->shape.bias)
        ED_TRY(ED_BLAS_CALL(
            env, cublasLtMatmulDescSetAttribute(g->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias)));
    return ED_BLAS_CALL(env, cublasLtMatmul(g->cuda->blas, g->product, &one, right, g->a, left, g->b, &factor,
                                            g->shape.adds ? add : out, g->d, out, g->d, &g->algorithm, scratch,
                                            g->scratch, g->cuda->stream));
}
