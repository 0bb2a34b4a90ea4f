/*
 * What surrounds the products of cuda/backend: bias and residual, sums down columns, im2col and back, and conversion.
 *
 *   add_bias       y[rows, c] += b[c] + r[rows, c]              either may be absent; in place
 *   column_sums    out[c] += sum over rows of x[rows, c]        f32
 *   image_columns  cols[n, p, q, i, j, c] = x[n, p s + i - top, q s + j - left, c], 0 outside the image
 *   column_images  dx[n, h, w, c] = sum over the taps (i, j) that saw the pixel of cols[n, p, q, i, j, c]
 *   add_f32        to[count] += from[count]
 *   narrow         f32 to bf16
 *
 * column_sums cuts the rows into slices: the sums of each go to partial[slice][c], and a second kernel adds those in
 * their order.
 */
#include "cuda/gpu.h"

extern "C" {
#include "cuda/kernels/columns_api.h"
}

enum { BLOCK = 256, LANES = 32, SLICE_ROWS = 8 };

/* ---------------------------------------------------------------- bias and residual */

template <class T>
__global__ void ED_THREADS(BLOCK) add_bias(int64_t count, int64_t c, const float *b, const T *r, T *y)
{
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
        float v = ed_load(y + i);
        if (b) v += b[i % c];
        if (r) v += ed_load(r + i);
        ed_store(y + i, v);
    }
}

template <class T>
static encdiff_status launch_add_bias(ed_backend *self, ed_env *env, int64_t rows, int64_t c, const float *b,
                                      const void *r, void *y)
{
    return ED_LAUNCH_ON(self, env, add_bias<T>, ed_blocks(rows * c, BLOCK), BLOCK, 0, rows * c, c, b,
                        static_cast<const T *>(r), static_cast<T *>(y));
}

encdiff_status ed_cuda_add_bias(ed_backend *self, ed_env *env, ed_type type, int64_t rows, int64_t c, const float *b,
                                const void *r, void *y)
{
    if (!b && !r) return ENCDIFF_OK;
    return ED_DISPATCH(type, launch_add_bias, self, env, rows, c, b, r, y);
}

/* ---------------------------------------------------------------- sums down columns */

/* A block has 32 columns and 8 rows of threads; blockIdx.y is the slice. */
template <class T>
__global__ void __launch_bounds__(BLOCK)
    slice_sums(int64_t rows, int64_t c, int64_t slice_rows, const T *x, float *partial)
{
    ED_SHARED(float, sums, SLICE_ROWS *LANES);
    int64_t column = (int64_t)blockIdx.x * LANES + threadIdx.x;
    int64_t first = blockIdx.y * slice_rows, last = first + slice_rows < rows ? first + slice_rows : rows;
    float sum = 0;
    if (column < c)
        for (int64_t row = first + threadIdx.y; row < last; row += SLICE_ROWS) sum += ed_load(x + row * c + column);
    sums[threadIdx.y * LANES + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || column >= c) return;
    for (int i = 1; i < SLICE_ROWS; i++) sum += sums[i * LANES + threadIdx.x];
    partial[blockIdx.y * c + column] = sum;
}

__global__ void ED_THREADS(BLOCK) add_slices(int64_t c, int slices, const float *partial, float *out)
{
    int64_t column = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= c) return;
    float sum = 0;
    for (int i = 0; i < slices; i++) sum += partial[i * c + column];
    out[column] += sum;
}

/* Enough slices to fill a device, few enough that adding them is quick. */
static int slices_of(int64_t rows, int64_t c)
{
    int64_t blocks = (c + LANES - 1) / LANES, wanted = ED_MAX(256 / blocks, 1);
    return static_cast<int>(ED_MAX(ED_MIN(wanted, (rows + 63) / 64), 1));
}

size_t ed_cuda_column_sums_scratch(int64_t rows, int64_t c)
{
    return static_cast<size_t>(slices_of(rows, c) * c) * sizeof(float);
}

template <class T>
static encdiff_status launch_column_sums(ed_backend *self, ed_env *env, int64_t rows, int64_t c, const void *x,
                                         float *out, float *partial)
{
    int slices = slices_of(rows, c);
    dim3 grid(static_cast<unsigned>((c + LANES - 1) / LANES), static_cast<unsigned>(slices));
    ED_TRY(ED_LAUNCH_ON(self, env, slice_sums<T>, grid, dim3(LANES, SLICE_ROWS), 0, rows, c,
                        (rows + slices - 1) / slices, static_cast<const T *>(x), partial));
    return ED_LAUNCH_ON(self, env, add_slices, ed_blocks(c, BLOCK), BLOCK, 0, c, slices, partial, out);
}

encdiff_status ed_cuda_column_sums(ed_backend *self, ed_env *env, ed_type type, int64_t rows, int64_t c, const void *x,
                                   float *out, void *scratch)
{
    return ED_DISPATCH(type, launch_column_sums, self, env, rows, c, x, out, static_cast<float *>(scratch));
}

/* ---------------------------------------------------------------- im2col and back */

template <class T>
__global__ void ED_THREADS(BLOCK) image_columns(ed_cuda_conv s, int64_t count, const T *x, T *columns)
{
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += stride) {
        int64_t c = at % s.c, rest = at / s.c;
        int64_t j = rest % s.kw, i = rest / s.kw % s.kh;
        rest /= s.kw * s.kh;
        int64_t row = rest / s.q % s.p * s.stride + i - s.top, column = rest % s.q * s.stride + j - s.left;
        int64_t n = rest / (s.p * s.q);
        bool inside = row >= 0 && row < s.h && column >= 0 && column < s.w;
        ed_store(columns + at, inside ? ed_load(x + ((n * s.h + row) * s.w + column) * s.c + c) : 0.0f);
    }
}

template <class T>
__global__ void ED_THREADS(BLOCK) column_images(ed_cuda_conv s, int64_t count, const T *columns, T *dx)
{
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += stride) {
        int64_t c = at % s.c, x = at / s.c % s.w, y = at / s.c / s.w % s.h, n = at / s.c / s.w / s.h;
        float sum = 0;
        for (int64_t i = 0; i < s.kh; i++)
            for (int64_t j = 0; j < s.kw; j++) {
                int64_t p = y + s.top - i, q = x + s.left - j;
                if (p < 0 || q < 0 || p % s.stride || q % s.stride) continue;
                p /= s.stride;
                q /= s.stride;
                if (p >= s.p || q >= s.q) continue;
                sum += ed_load(columns + ((((n * s.p + p) * s.q + q) * s.kh + i) * s.kw + j) * s.c + c);
            }
        ed_store(dx + at, sum);
    }
}

template <class T>
static encdiff_status launch_columns(ed_backend *self, ed_env *env, const ed_cuda_conv *s, const void *x, void *columns)
{
    int64_t count = s->n * s->p * s->q * s->kh * s->kw * s->c;
    return ED_LAUNCH_ON(self, env, image_columns<T>, ed_blocks(count, BLOCK), BLOCK, 0, *s, count,
                        static_cast<const T *>(x), static_cast<T *>(columns));
}

template <class T>
static encdiff_status launch_images(ed_backend *self, ed_env *env, const ed_cuda_conv *s, const void *columns, void *dx)
{
    int64_t count = s->n * s->h * s->w * s->c;
    return ED_LAUNCH_ON(self, env, column_images<T>, ed_blocks(count, BLOCK), BLOCK, 0, *s, count,
                        static_cast<const T *>(columns), static_cast<T *>(dx));
}

encdiff_status ed_cuda_image_columns(ed_backend *self, ed_env *env, ed_type type, const ed_cuda_conv *s, const void *x,
                                     void *columns)
{
    return ED_DISPATCH(type, launch_columns, self, env, s, x, columns);
}

encdiff_status ed_cuda_column_images(ed_backend *self, ed_env *env, ed_type type, const ed_cuda_conv *s,
                                     const void *columns, void *dx)
{
    return ED_DISPATCH(type, launch_images, self, env, s, columns, dx);
}

/* ---------------------------------------------------------------- sums and conversions */

__global__ void ED_THREADS(BLOCK) add_f32(int64_t count, const float *from, float *to)
{
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) to[i] += from[i];
}

encdiff_status ed_cuda_add_f32(ed_backend *self, ed_env *env, int64_t count, const float *from, float *to)
{
    return ED_LAUNCH_ON(self, env, add_f32, ed_blocks(count, BLOCK), BLOCK, 0, count, from, to);
}

__global__ void ED_THREADS(BLOCK) narrow(int64_t count, const float *from, __nv_bfloat16 *to)
{
    int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) ed_store(to + i, from[i]);
}

encdiff_status ed_cuda_narrow(ed_backend *self, ed_env *env, int64_t count, const float *from, void *to)
{
    return ED_LAUNCH_ON(self, env, narrow, ed_blocks(count, BLOCK), BLOCK, 0, count, from,
                        static_cast<__nv_bfloat16 *>(to));
}
