/* Codes of the vendor's libraries to statuses; the message has the call, the code's name and text, file and line. */
#include "cuda/backend/cuda.h"

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

encdiff_status ed_cuda_status(ed_env *env, cudaError_t code, const char *call, const char *file, int line)
{
    if (code == cudaSuccess) return ENCDIFF_OK;
    (void)cudaGetLastError(); /* said here; not to be found by the next launch */
    encdiff_status status = code == cudaErrorMemoryAllocation ? ENCDIFF_ERROR_OUT_OF_MEMORY : ENCDIFF_ERROR_DEVICE;
    return ed_fail(env, status, "CUDA error %d (%s): %s, in %s at %s:%d", (int)code, cudaGetErrorName(code),
                   cudaGetErrorString(code), call, file_name(file), line);
}

encdiff_status ed_cuda_blas_status(ed_env *env, cublasStatus_t code, const char *call, const char *file, int line)
{
    if (code == CUBLAS_STATUS_SUCCESS) return ENCDIFF_OK;
    encdiff_status status = code == CUBLAS_STATUS_ALLOC_FAILED ? ENCDIFF_ERROR_OUT_OF_MEMORY : ENCDIFF_ERROR_DEVICE;
    return ed_fail(env, status, "cuBLAS error %d: %s, in %s at %s:%d", (int)code, cublasLtGetStatusString(code), call,
                   file_name(file), line);
}

encdiff_status ed_cuda_dnn_status(ed_env *env, cudnnStatus_t code, const char *call, const char *file, int line)
{
    if (code == CUDNN_STATUS_SUCCESS) return ENCDIFF_OK;
    bool memory = code == CUDNN_STATUS_ALLOC_FAILED;
#ifdef CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    memory = memory || code == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
#endif
    return ed_fail(env, memory ? ENCDIFF_ERROR_OUT_OF_MEMORY : ENCDIFF_ERROR_DEVICE,
                   "cuDNN error %d: %s, in %s at %s:%d", (int)code, cudnnGetErrorString(code), call, file_name(file),
                   line);
}

encdiff_status ed_cuda_launched(ed_env *env, const char *kernel, const char *file, int line)
{
    cudaError_t code = cudaGetLastError();
    return code == cudaSuccess ? ENCDIFF_OK : ed_cuda_status(env, code, kernel, file, line);
}
