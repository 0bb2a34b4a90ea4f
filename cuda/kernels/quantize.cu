/*
 * Vector quantisation (van den Oord et al. 2017): z, y (N, H, W, C), codebook e (K, C) f32, index (N, H, W), loss (N).
 *
 *   quantize        index = argmin_k |z - e_k|^2, the lowest k on ties;  y = e[index]
 *                   loss[n] = (commitment + codebook) * mean over an image of (y - z)^2
 *   quantize_grad   dz = dy + dloss commitment 2 (z - y) / items,  de[index] += dloss codebook 2 (y - z) / items
 *
 * y =, index =, loss =, dz =, de +=; dy, dloss, de may be absent. Distances are summed from differences: the square
 * written out would lose digits by cancellation. A warp owns a code in the gradient and walks over all positions, so
 * that each code's sum has one order and needs no atomics.
 */
#include "cuda/kernels/reduce.h"

#define BLOCK 128
#define TILE 1024 /* codes in shared memory, of up to four channels: 16 KB */

/* ---------------------------------------------------------------- nearest codes */

/* Up to four channels: the codes go through shared memory as packs padded with zeros. */
static __global__ void ED_THREADS(BLOCK) quantize_narrow(const float *z, const float *e, int64_t positions,
                                                         int channels, int codes, float *y, int *index, float *distance)
{
    ED_SHARED(float4, tile, TILE);
    int64_t at = (int64_t)blockIdx.x * BLOCK + threadIdx.x;
    float mine[4] = {}, best = INFINITY;
    int nearest = 0;
    for (int c = 0; c < channels && at < positions; c++) mine[c] = z[at * channels + c];
    for (int first = 0; first < codes; first += TILE) {
        int count = codes - first < TILE ? codes - first : TILE;
        __syncthreads(); /* the tile before has been read */
        for (int i = (int)threadIdx.x; i < count; i += BLOCK) {
            const float *code = e + (int64_t)(first + i) * channels;
            tile[i] = make_float4(code[0], channels > 1 ? code[1] : 0, channels > 2 ? code[2] : 0,
                                  channels > 3 ? code[3] : 0);
        }
        __syncthreads();
        for (int i = 0; i < count; i++) {
            float4 code = tile[i];
            float a = mine[0] - code.x, b = mine[1] - code.y, c = mine[2] - code.z, d = mine[3] - code.w;
            float sum = a * a + b * b + c * c + d * d;
            if (sum < best) best = sum, nearest = first + i;
        }
    }
    if (at >= positions) return;
    index[at] = nearest;
    distance[at] = best;
    for (int c = 0; c < channels; c++) y[at * channels + c] = e[(int64_t)nearest * channels + c];
}

/* Any number of channels: a warp per position, its lanes take the codes by turns. */
static __global__ void ED_THREADS(BLOCK) quantize_broad(const float *z, const float *e, int64_t positions, int channels,
                                                        int codes, float *y, int *index, float *distance)
{
    int64_t at = ((int64_t)blockIdx.x * BLOCK + threadIdx.x) / ED_WARP;
    int lane = (int)threadIdx.x % ED_WARP, nearest = codes;
    float best = INFINITY;
    for (int i = lane; i < codes && at < positions; i += ED_WARP) {
        float sum = 0;
        for (int c = 0; c < channels; c++) {
            float off = z[at * channels + c] - e[(int64_t)i * channels + c];
            sum += off * off;
        }
        if (sum < best || nearest == codes) best = sum, nearest = i;
    }
    for (int off = ED_WARP / 2; off > 0; off /= 2) {
        float other = __shfl_xor_sync(ED_ALL_LANES, best, off);
        int code = __shfl_xor_sync(ED_ALL_LANES, nearest, off);
        if (other < best || (other == best && code < nearest)) best = other, nearest = code;
    }
    if (at >= positions) return;
    if (nearest == codes) nearest = 0; /* no distance is a number */
    if (lane == 0) index[at] = nearest, distance[at] = best;
    for (int c = lane; c < channels; c += ED_WARP) y[at * channels + c] = e[(int64_t)nearest * channels + c];
}

/* loss[n] = factor * sum of an image's distances */
static __global__ void ED_THREADS(BLOCK)
    quantize_loss(const float *distance, int64_t positions, float factor, float *loss)
{
    float sum = 0;
    for (int64_t i = threadIdx.x; i < positions; i += BLOCK) sum += distance[(int64_t)blockIdx.x * positions + i];
    sum = ed_sum_block<BLOCK>(sum);
    if (threadIdx.x == 0) loss[blockIdx.x] = factor * sum;
}

/* ---------------------------------------------------------------- gradient */

typedef struct gradient {
    const float *e;
    const int *index;
    const float *dloss; /* nullptr: no loss */
    int64_t positions;  /* of an image */
    int channels;
    float commitment, codebook; /* times 2 / items */
} gradient;

static __global__ void ED_THREADS(BLOCK)
    quantize_grad_items(gradient g, const float *z, const float *dy, float *dz, int64_t count)
{
    int64_t stride = (int64_t)gridDim.x * BLOCK;
    for (int64_t i = (int64_t)blockIdx.x * BLOCK + threadIdx.x; i < count; i += stride) {
        int64_t at = i / g.channels;
        float d = dy ? dy[i] : 0.0f;
        if (g.dloss)
            d += g.dloss[at / g.positions] * g.commitment *
                 (z[i] - g.e[(int64_t)g.index[at] * g.channels + i % g.channels]);
        dz[i] = d;
    }
}

/* A warp per code; lanes look at 32 positions at a time, then take the channels of each that has the code. */
static __global__ void ED_THREADS(BLOCK)
    quantize_grad_codes(gradient g, const float *z, float *de, int64_t all, int codes)
{
    int code = (int)((blockIdx.x * BLOCK + threadIdx.x) / ED_WARP), lane = (int)threadIdx.x % ED_WARP;
    if (code >= codes) return; /* the whole warp */
    for (int c = lane; c - lane < g.channels; c += ED_WARP) {
        float mine = c < g.channels ? g.e[(int64_t)code * g.channels + c] : 0, sum = 0;
        for (int64_t first = 0; first < all; first += ED_WARP) {
            bool has = first + lane < all && g.index[first + lane] == code;
            for (unsigned left = __ballot_sync(ED_ALL_LANES, has); left; left &= left - 1) {
                int64_t at = first + __ffs((int)left) - 1;
                if (c < g.channels) sum += g.dloss[at / g.positions] * g.codebook * (z[at * g.channels + c] - mine);
            }
        }
        if (c < g.channels) de[(int64_t)code * g.channels + c] -= sum;
    }
}

/* ---------------------------------------------------------------- launchers */

static int64_t positions_of(const ed_shape *z) { return z->dim[0] * z->dim[1] * z->dim[2]; }

static encdiff_status prepare(ed_env *, const ed_graph *graph, const ed_node *node, size_t *scratch, void **)
{
    *scratch = (size_t)positions_of(ed_graph_shape(graph, node->in[0])) * sizeof(float); /* distances */
    return ENCDIFF_OK;
}

static encdiff_status run(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t positions = positions_of(shape), images = shape->dim[0];
    int channels = (int)shape->dim[3], codes = (int)ed_in_shape(call, 1)->dim[0];
    float weight = call->node->attr.quantize.commitment + call->node->attr.quantize.codebook;
    float *distance = static_cast<float *>(call->scratch);
    if (positions * channels == 0) return ENCDIFF_OK;
    if (channels <= 4)
        ED_TRY(ED_LAUNCH(call, quantize_narrow, (unsigned)((positions + BLOCK - 1) / BLOCK), BLOCK, 0,
                         ed_in<float>(call, 0), ed_in<float>(call, 1), positions, channels, codes,
                         ed_out<float>(call, 0), ed_out<int>(call, 1), distance));
    else
        ED_TRY(ED_LAUNCH(call, quantize_broad, (unsigned)((positions * ED_WARP + BLOCK - 1) / BLOCK), BLOCK, 0,
                         ed_in<float>(call, 0), ed_in<float>(call, 1), positions, channels, codes,
                         ed_out<float>(call, 0), ed_out<int>(call, 1), distance));
    int64_t each = positions / images;
    return ED_LAUNCH(call, quantize_loss, (unsigned)images, BLOCK, 0, distance, each, weight / (float)(each * channels),
                     ed_out<float>(call, 2));
}

/* z e index dy? dloss? de+=? -> dz */
static encdiff_status run_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t all = positions_of(shape), count = ed_shape_count(shape);
    int codes = (int)ed_in_shape(call, 1)->dim[0];
    if (count == 0) return ENCDIFF_OK;
    float each = 2 / (float)(count / shape->dim[0]);
    gradient g = {ed_in<float>(call, 1),
                  ed_in<int>(call, 2),
                  ed_in<float>(call, 4),
                  all / shape->dim[0],
                  (int)shape->dim[3],
                  each * call->node->attr.quantize.commitment,
                  each * call->node->attr.quantize.codebook};
    ED_TRY(ED_LAUNCH(call, quantize_grad_items, ed_blocks(count, BLOCK), BLOCK, 0, g, ed_in<float>(call, 0),
                     ed_in<float>(call, 3), ed_out<float>(call, 0), count));
    if (!call->in[5] || !g.dloss) return ENCDIFF_OK;
    return ED_LAUNCH(call, quantize_grad_codes, (unsigned)(((int64_t)codes * ED_WARP + BLOCK - 1) / BLOCK), BLOCK, 0, g,
                     ed_in<float>(call, 0), ed_in<float>(call, 5), all, codes);
}

ED_CUDA_KERNEL(quantize, prepare, run);
ED_CUDA_KERNEL(quantize_grad, nullptr, run_grad);
