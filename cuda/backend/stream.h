/* What kernel files need of the backend, for C and C++. */
#ifndef ED_CUDA_STREAM_H
#define ED_CUDA_STREAM_H

#include <cuda_runtime_api.h>

#include "graph/backend.h"

/* What a run depends on besides its inputs, in device memory: kernels that were recorded into a CUDA graph read the
 * values of the run that replays them. */
typedef struct ed_cuda_run {
    uint64_t seed, step;
    int64_t first_image;
} ed_cuda_run;

cudaStream_t ed_cuda_stream(const ed_backend *self);
const ed_cuda_run *ed_cuda_device_run(const ed_backend *self);
encdiff_status ed_cuda_set_run(ed_backend *self, ed_env *env, const ed_run *run);
/* Device memory for the partial results of one reduction outside the graph (the optimiser's), ED_CUDA_PARTIALS
 * doubles. */
#define ED_CUDA_PARTIALS 4096
double *ed_cuda_partials(const ed_backend *self);
/* After a launch: the status of cudaGetLastError(), with kernel, file and line in the message. */
encdiff_status ed_cuda_launched(ed_env *env, const char *kernel, const char *file, int line);

#endif
