/*
 * Matrix products through dnnl_sgemm, on the calling thread.
 *
 * A oneDNN built with OpenMP takes the number of threads from the calling thread's setting, so that is what the guard
 * changes and puts back: a few nanoseconds. The symbols are weak: a oneDNN with another runtime (or none) brings no
 * OpenMP into the process, and then there is nothing to guard against.
 */
#include <dnnl.h>

#include "cpu/onednn/internal.h"

#if DNNL_CPU_RUNTIME != DNNL_RUNTIME_OMP && DNNL_CPU_RUNTIME != DNNL_RUNTIME_SEQ
#error "a oneDNN with the OpenMP or the sequential runtime is needed"
#endif

extern int omp_get_max_threads(void) __attribute__((weak));
extern void omp_set_num_threads(int threads) __attribute__((weak));

int ed_omp_enter(void)
{
    if (!omp_get_max_threads || !omp_set_num_threads) return 1;
    int saved = omp_get_max_threads();
    if (saved != 1) omp_set_num_threads(1);
    return saved;
}

void ed_omp_leave(int saved)
{
    if (saved != 1) omp_set_num_threads(saved);
}

encdiff_status ed_sgemm(char transa, char transb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                        int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    int saved = ed_omp_enter();
    dnnl_status_t status = dnnl_sgemm(transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    ed_omp_leave(saved);
    if (status == dnnl_success) return ENCDIFF_OK;
    return status == dnnl_out_of_memory ? ENCDIFF_ERROR_OUT_OF_MEMORY : ENCDIFF_ERROR_INTERNAL;
}

encdiff_status ed_gemm(ed_env *env, char transa, char transb, int64_t m, int64_t n, int64_t k, const float *a,
                       int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    encdiff_status status = ed_sgemm(transa, transb, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
    if (status == ENCDIFF_OK) return status;
    return ed_fail(env, status, "a matrix product of %lld x %lld x %lld failed in oneDNN", (long long)m, (long long)n,
                   (long long)k);
}

void ed_copy_rows(int64_t rows, int64_t columns, const float *from, int64_t from_pitch, float *to, int64_t to_pitch)
{
    for (int64_t i = 0; i < rows; i++, from += from_pitch, to += to_pitch)
        memcpy(to, from, (size_t)columns * sizeof *to);
}
