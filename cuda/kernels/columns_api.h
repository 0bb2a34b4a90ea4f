/* The launchers of columns.cu, for the products and convolutions of cuda/backend. */
#ifndef ED_CUDA_COLUMNS_API_H
#define ED_CUDA_COLUMNS_API_H

#include "graph/backend.h"

/* x[n,h,w,c], y[n,p,q,o], w[o,kh,kw,c]; o is the product's affair. */
typedef struct ed_cuda_conv {
    int64_t n, h, w, c, p, q, o, kh, kw, stride, top, left, bottom, right;
} ed_cuda_conv;

encdiff_status ed_cuda_add_bias(ed_backend *self, ed_env *env, ed_type type, int64_t rows, int64_t c, const float *b,
                                const void *r, void *y);
size_t ed_cuda_column_sums_scratch(int64_t rows, int64_t c);
encdiff_status ed_cuda_column_sums(ed_backend *self, ed_env *env, ed_type type, int64_t rows, int64_t c, const void *x,
                                   float *out, void *scratch);
encdiff_status ed_cuda_image_columns(ed_backend *self, ed_env *env, ed_type type, const ed_cuda_conv *conv,
                                     const void *x, void *columns);
encdiff_status ed_cuda_column_images(ed_backend *self, ed_env *env, ed_type type, const ed_cuda_conv *conv,
                                     const void *columns, void *dx);
encdiff_status ed_cuda_add_f32(ed_backend *self, ed_env *env, int64_t count, const float *from, float *to);
encdiff_status ed_cuda_narrow(ed_backend *self, ed_env *env, int64_t count, const float *from, void *to);

#endif
