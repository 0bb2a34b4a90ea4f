/* The table. Every entry makes the device current and puts back the caller's; begin and end do so around a run. */
#include "cuda/backend/cuda.h"
#include "cuda/kernels/kernels.h"

cudaStream_t ed_cuda_stream(const ed_backend *self) { return ((const ed_cuda *)(const void *)self)->stream; }

const ed_cuda_run *ed_cuda_device_run(const ed_backend *self) { return ((const ed_cuda *)(const void *)self)->run; }

double *ed_cuda_partials(const ed_backend *self) { return ((const ed_cuda *)(const void *)self)->partials; }

encdiff_status ed_cuda_enter(ed_cuda *cuda, ed_env *env)
{
    if (cuda->depth == 0) {
        ED_TRY(ED_CUDA_CALL(env, cudaGetDevice(&cuda->previous)));
        if (cuda->previous != cuda->device) ED_TRY(ED_CUDA_CALL(env, cudaSetDevice(cuda->device)));
    }
    cuda->depth++;
    return ENCDIFF_OK;
}

encdiff_status ed_cuda_leave(ed_cuda *cuda, ed_env *env, encdiff_status status)
{
    if (--cuda->depth > 0 || cuda->previous == cuda->device) return status;
    cudaError_t code = cudaSetDevice(cuda->previous);
    return status != ENCDIFF_OK ? status : ED_CUDA_CALL(env, code);
}

/* Where nobody can be told: a failure that freeing finds was made before and said then. */
static ed_env quiet(ed_env *env)
{
    ed_env child;
    ed_env_child(&child, env);
    return child;
}

static void *allocate_raw(ed_backend *self, ed_env *env, size_t bytes)
{
    ed_cuda *cuda = ed_cuda_of(self);
    if (ed_cuda_enter(cuda, env) != ENCDIFF_OK) return NULL;
    void *pointer = ed_cuda_allocate(cuda, env, bytes);
    return ed_cuda_leave(cuda, env, ENCDIFF_OK) == ENCDIFF_OK ? pointer : NULL;
}

static void release(ed_backend *self, ed_env *env, void *pointer)
{
    ed_cuda *cuda = ed_cuda_of(self);
    ed_env silent = quiet(env);
    if (!pointer || ed_cuda_enter(cuda, &silent) != ENCDIFF_OK) return;
    (void)ed_cuda_leave(cuda, &silent, ed_cuda_release(cuda, &silent, pointer));
}

static encdiff_status zero(ed_backend *self, ed_env *env, void *pointer, size_t bytes)
{
    ed_cuda *cuda = ed_cuda_of(self);
    if (!bytes) return ENCDIFF_OK;
    ED_TRY(ed_cuda_enter(cuda, env));
    return ed_cuda_leave(cuda, env, ED_CUDA_CALL(env, cudaMemsetAsync(pointer, 0, bytes, cuda->stream)));
}

static void *allocate(ed_backend *self, ed_env *env, size_t bytes)
{
    void *pointer = allocate_raw(self, env, bytes);
    if (pointer && zero(self, env, pointer, bytes) != ENCDIFF_OK) {
        release(self, env, pointer);
        return NULL;
    }
    return pointer;
}

static encdiff_status upload(ed_backend *self, ed_env *env, void *to, const void *host, size_t bytes)
{
    ed_cuda *cuda = ed_cuda_of(self);
    ED_TRY(ed_cuda_enter(cuda, env));
    return ed_cuda_leave(cuda, env, ed_cuda_upload(cuda, env, to, host, bytes));
}

static encdiff_status download(ed_backend *self, ed_env *env, void *host, const void *from, size_t bytes)
{
    ed_cuda *cuda = ed_cuda_of(self);
    ED_TRY(ed_cuda_enter(cuda, env));
    return ed_cuda_leave(cuda, env, ed_cuda_download(cuda, env, host, from, bytes));
}

static encdiff_status copy(ed_backend *self, ed_env *env, void *to, const void *from, size_t bytes)
{
    ed_cuda *cuda = ed_cuda_of(self);
    if (!bytes) return ENCDIFF_OK;
    ED_TRY(ed_cuda_enter(cuda, env));
    return ed_cuda_leave(cuda, env,
                         ED_CUDA_CALL(env, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda->stream)));
}

static encdiff_status synchronise(ed_backend *self, ed_env *env)
{
    ed_cuda *cuda = ed_cuda_of(self);
    ED_TRY(ed_cuda_enter(cuda, env));
    return ed_cuda_leave(cuda, env, ED_CUDA_CALL(env, cudaStreamSynchronize(cuda->stream)));
}

static encdiff_status adamw(ed_backend *self, ed_env *env, const ed_adamw *options, const ed_span *spans, int count)
{
    ed_cuda *cuda = ed_cuda_of(self);
    ED_TRY(ed_cuda_enter(cuda, env));
    return ed_cuda_leave(cuda, env, ed_cuda_adamw(self, env, options, spans, count));
}

static encdiff_status sum_squares(ed_backend *self, ed_env *env, const ed_span *spans, int count, double *out)
{
    ed_cuda *cuda = ed_cuda_of(self);
    ED_TRY(ed_cuda_enter(cuda, env));
    return ed_cuda_leave(cuda, env, ed_cuda_sum_squares(self, env, spans, count, out));
}

static encdiff_status begin(ed_backend *self, ed_env *env, const ed_run *run)
{
    ed_cuda *cuda = ed_cuda_of(self);
    ED_TRY(ed_cuda_enter(cuda, env));
    encdiff_status status = ed_cuda_set_run(self, env, run);
    return status == ENCDIFF_OK ? status : ed_cuda_leave(cuda, env, status);
}

static encdiff_status end(ed_backend *self, ed_env *env) { return ed_cuda_leave(ed_cuda_of(self), env, ENCDIFF_OK); }

static encdiff_status record(ed_backend *self, ed_env *env)
{
    ed_cuda *cuda = ed_cuda_of(self);
    ED_TRY(ed_cuda_enter(cuda, env));
    return ed_cuda_leave(cuda, env, ed_cuda_record(cuda, env));
}

static encdiff_status recorded(ed_backend *self, ed_env *env, void **recording)
{
    ed_cuda *cuda = ed_cuda_of(self);
    *recording = NULL;
    ED_TRY(ed_cuda_enter(cuda, env));
    return ed_cuda_leave(cuda, env, ed_cuda_recorded(cuda, env, recording));
}

static encdiff_status replay(ed_backend *self, ed_env *env, void *recording)
{
    ed_cuda *cuda = ed_cuda_of(self);
    ED_TRY(ed_cuda_enter(cuda, env));
    return ed_cuda_leave(cuda, env, ed_cuda_replay(cuda, env, recording));
}

static void forget(ed_backend *self, ed_env *env, void *recording)
{
    ed_cuda *cuda = ed_cuda_of(self);
    ed_env silent = quiet(env);
    if (ed_cuda_enter(cuda, &silent) != ENCDIFF_OK) return;
    ed_cuda_forget(cuda, recording);
    (void)ed_cuda_leave(cuda, &silent, ENCDIFF_OK);
}

static void memory(ed_backend *self, bool reset, size_t *in_use, size_t *peak)
{
    ed_cuda *cuda = ed_cuda_of(self);
    if (reset) cuda->peak = cuda->in_use;
    *in_use = cuda->in_use;
    *peak = cuda->peak;
}

const ed_backend ed_cuda_table = {
    .version = ED_BACKEND_VERSION,
    .name = "cuda",
    .images = 64,
#define ED_OP(id, name_, inputs, outputs, accumulated, in_place) [ED_OP_##id] = &ed_cuda_##name_,
    .kernels =
        {
#include "graph/ops.def"
        },
    .bf16 = /* every kernel has both types */
    {
#include "graph/ops.def"
    },
#undef ED_OP
    .allocate = allocate,
    .release = release,
    .upload = upload,
    .download = download,
    .copy = copy,
    .zero = zero,
    .synchronise = synchronise,
    .adamw = adamw,
    .sum_squares = sum_squares,
    .begin = begin,
    .end = end,
    .record = record,
    .recorded = recorded,
    .replay = replay,
    .forget = forget,
    .allocate_raw = allocate_raw,
    .memory = memory,
};
