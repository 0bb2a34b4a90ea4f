/*
 * The cuBLASLt calls in use, on plain loops with sums in f32. What the library is asked for is checked as the vendor's
 * documentation has it; scratch memory is asked for and overwritten, so that a wrong size shows.
 */
#include <cublasLt.h>

#include "internal.h"

using emulator::enqueue;

namespace
{

struct product {
    cublasComputeType_t compute;
    cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
};

struct layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t pitch, stride = 0;
    int32_t batch = 1;
};

struct preference {
    size_t scratch = 0;
};

constexpr size_t scratch_bytes = 4096;
constexpr uint64_t chosen = 0x5eed;

float get(const void *p, size_t i, cudaDataType_t type)
{
    return type == CUDA_R_16BF ? __bfloat162float(static_cast<const __nv_bfloat16 *>(p)[i])
                               : static_cast<const float *>(p)[i];
}

void put(void *p, size_t i, cudaDataType_t type, float v)
{
    if (type == CUDA_R_16BF)
        static_cast<__nv_bfloat16 *>(p)[i] = __float2bfloat16(v);
    else
        static_cast<float *>(p)[i] = v;
}

struct operation {
    product p;
    layout a, b, c, d;
    float alpha, beta;
    const void *A, *B, *C;
    void *D;
};

/* Consistent sizes, types that go together. */
cublasStatus_t check(const product &p, const layout &a, const layout &b, const layout &c, const layout &d)
{
    uint64_t inner_a = p.a == CUBLAS_OP_N ? a.columns : a.rows, inner_b = p.b == CUBLAS_OP_N ? b.rows : b.columns;
    uint64_t m = p.a == CUBLAS_OP_N ? a.rows : a.columns, n = p.b == CUBLAS_OP_N ? b.columns : b.rows;
    if (inner_a != inner_b || d.rows != m || d.columns != n || c.rows != m || c.columns != n)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (a.batch != d.batch || b.batch != d.batch || c.batch != d.batch) return CUBLAS_STATUS_INVALID_VALUE;
    for (const layout *l : {&a, &b, &c, &d})
        if (l->pitch < static_cast<int64_t>(l->rows)) return CUBLAS_STATUS_INVALID_VALUE;
    if (a.type != b.type || c.type != d.type || (d.type != a.type && d.type != CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (p.epilogue == CUBLASLT_EPILOGUE_BIAS && d.type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

/* One column of D: walks along A's columns where it lies so, for speed. */
void column(const operation &o, size_t batch, uint64_t n, float *sums)
{
    uint64_t m = o.d.rows, inner = o.p.a == CUBLAS_OP_N ? o.a.columns : o.a.rows;
    size_t a0 = batch * static_cast<size_t>(o.a.stride), b0 = batch * static_cast<size_t>(o.b.stride);
    size_t lda = static_cast<size_t>(o.a.pitch), ldb = static_cast<size_t>(o.b.pitch);
    for (uint64_t i = 0; i < m; i++) sums[i] = 0;
    for (uint64_t k = 0; k < inner; k++) {
        float right = get(o.B, b0 + (o.p.b == CUBLAS_OP_N ? k + n * ldb : n + k * ldb), o.b.type);
        if (o.p.a == CUBLAS_OP_N)
            for (uint64_t i = 0; i < m; i++) sums[i] += get(o.A, a0 + i + k * lda, o.a.type) * right;
        else
            for (uint64_t i = 0; i < m; i++) sums[i] += get(o.A, a0 + k + i * lda, o.a.type) * right;
    }
}

/* The matrices that a product reads or writes, column by column. */
void touch_matrix(const layout &l, const void *p, bool write)
{
    size_t item = l.type == CUDA_R_16BF ? 2 : 4;
    for (size_t batch = 0; batch < static_cast<size_t>(l.batch); batch++)
        for (uint64_t n = 0; n < l.columns; n++)
            emulator::touch(static_cast<const char *>(p) +
                                (batch * static_cast<size_t>(l.stride) + n * static_cast<size_t>(l.pitch)) * item,
                            l.rows * item, write);
}

void touch_all(const operation &o, void *scratch, size_t scratch_size)
{
    emulator::touch(scratch, scratch_size, true);
    touch_matrix(o.a, o.A, false);
    touch_matrix(o.b, o.B, false);
    if (o.beta != 0) touch_matrix(o.c, o.C, false);
    if (o.p.epilogue == CUBLASLT_EPILOGUE_BIAS) emulator::touch(o.p.bias, o.d.rows * sizeof(float), false);
    touch_matrix(o.d, o.D, true);
}

void run(const operation &o)
{
    float *sums = static_cast<float *>(malloc(o.d.rows * sizeof(float)));
    for (size_t batch = 0; batch < static_cast<size_t>(o.d.batch); batch++)
        for (uint64_t n = 0; n < o.d.columns; n++) {
            column(o, batch, n, sums);
            for (uint64_t i = 0; i < o.d.rows; i++) {
                size_t at = batch * static_cast<size_t>(o.d.stride) + i + n * static_cast<size_t>(o.d.pitch);
                float v = o.alpha * sums[i];
                if (o.beta != 0) v += o.beta * get(o.C, at, o.c.type);
                if (o.p.epilogue == CUBLASLT_EPILOGUE_BIAS) v += static_cast<const float *>(o.p.bias)[i];
                put(o.D, at, o.d.type, v);
            }
        }
    free(sums);
}

template <class T> bool read(T &to, const void *from, size_t size)
{
    if (size != sizeof(T)) return false;
    memcpy(&to, from, sizeof(T));
    return true;
}

product *of(cublasLtMatmulDesc_t d) { return reinterpret_cast<product *>(d); }
layout *of(cublasLtMatrixLayout_t l) { return reinterpret_cast<layout *>(l); }

cublasStatus_t status(bool good) { return good ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE; }

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = reinterpret_cast<cublasLtHandle_t>(malloc(1));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t code)
{
    return code == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : "an invalid value";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t)
{
    product *p = new product;
    p->compute = compute;
    *out = reinterpret_cast<cublasLtMatmulDesc_t>(p);
    return status(compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_FAST_TF32);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete of(d);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t size)
{
    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return status(read(of(d)->a, value, size));
    case CUBLASLT_MATMUL_DESC_TRANSB: return status(read(of(d)->b, value, size));
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return status(read(of(d)->epilogue, value, size));
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return status(read(of(d)->bias, value, size));
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t pitch)
{
    layout *l = new layout;
    *l = {type, rows, columns, pitch, 0, 1};
    *out = reinterpret_cast<cublasLtMatrixLayout_t>(l);
    return status(rows > 0 && columns > 0 && (type == CUDA_R_32F || type == CUDA_R_16BF));
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete of(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t name,
                                                const void *value, size_t size)
{
    switch (name) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return status(read(of(l)->batch, value, size));
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return status(read(of(l)->stride, value, size));
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(new preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete reinterpret_cast<preference *>(p);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                                    size_t size)
{
    uint32_t alignment;
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return status(read(reinterpret_cast<preference *>(p)->scratch, value, size));
    return status(read(alignment, value, size) && alignment > 0 && (alignment & (alignment - 1)) == 0);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t out, cublasLtMatmulPreference_t p, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
    cublasStatus_t bad = check(*of(d), *of(a), *of(b), *of(c), *of(out));
    *count = 0;
    if (bad != CUBLAS_STATUS_SUCCESS || wanted < 1) return bad;
    results[0] = {};
    results[0].algo.data[0] = chosen;
    size_t most = reinterpret_cast<preference *>(p)->scratch;
    results[0].workspaceSize = most < scratch_bytes ? most : scratch_bytes;
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t out,
                              const cublasLtMatmulAlgo_t *algorithm, void *scratch, size_t scratch_size,
                              cudaStream_t stream)
{
    operation o = {*of(d), *of(a), *of(b), *of(c), *of(out), 0, 0, A, B, C, D};
    memcpy(&o.alpha, alpha, sizeof o.alpha);
    memcpy(&o.beta, beta, sizeof o.beta);
    cublasStatus_t bad = check(o.p, o.a, o.b, o.c, o.d);
    if (bad != CUBLAS_STATUS_SUCCESS) return bad;
    if (algorithm->data[0] != chosen || (o.p.epilogue == CUBLASLT_EPILOGUE_BIAS && !o.p.bias) || !A || !B || !D)
        return CUBLAS_STATUS_INVALID_VALUE;
    enqueue(stream, "cublasLtMatmul", [=] {
        touch_all(o, scratch, scratch_size);
        memset(scratch, 0xa5, scratch_size);
        run(o);
    });
    return CUBLAS_STATUS_SUCCESS;
}

} // extern "C"
