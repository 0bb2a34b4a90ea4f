/*
 * cpu: the CPU backend. oneDNN does matrix products and most convolutions (lib/cpu/onednn), the files here do
 * the rest.
 *
 *   cpu.c, kernels.def   the backend table: which kernel an operator has
 *   vector.h, kernel.h   vectors and exp; names and operands of kernels    columns.h  sums down the columns of a matrix
 *   product.h, linear.c  products of rows by packed panels, and linear layers by them
 *   winograd.h           3x3 convolutions, and 4x4 of stride 2, with fewer products
 *   conv_small.c         convolutions of small images; the others are oneDNN's
 *   group_norm.c ...     one kernel family a file: formula, shapes, code
 *   optimiser.c          AdamW with the moving average, sum of squares
 *
 * Every kernel file is compiled once a level: portable (SSE2, NEON, ...), AVX2 with FMA, AVX-512; and those of
 * kernels_bf16.def once more for activations in bf16, which they load and store as such and compute with in f32. The
 * symbols of a level end in its suffix, and ed_backend_cpu() returns the table of the best level that the machine has.
 * Compared with target_clones this works with every compiler and C library, under sanitizers, and lets a test run all
 * levels.
 *
 * Kernels run on the calling thread alone, since the batch is what is spread over threads, and allocate nothing. Where
 * there are fewer images than threads, those of inference compute the part of their outputs that the call asks for.
 * May call base, tensor and graph; only the executor calls it.
 */
#ifndef ED_CPU_H
#define ED_CPU_H

#include "graph/backend.h"

/* The last differs from the one before in its kernels for bf16 alone. */
typedef enum ed_cpu_level {
    ED_CPU_PORTABLE,
    ED_CPU_AVX2,
    ED_CPU_AVX512,
    ED_CPU_AVX512_BF16,
    ED_CPU_LEVELS
} ed_cpu_level;

/* The table of a level, or NULL where the machine or the build lacks it. */
ed_backend *ed_backend_cpu_at(ed_cpu_level level);

#define ED_OP(id, name, inputs, outputs, accumulated, in_place) extern const ed_kernel ed_cpu_##name;
#include "graph/ops.def"
#undef ED_OP

/* What a level has besides kernels; the members of ed_backend of the same names. */
#define ED_CPU_LEVEL(suffix)                                                                                           \
    encdiff_status ed_cpu_adamw##suffix(ed_backend *self, ed_env *env, const ed_adamw *options, const ed_span *spans,  \
                                        int count);                                                                    \
    encdiff_status ed_cpu_sum_squares##suffix(ed_backend *self, ed_env *env, const ed_span *spans, int count,          \
                                              double *out);                                                            \
    void ed_cpu_widen##suffix(const uint16_t *from, float *to, size_t count);                                          \
    void ed_cpu_narrow##suffix(const float *from, uint16_t *to, size_t count);
ED_CPU_LEVEL()
ED_CPU_LEVEL(_avx2)
ED_CPU_LEVEL(_avx512)
#undef ED_CPU_LEVEL
void ed_cpu_widen_avx512_bf16(const uint16_t *from, float *to, size_t count);
void ed_cpu_narrow_avx512_bf16(const float *from, uint16_t *to, size_t count);

#endif
