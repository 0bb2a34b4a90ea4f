/* The plugin's table: the devices, and opening one. */
#include <stdio.h>

#include <encdiff/version.h>

#include "cuda/backend/cuda.h"

/* 35, what a machine without a driver gives, and 100, what one without a device gives, mean the same to a user: no GPU
 * can be used. The text says which. */
static encdiff_status count_devices(ed_env *env, int *count)
{
    cudaError_t code = cudaGetDeviceCount(count);
    if (code == cudaSuccess && *count > 0) return ENCDIFF_OK;
    if (code != cudaSuccess) (void)cudaGetLastError();
    *count = 0;
    if (code == cudaErrorInsufficientDriver)
        return ed_fail(env, ENCDIFF_ERROR_DEVICE, "no NVIDIA driver, or one too old for CUDA %d.%d",
                       CUDART_VERSION / 1000, CUDART_VERSION / 10 % 100);
    if (code == cudaSuccess || code == cudaErrorNoDevice)
        return ed_fail(env, ENCDIFF_ERROR_DEVICE, "no NVIDIA GPU is visible to this program");
    return ED_CUDA_CALL(env, code);
}

static bool too_old(const struct cudaDeviceProp *p) { return p->major * 10 + p->minor < ED_CUDA_OLDEST; }

static encdiff_status describe(ed_env *env, int device, ed_plugin_device *out)
{
    struct cudaDeviceProp properties;
    size_t available = 0, total = 0;
    *out = (ed_plugin_device){0};
    ED_TRY(ED_CUDA_CALL(env, cudaGetDeviceProperties(&properties, device)));
    snprintf(out->description, sizeof out->description, "%.100s", properties.name);
    out->memory_total = properties.totalGlobalMem;
    if (too_old(&properties)) {
        snprintf(out->reason, sizeof out->reason, "compute capability %d.%d is below %d.%d", properties.major,
                 properties.minor, ED_CUDA_OLDEST / 10, ED_CUDA_OLDEST % 10);
        return ENCDIFF_OK;
    }
    ED_TRY(ED_CUDA_CALL(env, cudaSetDevice(device)));
    ED_TRY(ED_CUDA_CALL(env, cudaMemGetInfo(&available, &total)));
    out->memory_free = available;
    return ENCDIFF_OK;
}

static encdiff_status devices(ed_env *env, ed_plugin_device *out, int capacity, int *count)
{
    int previous;
    ED_TRY(count_devices(env, count));
    ED_TRY(ED_CUDA_CALL(env, cudaGetDevice(&previous)));
    for (int i = 0; i < *count && i < capacity; i++)
        if (describe(env, i, &out[i]) != ENCDIFF_OK) /* one that fails does not hide the others */
            snprintf(out[i].reason, sizeof out[i].reason, "%.250s", env->message);
    return ED_CUDA_CALL(env, cudaSetDevice(previous));
}

static void close_device(ed_backend *backend)
{
    ed_cuda *cuda = ed_cuda_of(backend);
    ed_env env;
    if (!cuda) return;
    ed_env_child(&env, cuda->env);
    bool entered = ed_cuda_enter(cuda, &env) == ENCDIFF_OK;
    if (cuda->stream) (void)cudaStreamSynchronize(cuda->stream);
    ed_cuda_free_conv_plans(cuda);
    ed_cuda_free_stages(cuda);
    if (cuda->dnn) (void)cudnnDestroy(cuda->dnn);
    if (cuda->blas) (void)cublasLtDestroy(cuda->blas);
    if (cuda->run) (void)cudaFree(cuda->run);
    if (cuda->partials) (void)cudaFree(cuda->partials);
    if (cuda->copies) (void)cudaStreamDestroy(cuda->copies);
    if (cuda->stream && cuda->own_stream) (void)cudaStreamDestroy(cuda->stream);
    if (entered) (void)ed_cuda_leave(cuda, &env, ENCDIFF_OK);
    ed_free(&env, cuda);
}

static encdiff_status create_handles(ed_cuda *cuda, ed_env *env)
{
    if (!cuda->stream) {
        ED_TRY(ED_CUDA_CALL(env, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking)));
        cuda->own_stream = true;
    }
    ED_TRY(ED_CUDA_CALL(env, cudaStreamCreateWithFlags(&cuda->copies, cudaStreamNonBlocking)));
    ED_TRY(ED_CUDA_CALL(env, cudaMalloc((void **)&cuda->run, sizeof *cuda->run)));
    ED_TRY(ED_CUDA_CALL(env, cudaMalloc((void **)&cuda->partials, ED_CUDA_PARTIALS * sizeof *cuda->partials)));
    ED_TRY(ed_cuda_create_stages(cuda, env));
    ED_TRY(ED_BLAS_CALL(env, cublasLtCreate(&cuda->blas)));
    ED_TRY(ED_DNN_CALL(env, cudnnCreate(&cuda->dnn)));
    return ED_DNN_CALL(env, cudnnSetStream(cuda->dnn, cuda->stream));
}

static encdiff_status check_device(ed_env *env, int device)
{
    struct cudaDeviceProp properties;
    int count;
    ED_TRY(count_devices(env, &count));
    if (device < 0 || device >= count)
        return ed_fail(env, ENCDIFF_ERROR_DEVICE, "there is no device %d: %d are visible", device, count);
    ED_TRY(ED_CUDA_CALL(env, cudaGetDeviceProperties(&properties, device)));
    if (too_old(&properties))
        return ed_fail(env, ENCDIFF_ERROR_DEVICE, "%.100s has compute capability %d.%d, below %d.%d", properties.name,
                       properties.major, properties.minor, ED_CUDA_OLDEST / 10, ED_CUDA_OLDEST % 10);
    return ENCDIFF_OK;
}

static encdiff_status open_device(ed_env *env, int device, const ed_backend_options *options, ed_backend **out)
{
    *out = NULL;
    ED_TRY(check_device(env, device));
    ed_cuda *cuda = ed_alloc(env, 1, sizeof *cuda);
    if (!cuda) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    cuda->table = ed_cuda_table;
    cuda->env = env;
    cuda->device = device;
    cuda->stream = options->stream;
    cuda->tf32 = options->tf32;
    cuda->im2col = options->im2col;
    if (options->plain) cuda->table.record = NULL;
    encdiff_status status = ed_cuda_enter(cuda, env);
    if (status == ENCDIFF_OK) status = ed_cuda_leave(cuda, env, create_handles(cuda, env));
    if (status != ENCDIFF_OK)
        close_device(&cuda->table);
    else
        *out = &cuda->table;
    return status;
}

__attribute__((visibility("default"))) const ed_plugin *encdiff_cuda_plugin(void);

const ed_plugin *encdiff_cuda_plugin(void)
{
    static const ed_plugin plugin = {
        .version = ED_BACKEND_VERSION,
        .layout = ED_PLUGIN_LAYOUT,
        .release = ENCDIFF_VERSION_STRING,
        .devices = devices,
        .open = open_device,
        .close = close_device,
    };
    return &plugin;
}
