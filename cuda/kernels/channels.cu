/*
 * Operators along the channels. All =.
 *
 *   add_vector      y[n,...,c] = x[n,...,c] + e[n,c]         sum_positions   de[n,c] = sum of dy[n,...,c]
 *   channel_affine  y = x s[c] + t[c]                        channel_scale   dx = dy s[c]
 *   geglu           y[...,c] = x[...,c] gelu(x[...,C+c])     geglu_grad      dx (..., 2C), with dy (..., C)
 *   concat          y (..., C1+C2) of a (..., C1), b (..., C2)
 *   slice           y (..., to - from) of x (..., C)
 *
 * y of the first three may be x. gelu(g) = g P(g), P the normal distribution function (Hendrycks and Gimpel 2016;
 * Shazeer 2020).
 */
#include "cuda/kernels/columns.h"

/* ---------------------------------------------------------------- a vector for each image or for all */

/* A vector that a thread reads once: e is of the type of x, s and t are f32. */
struct ed_operand {
    const void *data; /* nullptr where absent */
    bool bf16;
    __device__ float operator[](int64_t i) const
    {
        return bf16 ? ed_load(static_cast<const __nv_bfloat16 *>(data) + i) : static_cast<const float *>(data)[i];
    }
};

static ed_operand ed_operand_of(const ed_call *call, int input)
{
    if (!call->in[input]) return {nullptr, false};
    return {call->in[input], ed_in_type(call, input) == ED_BF16};
}

/* y = x * s[image][c] + t[image][c]; s is 1 and t is 0 where not given. */
template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS)
    channels_affine(const T *x, ed_operand s, ed_operand t, T *y, ed_columns c)
{
    ed_place at = ed_column_place<V>(c);
    if (!at.active) return;
    float factor[V], shift[V];
    for (int k = 0; k < V; k++) {
        factor[k] = s.data ? s[at.image * c.channels + at.channel + k] : 1;
        shift[k] = t.data ? t[at.image * c.channels + at.channel + k] : 0;
    }
    for (int64_t row = at.first; row < at.last; row += c.lines) {
        int64_t i = (at.image * c.rows + row) * c.channels + at.channel;
        float v[V];
        ed_load_pack(x + i, v);
        for (int k = 0; k < V; k++) v[k] = v[k] * factor[k] + shift[k];
        ed_store_pack(y + i, v);
    }
}

template <class T, int V>
static encdiff_status launch_affine(const ed_call *call, ed_operand s, ed_operand t, bool by_image)
{
    ed_columns c = by_image ? ed_columns_of_images(ed_in_shape(call, 0), V)
                            : ed_columns_of_rows(ed_in_shape(call, 0), V);
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    return ED_LAUNCH(call, (channels_affine<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, ed_in<T>(call, 0), s,
                     t, ed_out<T>(call, 0), c);
}

static encdiff_status run_affine(const ed_call *call, ed_operand s, ed_operand t, bool by_image)
{
    bool wide = ed_wide(ed_shape_last(ed_in_shape(call, 0)), call->in[0], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch_affine, call, s, t, by_image);
}

static encdiff_status run_add_vector(const ed_call *call)
{
    return run_affine(call, {nullptr, false}, ed_operand_of(call, 1), true);
}
static encdiff_status run_channel_affine(const ed_call *call)
{
    return run_affine(call, ed_operand_of(call, 1), ed_operand_of(call, 2), false);
}
static encdiff_status run_channel_scale(const ed_call *call)
{
    return run_affine(call, ed_operand_of(call, 1), {nullptr, false}, false);
}

/* -> part (N, chunks, C) */
template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS) channels_sums(const T *x, ed_columns c, float *part)
{
    ed_place at = ed_column_place<V>(c);
    float sum[V] = {};
    for (int64_t row = at.first; row < at.last && at.active; row += c.lines) {
        float v[V];
        ed_load_pack(x + (at.image * c.rows + row) * c.channels + at.channel, v);
        for (int k = 0; k < V; k++) sum[k] += v[k];
    }
    ed_sum_lines(sum);
    if (threadIdx.y > 0 || !at.active) return;
    for (int k = 0; k < V; k++) part[(at.image * c.chunks + at.chunk) * c.channels + at.channel + k] = sum[k];
}

static encdiff_status prepare_sum_positions(ed_env *, const ed_graph *graph, const ed_node *node, size_t *scratch,
                                            void **)
{
    ed_columns c = ed_columns_of_images(ed_graph_shape(graph, node->in[0]), 1);
    *scratch = ed_part_bytes(c.images, c.rows, c.channels, 1);
    return ENCDIFF_OK;
}

template <class T, int V> static encdiff_status launch_sum_positions(const ed_call *call)
{
    ed_columns c = ed_columns_of_images(ed_in_shape(call, 0), V);
    float *part = static_cast<float *>(call->scratch);
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    ED_TRY(ED_LAUNCH(call, (channels_sums<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, ed_in<T>(call, 0), c,
                     part));
    return ed_fold<T>(call, part, c.images, c.chunks, c.channels, ed_out<T>(call, 0), nullptr, nullptr, 0);
}

static encdiff_status run_sum_positions(const ed_call *call)
{
    bool wide = ed_wide(ed_shape_last(ed_in_shape(call, 0)), call->in[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch_sum_positions, call);
}

/* ---------------------------------------------------------------- geglu */

/* P(g) and the density without its factor: erfc keeps the digits of the tail. */
__device__ static inline float normal_cdf(float g) { return 0.5f * erfcf(-0.70710678f * g); }
__device__ static inline float normal_density(float g) { return 0.39894228f * __expf(-0.5f * g * g); }

template <class T, int V> __global__ void ED_THREADS(ED_COLUMN_THREADS) channels_geglu(const T *x, T *y, ed_columns c)
{
    ed_place at = ed_column_place<V>(c);
    for (int64_t row = at.first; row < at.last && at.active; row += c.lines) {
        float value[V], gate[V];
        ed_load_pack(x + row * 2 * c.channels + at.channel, value);
        ed_load_pack(x + (row * 2 + 1) * c.channels + at.channel, gate);
        for (int k = 0; k < V; k++) value[k] *= gate[k] * normal_cdf(gate[k]);
        ed_store_pack(y + row * c.channels + at.channel, value);
    }
}

template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS) channels_geglu_grad(const T *x, const T *dy, T *dx, ed_columns c)
{
    ed_place at = ed_column_place<V>(c);
    for (int64_t row = at.first; row < at.last && at.active; row += c.lines) {
        int64_t i = row * 2 * c.channels + at.channel;
        float value[V], gate[V], d[V];
        ed_load_pack(x + i, value);
        ed_load_pack(x + i + c.channels, gate);
        ed_load_pack(dy + row * c.channels + at.channel, d);
        for (int k = 0; k < V; k++) {
            float p = normal_cdf(gate[k]), slope = p + gate[k] * normal_density(gate[k]);
            value[k] *= d[k] * slope;
            gate[k] *= d[k] * p;
        }
        ed_store_pack(dx + i, gate);
        ed_store_pack(dx + i + c.channels, value);
    }
}

template <class T, int V> static encdiff_status launch_geglu(const ed_call *call)
{
    ed_columns c = ed_columns_of_rows(ed_out_shape(call, 0), V);
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    return ED_LAUNCH(call, (channels_geglu<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, ed_in<T>(call, 0),
                     ed_out<T>(call, 0), c);
}

template <class T, int V> static encdiff_status launch_geglu_grad(const ed_call *call)
{
    ed_columns c = ed_columns_of_rows(ed_in_shape(call, 1), V);
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    return ED_LAUNCH(call, (channels_geglu_grad<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, ed_in<T>(call, 0),
                     ed_in<T>(call, 1), ed_out<T>(call, 0), c);
}

static encdiff_status run_geglu(const ed_call *call)
{
    bool wide = ed_wide(ed_shape_last(ed_out_shape(call, 0)), call->in[0], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch_geglu, call);
}

static encdiff_status run_geglu_grad(const ed_call *call)
{
    bool wide = ed_wide(ed_shape_last(ed_in_shape(call, 1)), call->in[0], call->in[1], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch_geglu_grad, call);
}

/* ---------------------------------------------------------------- concat, slice */

/* y[row][channel] = a[row * a_stride + channel] for channel < split, else b[row * b_stride + channel - split] */
template <class T, int V>
__global__ void ED_THREADS(ED_COLUMN_THREADS)
    channels_gather(const T *a, int64_t a_stride, int64_t split, const T *b, int64_t b_stride, T *y, ed_columns c)
{
    ed_place at = ed_column_place<V>(c);
    if (!at.active) return;
    bool first = at.channel < split;
    const T *from = first ? a + at.channel : b + (at.channel - split);
    int64_t stride = first ? a_stride : b_stride;
    for (int64_t row = at.first; row < at.last; row += c.lines) {
        float v[V];
        ed_load_pack(from + row * stride, v);
        ed_store_pack(y + row * c.channels + at.channel, v);
    }
}

template <class T, int V> static encdiff_status launch_concat(const ed_call *call)
{
    ed_columns c = ed_columns_of_rows(ed_out_shape(call, 0), V);
    int64_t left = ed_shape_last(ed_in_shape(call, 0));
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    return ED_LAUNCH(call, (channels_gather<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, ed_in<T>(call, 0),
                     left, left, ed_in<T>(call, 1), c.channels - left, ed_out<T>(call, 0), c);
}

template <class T, int V> static encdiff_status launch_slice(const ed_call *call)
{
    ed_columns c = ed_columns_of_rows(ed_out_shape(call, 0), V);
    const T *from = ed_in<T>(call, 0) + call->node->attr.slice.from;
    if (ed_columns_empty(&c)) return ENCDIFF_OK;
    return ED_LAUNCH(call, (channels_gather<T, V>), ed_columns_grid(&c), ed_columns_block(&c), 0, from,
                     ed_shape_last(ed_in_shape(call, 0)), c.channels, static_cast<const T *>(nullptr), (int64_t)0,
                     ed_out<T>(call, 0), c);
}

static encdiff_status run_concat(const ed_call *call)
{
    int64_t left = ed_shape_last(ed_in_shape(call, 0)), right = ed_shape_last(ed_in_shape(call, 1));
    bool wide = ed_wide(left | right, call->in[0], call->in[1], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch_concat, call);
}

static encdiff_status run_slice(const ed_call *call)
{
    int64_t from = call->node->attr.slice.from, to = call->node->attr.slice.to;
    bool wide = ed_wide(from | to | ed_shape_last(ed_in_shape(call, 0)), call->in[0], call->out[0]);
    return ED_DISPATCH_PACK(ed_in_type(call, 0), wide, launch_slice, call);
}

ED_CUDA_KERNEL(add_vector, nullptr, run_add_vector);
ED_CUDA_KERNEL(sum_positions, prepare_sum_positions, run_sum_positions);
ED_CUDA_KERNEL(channel_affine, nullptr, run_channel_affine);
ED_CUDA_KERNEL(channel_scale, nullptr, run_channel_scale);
ED_CUDA_KERNEL(geglu, nullptr, run_geglu);
ED_CUDA_KERNEL(geglu_grad, nullptr, run_geglu_grad);
ED_CUDA_KERNEL(concat, nullptr, run_concat);
ED_CUDA_KERNEL(slice, nullptr, run_slice);
