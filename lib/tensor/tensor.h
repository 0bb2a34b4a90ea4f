/*
 * tensor: element types and shapes. What the graph, the file formats and the datasets agree on.
 *
 * Inside the library activations are channels-last: images [n, h, w, c], tokens [n, l, c], vectors [n, c];
 * convolution weights are [out, kh, kw, in]. Files and the public API speak PyTorch's NCHW and OIHW; the two
 * meet in the conversions below. Stands on base alone.
 */
#ifndef ED_TENSOR_H
#define ED_TENSOR_H

#include "base/base.h"

#define ED_MAX_RANK 4

typedef enum ed_type { ED_F32, ED_BF16, ED_F64, ED_I32, ED_I64, ED_U8 } ed_type;

typedef struct ed_shape {
    int rank;
    int64_t dim[ED_MAX_RANK]; /* outermost first */
} ed_shape;

#define ED_SHAPE1(a) ((ed_shape){1, {(a)}})
#define ED_SHAPE2(a, b) ((ed_shape){2, {(a), (b)}})
#define ED_SHAPE3(a, b, c) ((ed_shape){3, {(a), (b), (c)}})
#define ED_SHAPE4(a, b, c, d) ((ed_shape){4, {(a), (b), (c), (d)}})

size_t ed_type_size(ed_type type);
const char *ed_type_name(ed_type type); /* "f32" */

/* bf16 is the upper half of an f32. */
static inline float ed_f32_from_bf16(uint16_t bits)
{
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}
/* Nearest, ties to even; NaN stays NaN. */
static inline uint16_t ed_bf16_from_f32(float value)
{
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    if ((word & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(word >> 16 | 0x40u);
    return (uint16_t)((word + 0x7FFFu + (word >> 16 & 1u)) >> 16);
}

/* Shapes that reach these functions have been validated: every dimension is at least 0 and the product fits. */
int64_t ed_shape_count(const ed_shape *shape);
int64_t ed_shape_last(const ed_shape *shape); /* innermost dimension; 1 for rank 0 */
int64_t ed_shape_rows(const ed_shape *shape); /* count / last */
bool ed_shape_equal(const ed_shape *a, const ed_shape *b);
/* "[2, 16, 16, 64]" into `text`, and returns it. */
const char *ed_shape_text(const ed_shape *shape, char text[64]);
/* The product with every dimension checked to be non-negative and the byte size checked against overflow. */
encdiff_status ed_shape_check(ed_env *env, const ed_shape *shape, ed_type type, const char *what);

/* [n, c, h, w] <-> [n, h, w, c], f32. */
void ed_nchw_to_nhwc(const float *in, float *out, int64_t n, int64_t c, int64_t h, int64_t w);
void ed_nhwc_to_nchw(const float *in, float *out, int64_t n, int64_t c, int64_t h, int64_t w);

#endif
