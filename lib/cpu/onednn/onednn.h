/*
 * cpu/onednn: convolutions and matrix products on the CPU; the only folder that includes dnnl.h.
 *
 *   gemm.c            ed_sgemm and the guard that keeps oneDNN on the calling thread
 *   im2col.c          a convolution as a matrix of patches, and its adjoint
 *   conv.c            conv2d            conv_grad.c      its gradients
 *   linear.c          linear            batched_linear.c one matrix per group
 *   primitive.c       oneDNN's convolution primitives; the only file that differs between oneDNN 2 and 3
 *   internal.h        what these files share
 *
 * lib/cpu's kernel table is the caller; attention and the like may use ed_sgemm. Every kernel works on the calling
 * thread alone, since the batch is what is spread over threads, and allocates nothing of its own while it runs
 * (dnnl_sgemm takes its packing buffers from the C library).
 */
#ifndef ED_CPU_ONEDNN_H
#define ED_CPU_ONEDNN_H

#include "graph/backend.h"

extern const ed_kernel ed_onednn_conv2d, ed_onednn_conv2d_grad_input, ed_onednn_conv2d_grad_weight;
extern const ed_kernel ed_onednn_linear, ed_cpu_linear_grad_input, ed_cpu_linear_grad_weight;
extern const ed_kernel ed_cpu_batched_linear, ed_cpu_batched_linear_grad_input, ed_cpu_batched_linear_grad_weight;

/*
 * c[m,n] = alpha * op(a) op(b) + beta * c, row-major; op(a) is [m,k], op(b) is [k,n]. transa and transb are 'N' or
 * 'T'; lda, ldb, ldc are the distances between stored rows in floats. c is not read when beta is 0. Thread-safe, on
 * the calling thread. ENCDIFF_ERROR_OUT_OF_MEMORY or ENCDIFF_ERROR_INTERNAL, without a recorded message.
 */
encdiff_status ed_sgemm(char transa, char transb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                        int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

#endif
