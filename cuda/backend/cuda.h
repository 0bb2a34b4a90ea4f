/*
 * cuda: the CUDA backend, a plugin (lib/graph/plugin.h).
 *
 *   backend/plugin.c    the exported function; devices and why one cannot be used; opening and closing
 *   backend/table.c     the backend's table: what runs under the device's guard
 *   backend/memory.c    allocation, and copies through pinned memory
 *   backend/record.c    runs as CUDA graphs
 *   backend/status.c    codes of CUDA, cuBLAS and cuDNN to statuses with a message
 *   backend/gemm.c      matrix products by cuBLASLt       backend/linear.c   the linear operators from them
 *   backend/dnn.c       convolutions by cuDNN's graph API  backend/conv.c    the convolutions: cuDNN, or im2col + gemm
 *   gpu.h, kernels/     the kernels, one operator family a file
 *
 * Work goes to one stream; uploads are copied to the device by a second one. The caller's current device is left as it
 * was. One thread at a time uses a backend. Stands on base, tensor and graph, of which the plugin has its own copy;
 * called only through the table.
 */
#ifndef ED_CUDA_H
#define ED_CUDA_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "cuda/backend/stream.h"
#include "graph/plugin.h"

#define ED_CUDA_OLDEST 80 /* compute capability: bf16 arithmetic, and what the plugin is compiled for */

/* One of the buffers that uploads pass through: host memory, then device memory, then their destination. */
typedef struct ed_cuda_stage {
    void *host, *device;
    cudaEvent_t arrived, consumed; /* on the copying stream; on the working stream */
} ed_cuda_stage;

#define ED_CUDA_STAGES 2
#define ED_CUDA_STAGE_BYTES ((size_t)4 << 20)

typedef struct ed_cuda_block {
    struct ed_cuda_block *next;
    void *pointer;
    size_t bytes;
} ed_cuda_block;

typedef struct ed_cuda_conv_plan ed_cuda_conv_plan;

typedef struct ed_cuda {
    ed_backend table;            /* first: ed_backend * and ed_cuda * are the same address */
    ed_env *env;                 /* of the context that opened it, for closing only */
    int device, previous, depth; /* depth: nested ed_cuda_enter */
    cudaStream_t stream, copies;
    bool own_stream, tf32, im2col;
    cublasLtHandle_t blas;
    cudnnHandle_t dnn;
    ed_cuda_run *run; /* device memory */
    double *partials; /* device memory */
    ed_cuda_stage stages[ED_CUDA_STAGES];
    int next_stage;
    ed_cuda_block *blocks; /* what allocate gave */
    size_t in_use, peak;
    ed_cuda_conv_plan *plans; /* of convolutions, one per shape */
} ed_cuda;

static inline ed_cuda *ed_cuda_of(ed_backend *backend) { return (ed_cuda *)(void *)backend; }

/* ---- status.c. Each call of a library goes through one of these, which note expression, file and line. */

encdiff_status ed_cuda_status(ed_env *env, cudaError_t code, const char *call, const char *file, int line);
encdiff_status ed_cuda_blas_status(ed_env *env, cublasStatus_t code, const char *call, const char *file, int line);
encdiff_status ed_cuda_dnn_status(ed_env *env, cudnnStatus_t code, const char *call, const char *file, int line);
#define ED_CUDA_CALL(env, call) ed_cuda_status(env, call, #call, __FILE__, __LINE__)
#define ED_BLAS_CALL(env, call) ed_cuda_blas_status(env, call, #call, __FILE__, __LINE__)
#define ED_DNN_CALL(env, call) ed_cuda_dnn_status(env, call, #call, __FILE__, __LINE__)

/* ---- table.c */

extern const ed_backend ed_cuda_table;
/* Make the device current until ed_cuda_leave, which passes `status` through unless it fails itself. Calls nest. */
encdiff_status ed_cuda_enter(ed_cuda *cuda, ed_env *env);
encdiff_status ed_cuda_leave(ed_cuda *cuda, ed_env *env, encdiff_status status);

/* ---- memory.c. These run under the guard. */

encdiff_status ed_cuda_create_stages(ed_cuda *cuda, ed_env *env);
void ed_cuda_free_stages(ed_cuda *cuda);
void *ed_cuda_allocate(ed_cuda *cuda, ed_env *env, size_t bytes);
encdiff_status ed_cuda_release(ed_cuda *cuda, ed_env *env, void *pointer);
encdiff_status ed_cuda_upload(ed_cuda *cuda, ed_env *env, void *to, const void *host, size_t bytes);
encdiff_status ed_cuda_download(ed_cuda *cuda, ed_env *env, void *host, const void *from, size_t bytes);

/* ---- record.c, under the guard too */

encdiff_status ed_cuda_record(ed_cuda *cuda, ed_env *env);
encdiff_status ed_cuda_recorded(ed_cuda *cuda, ed_env *env, void **recording);
encdiff_status ed_cuda_replay(ed_cuda *cuda, ed_env *env, void *recording);
void ed_cuda_forget(ed_cuda *cuda, void *recording);

/* ---- dnn.c */

void ed_cuda_free_conv_plans(ed_cuda *cuda);

#endif
