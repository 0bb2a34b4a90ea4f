/*
 * A small operand that a thread reads once or twice, such as a vector of factors: of either storage type, whatever the
 * type of the tensor that the kernel is compiled for.
 */
#ifndef ED_CUDA_OPERAND_H
#define ED_CUDA_OPERAND_H

#include "cuda/gpu.h"

struct ed_operand {
    const void *data; /* nullptr where absent */
    bool bf16;
    __device__ float operator[](int64_t i) const
    {
        return bf16 ? ed_load(static_cast<const __nv_bfloat16 *>(data) + i) : static_cast<const float *>(data)[i];
    }
};

static inline ed_operand ed_operand_of(const ed_call *call, int input)
{
    if (!call->in[input]) return {nullptr, false};
    return {call->in[input], ed_in_type(call, input) == ED_BF16};
}

#endif
