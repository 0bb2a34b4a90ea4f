/* Shapes, types and the two layouts of an image. */
#include <stdio.h>

#include "tensor/tensor.h"

size_t ed_type_size(ed_type type)
{
    switch (type) {
    case ED_F32:
    case ED_I32: return 4;
    case ED_F64:
    case ED_I64: return 8;
    case ED_BF16: return 2;
    case ED_U8: return 1;
    }
    return 0;
}

const char *ed_type_name(ed_type type)
{
    static const char *const names[] = {"f32", "bf16", "f64", "i32", "i64", "u8"};
    return (unsigned)type < ED_COUNT(names) ? names[type] : "unknown";
}

int64_t ed_shape_count(const ed_shape *shape)
{
    int64_t count = 1;
    for (int i = 0; i < shape->rank; i++) count *= shape->dim[i];
    return count;
}

int64_t ed_shape_last(const ed_shape *shape) { return shape->rank ? shape->dim[shape->rank - 1] : 1; }

int64_t ed_shape_rows(const ed_shape *shape)
{
    int64_t rows = 1;
    for (int i = 0; i + 1 < shape->rank; i++) rows *= shape->dim[i];
    return rows;
}

bool ed_shape_equal(const ed_shape *a, const ed_shape *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

const char *ed_shape_text(const ed_shape *shape, char text[64])
{
    size_t at = (size_t)snprintf(text, 64, "[");
    for (int i = 0; i < shape->rank && at < 63; i++)
        at += (size_t)snprintf(text + at, 64 - at, i ? ", %lld" : "%lld", (long long)shape->dim[i]);
    if (at < 63) snprintf(text + at, 64 - at, "]");
    return text;
}

encdiff_status ed_shape_check(ed_env *env, const ed_shape *shape, ed_type type, const char *what)
{
    char text[64];
    int64_t bytes = (int64_t)ed_type_size(type);
    for (int i = 0; i < shape->rank; i++)
        if (shape->dim[i] < 0 || __builtin_mul_overflow(bytes, shape->dim[i], &bytes))
            return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%s: the shape %s is impossible", what,
                           ed_shape_text(shape, text));
    return ENCDIFF_OK;
}

void ed_nchw_to_nhwc(const float *in, float *out, int64_t n, int64_t c, int64_t h, int64_t w)
{
    int64_t pixels = h * w;
    for (int64_t i = 0; i < n; i++, in += c * pixels, out += c * pixels)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t k = 0; k < c; k++) out[p * c + k] = in[k * pixels + p];
}

void ed_nhwc_to_nchw(const float *in, float *out, int64_t n, int64_t c, int64_t h, int64_t w)
{
    int64_t pixels = h * w;
    for (int64_t i = 0; i < n; i++, in += c * pixels, out += c * pixels)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < pixels; p++) out[k * pixels + p] = in[p * c + k];
}
