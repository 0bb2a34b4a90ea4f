/*
 * The backend tables of the CPU, one a level, and the choice between them.
 */
#include "cpu/cpu.h"

/* ---------------------------------------------------------------- memory: the host's */

static void *allocate(ed_backend *self, ed_env *env, size_t bytes)
{
    (void)self;
    void *memory = ed_alloc_raw(env, bytes);
    if (memory) memset(memory, 0, bytes);
    return memory;
}

static void release(ed_backend *self, ed_env *env, void *pointer)
{
    (void)self;
    ed_free(env, pointer);
}

static encdiff_status upload(ed_backend *self, ed_env *env, void *to, const void *host, size_t bytes)
{
    (void)self, (void)env;
    memcpy(to, host, bytes);
    return ENCDIFF_OK;
}

static encdiff_status download(ed_backend *self, ed_env *env, void *host, const void *from, size_t bytes)
{
    (void)self, (void)env;
    memcpy(host, from, bytes);
    return ENCDIFF_OK;
}

static encdiff_status copy(ed_backend *self, ed_env *env, void *to, const void *from, size_t bytes)
{
    (void)self, (void)env;
    memcpy(to, from, bytes);
    return ENCDIFF_OK;
}

static encdiff_status zero(ed_backend *self, ed_env *env, void *pointer, size_t bytes)
{
    (void)self, (void)env;
    memset(pointer, 0, bytes);
    return ENCDIFF_OK;
}

static encdiff_status synchronise(ed_backend *self, ed_env *env)
{
    (void)self, (void)env;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- tables */

enum {
#define ED_CPU_OWN(id, name) HAS_##id,
#define ED_CPU_ONEDNN(id, name) HAS_##id,
#include "cpu/kernels.def"
#undef ED_CPU_OWN
#undef ED_CPU_ONEDNN
    KERNEL_COUNT
};
_Static_assert((int)KERNEL_COUNT == (int)ED_OP_COUNT, "kernels.def names every operator of ops.def once");

/* The kernels for bf16 of every level. */
#define ED_CPU_BOTH(id, name) extern const ed_kernel ed_cpu_##name##_bf16;
#include "cpu/kernels_bf16.def"
#undef ED_CPU_BOTH

/* The activations of eight images stay in the caches. */
#define MEMORY                                                                                                         \
    .version = ED_BACKEND_VERSION, .host_memory = true, .images = 8, .allocate = allocate, .release = release,         \
    .upload = upload, .download = download, .copy = copy, .zero = zero, .synchronise = synchronise

#define ED_CPU_ONEDNN(id, name) [ED_OP_##id] = &ed_cpu_##name,

static ed_backend portable = {
    MEMORY,
    .name = "cpu",
    .adamw = ed_cpu_adamw,
    .sum_squares = ed_cpu_sum_squares,
    .widen = ed_cpu_widen,
    .narrow = ed_cpu_narrow,
    .kernels =
        {
#define ED_CPU_OWN(id, name) [ED_OP_##id] = &ed_cpu_##name,
#include "cpu/kernels.def"
#undef ED_CPU_OWN
        },
    .bf16 =
        {
#define ED_CPU_BOTH(id, name) [ED_OP_##id] = &ed_cpu_##name##_bf16,
#include "cpu/kernels_bf16.def"
#undef ED_CPU_BOTH
        },
};

#if defined(__x86_64__)

#define ED_CPU_BOTH(id, name) extern const ed_kernel ed_cpu_##name##_avx2_bf16, ed_cpu_##name##_avx512_bf16;
#include "cpu/kernels_bf16.def"
#undef ED_CPU_BOTH

#define ED_CPU_OWN(id, name) extern const ed_kernel ed_cpu_##name##_avx2, ed_cpu_##name##_avx512;
#undef ED_CPU_ONEDNN
#define ED_CPU_ONEDNN(id, name)
#include "cpu/kernels.def"
#undef ED_CPU_OWN
#undef ED_CPU_ONEDNN
#define ED_CPU_ONEDNN(id, name) [ED_OP_##id] = &ed_cpu_##name,

static ed_backend avx2 = {
    MEMORY,
    .name = "cpu",
    .adamw = ed_cpu_adamw_avx2,
    .sum_squares = ed_cpu_sum_squares_avx2,
    .widen = ed_cpu_widen_avx2,
    .narrow = ed_cpu_narrow_avx2,
    .kernels =
        {
#define ED_CPU_OWN(id, name) [ED_OP_##id] = &ed_cpu_##name##_avx2,
#include "cpu/kernels.def"
#undef ED_CPU_OWN
        },
    .bf16 =
        {
#define ED_CPU_BOTH(id, name) [ED_OP_##id] = &ed_cpu_##name##_avx2_bf16,
#include "cpu/kernels_bf16.def"
#undef ED_CPU_BOTH
        },
};

/* The kernels of AVX-512; in bf16 those of AVX2, because rounding takes an instruction that the processor lacks. */
static ed_backend avx512 = {
    MEMORY,
    .name = "cpu",
    .adamw = ed_cpu_adamw_avx512,
    .sum_squares = ed_cpu_sum_squares_avx512,
    .widen = ed_cpu_widen_avx512,
    .narrow = ed_cpu_narrow_avx512,
    .kernels =
        {
#define ED_CPU_OWN(id, name) [ED_OP_##id] = &ed_cpu_##name##_avx512,
#include "cpu/kernels.def"
#undef ED_CPU_OWN
        },
    .bf16 =
        {
#define ED_CPU_BOTH(id, name) [ED_OP_##id] = &ed_cpu_##name##_avx2_bf16,
#include "cpu/kernels_bf16.def"
#undef ED_CPU_BOTH
        },
};

static ed_backend avx512_bf16 = {
    MEMORY,
    .name = "cpu",
    .adamw = ed_cpu_adamw_avx512,
    .sum_squares = ed_cpu_sum_squares_avx512,
    .widen = ed_cpu_widen_avx512_bf16,
    .narrow = ed_cpu_narrow_avx512_bf16,
    .kernels =
        {
#define ED_CPU_OWN(id, name) [ED_OP_##id] = &ed_cpu_##name##_avx512,
#include "cpu/kernels.def"
#undef ED_CPU_OWN
        },
    .bf16 =
        {
#define ED_CPU_BOTH(id, name) [ED_OP_##id] = &ed_cpu_##name##_avx512_bf16,
#include "cpu/kernels_bf16.def"
#undef ED_CPU_BOTH
        },
};

/* The features asked for here are the ones that meson.build compiles the levels with. */
ed_backend *ed_backend_cpu_at(ed_cpu_level level)
{
    bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    switch (level) {
    case ED_CPU_PORTABLE: return &portable;
    case ED_CPU_AVX2: return has_avx2 ? &avx2 : NULL;
    case ED_CPU_AVX512: return has_avx512 ? &avx512 : NULL;
    case ED_CPU_AVX512_BF16: return has_avx512 && __builtin_cpu_supports("avx512bf16") ? &avx512_bf16 : NULL;
    default: return NULL;
    }
}

#else

ed_backend *ed_backend_cpu_at(ed_cpu_level level) { return level == ED_CPU_PORTABLE ? &portable : NULL; }

#endif

ed_backend *ed_backend_cpu(void)
{
    int level = ED_CPU_LEVELS - 1;
    while (!ed_backend_cpu_at(level)) level--;
    return ed_backend_cpu_at(level);
}
