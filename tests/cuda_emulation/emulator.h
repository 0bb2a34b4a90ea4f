/*
 * The CUDA language for the host's compiler (C++17), so that the files in cuda/kernels run without a GPU. cuda/gpu.h
 * includes it where nvcc would provide the language; types and prototypes are the toolkit's own.
 *
 *   emulator.h     what kernels use: indices, barriers, shuffles, votes, atomics, shared memory, launches
 *   scheduler.cpp  runs a grid: one fiber per CUDA thread, blocks one after another, in one of three orders
 *   shared.cpp     where shared memory is        memory.cpp  device memory
 *   runtime.cpp    the CUDA runtime calls in use: copies, streams, events, graphs, devices
 *   blas.cpp       the cuBLAS calls in use       dnn.cpp  cuDNN's graph API as far as it is in use
 *   checker.cpp    the checked build: every access of a kernel against what is known of each byte
 *   trace.cpp      the checked build: counts bytes, sectors and bank conflicts of each kernel
 *
 * What it finds: wrong results in any of the schedules, barriers that not all threads reach, masks that name absent
 * lanes, launches over the limits, missing waits between streams (work is done as late as the program allows), device
 * memory touched by the host. In the checked build also races between threads, between blocks and between streams,
 * accesses out of bounds or misaligned, reads of what was never written, kernels that touch the host's memory
 * (checker.h). seeded.cu has one kernel for each of these bugs. What it cannot find: anything about speed, what the
 * device compiler does, the vendor libraries' numerics.
 */
#ifndef ED_EMULATOR_H
#define ED_EMULATOR_H

#include <cstdlib>
#include <functional>
#include <tuple>
#include <type_traits>

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__ /* kernels say ED_SHARED */

/* The emulation's own accesses are no accesses of the kernel. */
#define EMULATION __attribute__((no_sanitize("thread")))

namespace emulator
{

/* Where a thread is in the source, for reports. */
struct place {
    const char *file;
    int line;
};

struct thread {
    uint3 index;
    unsigned number, lane, warp; /* number in the block */
    int state;
    void *stack_pointer, *stack, *tsan_fiber, *asan_stack;
    place at;
    uint32_t clock, seen[32]; /* __syncwarps passed; those of the warp's other lanes that happened before now */
};

struct warp {
    unsigned live, arrived, mask, generation; /* lanes that run; that wait; of the operation waited for; operations */
    uint64_t slot[32];
};

extern thread *current;
extern warp *warps;
extern dim3 grid_size, block_size;
extern uint3 block_index;
extern void *dynamic_shared;

void block_barrier(place at);
void warp_barrier(unsigned mask, place at, bool orders_memory);
struct launch_info {
    const void *kernel;
    const char *name;
    dim3 grid, block;
    size_t shared; /* dynamic */
};

void launch(const launch_info &what, cudaStream_t stream, place at, std::function<void()> body);
/* Static shared memory: poisoned before each block. */
void *register_shared(size_t bytes);
#ifdef ED_EMULATION_CHECKED
/* What follows is one atomic access; where the running kernel's arguments are. */
void note_atomic(const void *p, size_t bytes);
void note_arguments(const void *p, size_t bytes);
#else
inline void note_atomic(const void *, size_t) {}
inline void note_arguments(const void *, size_t) {}
#endif

template <class T, size_t N> struct shared_array {
    T (*data)[N];
    shared_array() : data(static_cast<T (*)[N]>(register_shared(sizeof(T) * N))) {}
};

template <class T> EMULATION inline uint64_t to_bits(T value)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <class T> EMULATION inline T from_bits(uint64_t bits)
{
    T value;
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}

/* The value of lane `source` of this lane's group of `width`; its own where source < 0, poison from a lane outside the
 * mask. */
template <class T> EMULATION inline T shuffle(unsigned mask, T value, int source, int width, place at)
{
    warp &w = warps[current->warp];
    w.slot[current->lane] = to_bits(value);
    warp_barrier(mask, at, false);
    uint64_t bits = to_bits(value);
    unsigned from = (current->lane & ~static_cast<unsigned>(width - 1)) +
                    static_cast<unsigned>(source < 0 ? 0 : source);
    if (source >= 0) bits = (mask >> from) & 1 ? w.slot[from] : ~UINT64_C(0);
    warp_barrier(mask, at, false);
    return from_bits<T>(bits);
}

EMULATION inline int lane_in_group(int width)
{
    return static_cast<int>(current->lane & static_cast<unsigned>(width - 1));
}

template <class T> EMULATION inline T shuffle_to(unsigned mask, T value, int source, int width, place at)
{
    return shuffle(mask, value, source >= 0 && source < width ? source : -1, width, at);
}

EMULATION inline unsigned ballot(unsigned mask, bool vote, place at)
{
    warp &w = warps[current->warp];
    w.slot[current->lane] = vote;
    warp_barrier(mask, at, false);
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if ((mask >> lane) & 1) votes |= static_cast<unsigned>(w.slot[lane]) << lane;
    warp_barrier(mask, at, false);
    return votes;
}

inline unsigned mask_or_full(unsigned mask = 0xffffffffu) { return mask; }
inline int width_or_32(int width = 32) { return width; }

/* The kernel with its arguments converted and copied, as a launch does. */
template <class... P> struct bound {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
    EMULATION void operator()() const
    {
        note_arguments(this, sizeof *this);
        std::apply(kernel, arguments);
    }
};

template <class... P, class... A> static std::function<void()> bind(void (*kernel)(P...), A... arguments)
{
    static_assert(sizeof...(P) == sizeof...(A), "the launch has another number of arguments than the kernel");
    return bound<P...>{kernel, std::tuple<P...>(static_cast<P>(arguments)...)};
}

} // namespace emulator

#define ED_PLACE                                                                                                       \
    ::emulator::place { __FILE__, __LINE__ }

#define ED_SHARED(T, name, count)                                                                                      \
    static ::emulator::shared_array<T, (count)> name##_storage;                                                        \
    T(&name)[count] = *name##_storage.data
#define ED_DYNAMIC_SHARED(T, name) T *name = static_cast<T *>(::emulator::dynamic_shared)
#define ED_ENQUEUE(stream, kernel, grid, block, shared, ...)                                                           \
    ::emulator::launch({reinterpret_cast<const void *>(+kernel), #kernel, grid, block, shared}, stream, ED_PLACE,      \
                       ::emulator::bind(kernel, __VA_ARGS__))

#define threadIdx (::emulator::current->index)
#define blockIdx (::emulator::block_index)
#define blockDim (::emulator::block_size)
#define gridDim (::emulator::grid_size)
#define warpSize 32

#define __syncthreads() ::emulator::block_barrier(ED_PLACE)
#define __syncwarp(...) ::emulator::warp_barrier(::emulator::mask_or_full(__VA_ARGS__), ED_PLACE, true)
#define __shfl_sync(mask, v, source, ...)                                                                              \
    ::emulator::shuffle(mask, v, static_cast<int>(source) & (::emulator::width_or_32(__VA_ARGS__) - 1),                \
                        ::emulator::width_or_32(__VA_ARGS__), ED_PLACE)
#define __shfl_xor_sync(mask, v, bits, ...)                                                                            \
    ::emulator::shuffle_to(mask, v, ::emulator::lane_in_group(::emulator::width_or_32(__VA_ARGS__)) ^ (bits),          \
                           ::emulator::width_or_32(__VA_ARGS__), ED_PLACE)
#define __shfl_down_sync(mask, v, delta, ...)                                                                          \
    ::emulator::shuffle_to(mask, v,                                                                                    \
                           ::emulator::lane_in_group(::emulator::width_or_32(__VA_ARGS__)) + static_cast<int>(delta),  \
                           ::emulator::width_or_32(__VA_ARGS__), ED_PLACE)
#define __shfl_up_sync(mask, v, delta, ...)                                                                            \
    ::emulator::shuffle_to(mask, v,                                                                                    \
                           ::emulator::lane_in_group(::emulator::width_or_32(__VA_ARGS__)) - static_cast<int>(delta),  \
                           ::emulator::width_or_32(__VA_ARGS__), ED_PLACE)
#define __ballot_sync(mask, vote) ::emulator::ballot(mask, (vote) != 0, ED_PLACE)
#define __any_sync(mask, vote) (__ballot_sync(mask, vote) != 0)
#define __all_sync(mask, vote) (__ballot_sync(mask, vote) == (mask))

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __threadfence(); }
template <class T> inline T __ldg(const T *p) { return *p; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline void sincospif(float x, float *s, float *c)
{
    *s = sinf(3.14159265358979f * x), *c = cosf(3.14159265358979f * x);
}
inline float __fmul_rn(float a, float b)
{
    volatile float product = a * b; /* never fused with a sum */
    return product;
}
inline unsigned __float_as_uint(float x) { return emulator::from_bits<unsigned>(emulator::to_bits(x)); }
inline float __uint_as_float(unsigned x) { return emulator::from_bits<float>(emulator::to_bits(x)); }
inline int __float_as_int(float x) { return emulator::from_bits<int>(emulator::to_bits(x)); }
inline float __int_as_float(int x) { return emulator::from_bits<float>(emulator::to_bits(x)); }
inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }

/* Not inlined, since the checked build would take their loads and stores for plain ones. */
#define ATOMIC template <class T> EMULATION __attribute__((noinline)) T

ATOMIC atomicAdd(T *p, T value)
{
    emulator::note_atomic(p, sizeof(T));
    if constexpr (std::is_integral<T>::value) return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
    T old, sum;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do sum = old + value;
    while (!__atomic_compare_exchange(p, &old, &sum, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

ATOMIC atomicMax(T *p, T value)
{
    emulator::note_atomic(p, sizeof(T));
    T old;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    while (old < value && !__atomic_compare_exchange(p, &old, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}

ATOMIC atomicCAS(T *p, T expected, T value)
{
    emulator::note_atomic(p, sizeof(T));
    __atomic_compare_exchange(p, &expected, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}

#endif
