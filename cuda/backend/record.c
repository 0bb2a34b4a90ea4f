/*
 * Runs as CUDA graphs. A run's kernels are captured from the working stream and made into one graph that is launched
 * from then on. What differs from run to run is in device memory (stream.h), and is brought there before.
 */
#include "cuda/backend/cuda.h"

encdiff_status ed_cuda_record(ed_cuda *cuda, ed_env *env)
{
    return ED_CUDA_CALL(env, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal));
}

encdiff_status ed_cuda_recorded(ed_cuda *cuda, ed_env *env, void **recording)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t made = NULL;
    *recording = NULL;
    ED_TRY(ED_CUDA_CALL(env, cudaStreamEndCapture(cuda->stream, &graph)));
    encdiff_status status = ED_CUDA_CALL(env, cudaGraphInstantiate(&made, graph, 0));
    (void)cudaGraphDestroy(graph);
    *recording = made;
    return status;
}

encdiff_status ed_cuda_replay(ed_cuda *cuda, ed_env *env, void *recording)
{
    return ED_CUDA_CALL(env, cudaGraphLaunch(recording, cuda->stream));
}

void ed_cuda_forget(ed_cuda *cuda, void *recording)
{
    (void)cudaStreamSynchronize(cuda->stream);
    (void)cudaGraphExecDestroy(recording);
}
