/* Convolutions by cuDNN. */
#ifndef ED_CUDA_DNN_H
#define ED_CUDA_DNN_H

#include "cuda/backend/cuda.h"
#include "cuda/kernels/columns_api.h"

typedef enum ed_dnn_kind { ED_DNN_FORWARD, ED_DNN_GRAD_INPUT, ED_DNN_GRAD_WEIGHT } ed_dnn_kind;

/*
 * The plan of a convolution, made once per shape and kept by the backend; *scratch is what a run wants. *plan is NULL
 * where cuDNN has no engine that is deterministic and as precise as asked; that is no failure.
 */
encdiff_status ed_dnn_plan(ed_cuda *cuda, ed_env *env, ed_dnn_kind kind, ed_type type, const ed_cuda_conv *conv,
                           ed_cuda_conv_plan **plan, size_t *scratch);
/* x, w and y of the convolution, or the gradients in their place; one of them is written (=). Activations and weights
 * have the plan's type, gradients of weights are f32. */
encdiff_status ed_dnn_run(ed_cuda *cuda, ed_env *env, const ed_cuda_conv_plan *plan, void *x, void *w, void *y,
                          void *scratch);

#endif
