/*
 * gpu.h: the only header that a kernel file includes, with nvcc or, in the tests, with the host's compiler and
 * tests/cuda_emulation/emulator.h in place of the CUDA language.
 *
 * A file in cuda/kernels holds one operator family: the formula, the kernels, under each its launcher, which has the
 * signature of ed_kernel.run, and last the entries:
 *
 *     ED_CUDA_KERNEL(activation, nullptr, run_activation);          prepare (for scratch memory; may be nullptr), run
 *
 * Rules: plain SIMT code (no cooperative groups, mma or asynchronous copies), so that the emulator can run it. Shapes
 * were checked when the graph was built. Values are stored as f32 or bf16 (ed_value_info.type); arithmetic is f32,
 * statistics, losses and gradients of parameters are always f32. Where the table says "accumulated" a kernel adds
 * (+=), else it writes (=). Sums are taken in a fixed order: no atomics on floats. A launcher only enqueues: no
 * synchronisation, no allocation (scratch is call->scratch), no look at device memory.
 */
#ifndef ED_GPU_H
#define ED_GPU_H

#include <atomic>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

extern "C" {
#include "cuda/backend/stream.h"
#include "graph/backend.h"
}

#ifdef __CUDACC__
/* An array of `count` in shared memory; `count` is a constant. */
#define ED_SHARED(T, name, count) __shared__ T name[count]
/* The dynamic shared memory that the launch asked for, as T. */
#define ED_DYNAMIC_SHARED(T, name)                                                                                     \
    extern __shared__ __align__(16) unsigned char ed_dynamic_shared[];                                                 \
    T *name = reinterpret_cast<T *>(ed_dynamic_shared)
#define ED_ENQUEUE(stream, kernel, grid, block, shared, ...) kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#else
#include "emulator.h"
#endif

/*
 * Enqueue a kernel on the backend's stream; the value is a status, for ED_TRY or return. Names with a comma, as of
 * templates with two arguments, go in parentheses.
 */
#define ED_LAUNCH(call, kernel, grid, block, shared, ...)                                                              \
    ED_LAUNCH_ON((call)->backend, (call)->env, kernel, grid, block, shared, __VA_ARGS__)
#define ED_LAUNCH_ON(backend, env, kernel, grid, block, shared, ...)                                                   \
    (ED_ENQUEUE(ed_cuda_stream(backend), kernel, grid, block, shared, __VA_ARGS__),                                    \
     ed_cuda_launched(env, #kernel, __FILE__, __LINE__))

/* In a kernel's declaration: blocks have at most `count` threads. One block is to fit; without the 1 ptxas spills
 * registers that it has for the sake of more. */
#define ED_THREADS(count) __launch_bounds__(count, 1)

/* The table's entry of an operator. */
#define ED_CUDA_KERNEL(name, prepare, run) extern "C" const ed_kernel ed_cuda_##name = ed_table_entry(prepare, run)

static constexpr ed_kernel ed_table_entry(decltype(ed_kernel::prepare) prepare, decltype(ed_kernel::run) run)
{
    ed_kernel entry = {};
    entry.prepare = prepare;
    entry.run = run;
    return entry;
}

/* function<T>(arguments) with T the storage type of a value. */
#define ED_DISPATCH(type, function, ...)                                                                               \
    ((type) == ED_BF16 ? function<__nv_bfloat16>(__VA_ARGS__) : function<float>(__VA_ARGS__))

static inline ed_type ed_in_type(const ed_call *call, int i) { return call->graph->values[call->node->in[i]].type; }
static inline ed_type ed_out_type(const ed_call *call, int i) { return call->graph->values[call->node->out[i]].type; }
static inline const ed_shape *ed_in_shape(const ed_call *call, int i)
{
    return &call->graph->values[call->node->in[i]].shape;
}
static inline const ed_shape *ed_out_shape(const ed_call *call, int i)
{
    return &call->graph->values[call->node->out[i]].shape;
}
template <class T> static inline T *ed_in(const ed_call *call, int i) { return static_cast<T *>(call->in[i]); }
template <class T> static inline T *ed_out(const ed_call *call, int i) { return static_cast<T *>(call->out[i]); }

/* Blocks of a loop with a stride of the grid over `count` items, `each` to a block: at most `most`, at least one. */
static inline unsigned ed_blocks(int64_t count, int64_t each, int64_t most = 132 * 16)
{
    int64_t blocks = (count + each - 1) / each;
    return static_cast<unsigned>(ED_MAX(ED_MIN(blocks, most), 1));
}

/* Loads and stores in f32, one number or four (16 bytes of f32, 8 of bf16; aligned to that). */
__device__ static inline float ed_load(const float *p) { return *p; }
__device__ static inline float ed_load(const __nv_bfloat16 *p) { return __bfloat162float(*p); }
__device__ static inline void ed_store(float *p, float v) { *p = v; }
__device__ static inline void ed_store(__nv_bfloat16 *p, float v)
{
    __nv_bfloat16 narrow = __float2bfloat16(v); /* apart, for the checked emulation to see the store */
    *p = narrow;
}
__device__ static inline float4 ed_load4(const float *p) { return *reinterpret_cast<const float4 *>(p); }
__device__ static inline void ed_store4(float *p, float4 v) { *reinterpret_cast<float4 *>(p) = v; }
struct __align__(8) ed_bf16x4 { __nv_bfloat16 at[4]; };
__device__ static inline float4 ed_load4(const __nv_bfloat16 *p)
{
    ed_bf16x4 v = *reinterpret_cast<const ed_bf16x4 *>(p);
    return make_float4(__bfloat162float(v.at[0]), __bfloat162float(v.at[1]), __bfloat162float(v.at[2]),
                       __bfloat162float(v.at[3]));
}
__device__ static inline void ed_store4(__nv_bfloat16 *p, float4 v)
{
    ed_bf16x4 packed = {{__float2bfloat16(v.x), __float2bfloat16(v.y), __float2bfloat16(v.z), __float2bfloat16(v.w)}};
    *reinterpret_cast<ed_bf16x4 *>(p) = packed;
}
/* Whether ed_load4 and ed_store4 may be used at p, an array of T; nullptr counts as yes. */
template <class T> static inline bool ed_aligned4(const T *p)
{
    return reinterpret_cast<uintptr_t>(p) % (4 * sizeof(T)) == 0;
}

#endif
