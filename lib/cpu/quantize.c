/*
 * Vector quantisation (van den Oord et al. 2017): z [n, h, w, c], codebook e [k, c].
 *
 *   index = argmin_k |z - e_k|^2, the lowest k on ties;  y = e[index]
 *   loss[n] = (commitment + codebook) * mean over an image of (y - z)^2
 *   dz = dy + dloss commitment 2 (z - y) / count,  de[index] += dloss codebook 2 (y - z) / count
 *
 * Lanes are pixels and the loop walks the codes, so that ties need no care. The distance is summed from differences:
 * |z|^2 + |e|^2 - 2 z e would cost one operation less a channel and lose digits by cancellation.
 */
#include "cpu/kernel.h"

#define PIXELS (2 * ED_LANES)

static encdiff_status prepare(ed_env *env, const ed_graph *graph, const ed_node *node, size_t *scratch, void **state)
{
    (void)env, (void)state;
    size_t c = (size_t)ed_shape_last(&graph->values[node->in[0]].shape);
    *scratch = ed_cut_size(c * PIXELS, sizeof(float));
    return ENCDIFF_OK;
}

/* Nearest codes of PIXELS pixels, z transposed to [c][PIXELS]. */
ED_INLINE void nearest(const float *z, const float *e, int64_t k, int64_t c, int32_t index[PIXELS])
{
    ed_vec best[2] = {ed_splat(INFINITY), ed_splat(INFINITY)};
    ed_ivec at[2] = {{0}, {0}};
    for (int32_t code = 0; code < k; code++, e += c) {
        ed_vec d0 = {0}, d1 = {0};
        for (int64_t j = 0; j < c; j++) {
            ed_vec a = ed_load(z + j * PIXELS) - e[j], b = ed_load(z + j * PIXELS + ED_LANES) - e[j];
            d0 += a * a;
            d1 += b * b;
        }
        ed_ivec nearer0 = d0 < best[0], nearer1 = d1 < best[1], here = code - (ed_ivec){0};
        best[0] = ed_select(nearer0, d0, best[0]);
        best[1] = ed_select(nearer1, d1, best[1]);
        at[0] = (nearer0 & here) | (~nearer0 & at[0]);
        at[1] = (nearer1 & here) | (~nearer1 & at[1]);
    }
    memcpy(index, at, sizeof at);
}

static void find_codes(const ed_call *call, int64_t pixels, int64_t c, int64_t k)
{
    float *z = call->scratch;
    int32_t *out = call->out[1], index[PIXELS];
    for (int64_t first = 0; first < pixels; first += PIXELS) {
        int64_t count = ED_MIN(PIXELS, pixels - first);
        for (int64_t p = 0; p < PIXELS; p++)
            for (int64_t j = 0; j < c; j++) z[j * PIXELS + p] = p < count ? IN(0)[(first + p) * c + j] : 0;
        if (c == 3)
            nearest(z, IN(1), k, 3, index);
        else if (c == 4)
            nearest(z, IN(1), k, 4, index);
        else
            nearest(z, IN(1), k, c, index);
        memcpy(out + first, index, (size_t)count * sizeof *out);
    }
}

static encdiff_status run(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = ed_images(shape), c = ed_shape_last(shape), pixels = ed_per_image(shape) / c;
    float weight = call->node->attr.quantize.commitment + call->node->attr.quantize.codebook;
    const int32_t *index = call->out[1];
    find_codes(call, n * pixels, c, ed_in_shape(call, 1)->dim[0]);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t p = i * pixels; p < (i + 1) * pixels; p++)
            for (int64_t j = 0; j < c; j++) {
                float code = IN(1)[index[p] * c + j], d = code - IN(0)[p * c + j];
                OUT(0)[p * c + j] = code;
                sum += (double)d * d;
            }
        OUT(2)[i] = (float)(weight * sum / (double)(pixels * c));
    }
    return ENCDIFF_OK;
}

static encdiff_status run_grad(const ed_call *call)
{
    const ed_shape *shape = ed_in_shape(call, 0);
    int64_t n = ed_images(shape), c = ed_shape_last(shape), pixels = ed_per_image(shape) / c;
    const int32_t *index = call->in[2];
    const float *z = IN(0), *e = IN(1), *dy = IN(3);
    for (int64_t i = 0; i < n; i++) {
        float each = IN(4) ? 2 * IN(4)[i] / (float)(pixels * c) : 0;
        float commitment = each * call->node->attr.quantize.commitment;
        float codebook = each * call->node->attr.quantize.codebook;
        for (int64_t p = i * pixels; p < (i + 1) * pixels; p++)
            for (int64_t j = 0; j < c; j++) {
                float d = z[p * c + j] - e[index[p] * c + j];
                OUT(0)[p * c + j] = (dy ? dy[p * c + j] : 0) + commitment * d;
                if (IN(5)) IN(5)[index[p] * c + j] -= codebook * d;
            }
    }
    return ENCDIFF_OK;
}

const ed_kernel ED_CPU(quantize) = {.prepare = prepare, .run = run};
const ed_kernel ED_CPU(quantize_grad) = {.run = run_grad};
