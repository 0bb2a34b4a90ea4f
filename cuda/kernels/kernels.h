/* What cuda/kernels and the products and convolutions of cuda/backend provide: one entry per operator, and the
 * optimiser's members of ed_backend. */
#ifndef ED_CUDA_KERNELS_H
#define ED_CUDA_KERNELS_H

#include "graph/backend.h"

#define ED_OP(id, name, inputs, outputs, accumulated, in_place) extern const ed_kernel ed_cuda_##name;
#include "graph/ops.def"
#undef ED_OP

encdiff_status ed_cuda_adamw(ed_backend *self, ed_env *env, const ed_adamw *options, const ed_span *spans, int count);
encdiff_status ed_cuda_sum_squares(ed_backend *self, ed_env *env, const ed_span *spans, int count, double *out);

#endif
