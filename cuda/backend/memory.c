/*
 * Device memory and copies.
 *
 * An upload is cut into pieces that go   host -> pinned memory (by the processor) -> device buffer (copying stream) ->
 * destination (working stream).   So the caller's memory is free again at once, the transfer runs beside the kernels
 * that are still working, and the destination changes only when the kernels before have read it. The buffers take
 * turns; a turn waits, on the host, until its buffer was consumed the last time.
 */
#include "cuda/backend/cuda.h"

static encdiff_status create_stage(ed_env *env, ed_cuda_stage *s)
{
    ED_TRY(ED_CUDA_CALL(env, cudaHostAlloc(&s->host, ED_CUDA_STAGE_BYTES, cudaHostAllocDefault)));
    ED_TRY(ED_CUDA_CALL(env, cudaMalloc(&s->device, ED_CUDA_STAGE_BYTES)));
    ED_TRY(ED_CUDA_CALL(env, cudaEventCreateWithFlags(&s->arrived, cudaEventDisableTiming)));
    return ED_CUDA_CALL(env, cudaEventCreateWithFlags(&s->consumed, cudaEventDisableTiming));
}

encdiff_status ed_cuda_create_stages(ed_cuda *cuda, ed_env *env)
{
    for (int i = 0; i < ED_CUDA_STAGES; i++) ED_TRY(create_stage(env, &cuda->stages[i]));
    return ENCDIFF_OK;
}

void ed_cuda_free_stages(ed_cuda *cuda)
{
    for (int i = 0; i < ED_CUDA_STAGES; i++) {
        ed_cuda_stage *s = &cuda->stages[i];
        if (s->consumed) (void)cudaEventDestroy(s->consumed);
        if (s->arrived) (void)cudaEventDestroy(s->arrived);
        if (s->device) (void)cudaFree(s->device);
        if (s->host) (void)cudaFreeHost(s->host);
        *s = (ed_cuda_stage){0};
    }
}

void *ed_cuda_allocate(ed_cuda *cuda, ed_env *env, size_t bytes)
{
    ed_cuda_block *block = ed_alloc(env, 1, sizeof *block);
    if (!block) return NULL;
    if (ED_CUDA_CALL(env, cudaMalloc(&block->pointer, ED_MAX(bytes, 1))) != ENCDIFF_OK) {
        ed_fail_within(env, "%zu bytes on the device, %zu in use", bytes, cuda->in_use);
        ed_free(env, block);
        return NULL;
    }
    block->bytes = bytes;
    block->next = cuda->blocks;
    cuda->blocks = block;
    cuda->in_use += bytes;
    cuda->peak = ED_MAX(cuda->peak, cuda->in_use);
    return block->pointer;
}

encdiff_status ed_cuda_release(ed_cuda *cuda, ed_env *env, void *pointer)
{
    for (ed_cuda_block **at = &cuda->blocks; *at; at = &(*at)->next) {
        ed_cuda_block *block = *at;
        if (block->pointer != pointer) continue;
        *at = block->next;
        cuda->in_use -= block->bytes;
        ed_free(env, block);
        return ED_CUDA_CALL(env, cudaFree(pointer));
    }
    return ed_fail(env, ENCDIFF_ERROR_INTERNAL, "device memory that was not allocated is released");
}

static encdiff_status upload_piece(ed_cuda *cuda, ed_env *env, char *to, const char *host, size_t bytes)
{
    ed_cuda_stage *s = &cuda->stages[cuda->next_stage];
    cuda->next_stage = (cuda->next_stage + 1) % ED_CUDA_STAGES;
    ED_TRY(ED_CUDA_CALL(env, cudaEventSynchronize(s->consumed)));
    memcpy(s->host, host, bytes);
    ED_TRY(ED_CUDA_CALL(env, cudaMemcpyAsync(s->device, s->host, bytes, cudaMemcpyHostToDevice, cuda->copies)));
    ED_TRY(ED_CUDA_CALL(env, cudaEventRecord(s->arrived, cuda->copies)));
    ED_TRY(ED_CUDA_CALL(env, cudaStreamWaitEvent(cuda->stream, s->arrived, 0)));
    ED_TRY(ED_CUDA_CALL(env, cudaMemcpyAsync(to, s->device, bytes, cudaMemcpyDeviceToDevice, cuda->stream)));
    return ED_CUDA_CALL(env, cudaEventRecord(s->consumed, cuda->stream));
}

encdiff_status ed_cuda_upload(ed_cuda *cuda, ed_env *env, void *to, const void *host, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += ED_CUDA_STAGE_BYTES)
        ED_TRY(
            upload_piece(cuda, env, (char *)to + at, (const char *)host + at, ED_MIN(ED_CUDA_STAGE_BYTES, bytes - at)));
    return ENCDIFF_OK;
}

/* Piece by piece through the pinned memory of one stage, which no upload is using any more. */
encdiff_status ed_cuda_download(ed_cuda *cuda, ed_env *env, void *host, const void *from, size_t bytes)
{
    ed_cuda_stage *s = &cuda->stages[cuda->next_stage];
    ED_TRY(ED_CUDA_CALL(env, cudaEventSynchronize(s->consumed)));
    for (size_t at = 0; at < bytes; at += ED_CUDA_STAGE_BYTES) {
        size_t piece = ED_MIN(ED_CUDA_STAGE_BYTES, bytes - at);
        ED_TRY(ED_CUDA_CALL(
            env, cudaMemcpyAsync(s->host, (const char *)from + at, piece, cudaMemcpyDeviceToHost, cuda->stream)));
        ED_TRY(ED_CUDA_CALL(env, cudaStreamSynchronize(cuda->stream)));
        memcpy((char *)host + at, s->host, piece);
    }
    return ENCDIFF_OK;
}
