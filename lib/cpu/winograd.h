/*
 * Winograd's minimal filtering for 3x3 convolutions of stride 1 and padding 1 (Lavin and Gray 2016, F(2x2,3x3)):
 *
 *   Y = A^T [ (G g G^T) . (B^T d B) ] A                one channel of 2x2 outputs from 4x4 inputs d and a kernel g
 *
 *   B^T = 1  0 -1  0     G =  1    0    0     A^T = 1  1  1  0
 *         0  1  1  0         1/2  1/2  1/2          0  1 -1 -1
 *         0 -1  1  0         1/2 -1/2  1/2
 *         0  1  0 -1          0    0    1
 *
 * 16 products instead of 36. Summed over the input channels, the elementwise product is one matrix product for each of
 * the 16 places of a tile: rows are tiles. Tiles are counted over the batch and worked on in blocks, so that what is
 * between the transforms stays in the cache; a tile's result depends on its image alone. The matrices
 * of the 16 places are called planes, and a plane is a cache line longer than its contents, so that the 16 streams of
 * a transform do not meet in one cache set. winograd_four.h has the transforms for tiles of 4x4 outputs.
 *
 *   winograd.c          conv2d and its gradient for the input, which is the convolution with the turned kernel
 *   winograd_weight.c   the gradient for the weights; winograd_weight.h is its sum over the tiles
 *   winograd_strided.c  conv2d of 4x4 kernels and stride 2, to which winograd.c hands what does not suit
 *   winograd_strided_weight.c  the gradient for their weights, to which winograd_weight.c does
 *
 * What suits none of them goes to conv_small.c, which leaves large images to lib/cpu/onednn.
 */
#ifndef ED_CPU_WINOGRAD_H
#define ED_CPU_WINOGRAD_H

#include "cpu/product.h"
#include "graph/widen.h"

extern const ed_kernel ED_CPU(conv2d_strided);
extern const ed_kernel ED_CPU(conv2d_strided_grad_weight);

#define ED_PLANES 16
#define ED_PLANE_GAP 16

/* ---------------------------------------------------------------- geometry */

typedef struct ed_winograd {
    int64_t n, h, w, c, o; /* x[n,h,w,c], y[n,h,w,o] */
    int64_t side;          /* outputs along a tile's: 2 or 4 */
    int64_t high, wide;    /* tiles of an image */
    int64_t tiles;         /* of the batch */
} ed_winograd;

/* Describes the convolution of x by w to y in tiles of side x side; false where it is not one of 3x3, stride 1 and
 * padding 1, of many channels. */
ED_INLINE bool ed_winograd_describe(const ed_graph *graph, const ed_node *node, ed_value x, ed_value w, int64_t side,
                                    ed_winograd *g)
{
    const int64_t *xd = ed_graph_shape(graph, x)->dim, *wd = ed_graph_shape(graph, w)->dim;
    *g = (ed_winograd){.n = xd[0], .h = xd[1], .w = xd[2], .c = xd[3], .o = wd[0], .side = side};
    g->high = (g->h + side - 1) / side, g->wide = (g->w + side - 1) / side;
    g->tiles = g->n * g->high * g->wide;
    bool plain = node->attr.conv.stride == 1 && node->attr.conv.pad_top == 1 && node->attr.conv.pad_left == 1 &&
                 node->attr.conv.pad_bottom == 1 && node->attr.conv.pad_right == 1;
    return plain && wd[1] == 3 && wd[2] == 3 && g->c >= 32 && g->o >= 32;
}

/*
 * Describes it in tiles of 2x2, and tells whether it is better done that way than by lib/cpu/onednn. Few tiles do not
 * repay the transform of the kernels, a 2x2 image is mostly padding that patches leave out, and in a 3x3 image half of
 * the tiles is outside. Measured with AVX2, one thread, times as fast as lib/cpu/onednn, forward and the gradients for
 * inputs and weights: 64->64 at 16x16 2.0, 1.8 and 1.9 for one image, 2.1, 1.9 and 2.0 for eight; 128->128 at 8x8 1.5,
 * 1.6 and 1.4, 2.0, 1.8 and 1.9; 256->256 at 4x4 0.8, 0.8 and 0.9, 1.5, 1.5 and 1.4, and for four images, which are 16
 * tiles, 1.4, 1.4 and 1.3.
 */
ED_INLINE bool ed_winograd_suits(const ed_graph *graph, const ed_node *node, ed_value x, ed_value w, ed_winograd *g)
{
    return ed_winograd_describe(graph, node, x, w, 2, g) && g->h >= 4 && g->w >= 4 && g->tiles >= 16;
}

/* What does not suit goes to conv_small.c and on to lib/cpu/onednn, which compute in f32: in bf16 on copies, by the
 * latter alone and not in parts. */
#ifdef ED_CPU_BF16

#define ED_CONV_PARTS false
#define ED_OTHER_CONV2D ed_onednn_conv2d
#define ED_OTHER_CONV2D_GRAD_INPUT ed_onednn_conv2d_grad_input

ED_INLINE encdiff_status ed_other_prepare(const ed_kernel *kernel, ed_env *env, const ed_graph *graph,
                                          const ed_node *node, size_t *scratch, void **state)
{
    ed_widening how = {kernel, ED_CPU(widen), ED_CPU(narrow)};
    return ed_widened_create(env, &how, graph, node, scratch, state);
}

ED_INLINE encdiff_status ed_other_run(const ed_kernel *kernel, const ed_call *call)
{
    (void)kernel;
    return ed_widened.run(call);
}

ED_INLINE void ed_other_release(const ed_kernel *kernel, ed_env *env, void *state)
{
    (void)kernel;
    ed_widened.release(env, state);
}

#else

#define ED_CONV_PARTS true
#define ED_OTHER_CONV2D ED_CPU(conv2d_small)
#define ED_OTHER_CONV2D_GRAD_INPUT ED_CPU(conv2d_small_grad_input)

extern const ed_kernel ED_OTHER_CONV2D, ED_OTHER_CONV2D_GRAD_INPUT;

ED_INLINE encdiff_status ed_other_prepare(const ed_kernel *kernel, ed_env *env, const ed_graph *graph,
                                          const ed_node *node, size_t *scratch, void **state)
{
    return kernel->prepare(env, graph, node, scratch, state);
}

ED_INLINE encdiff_status ed_other_run(const ed_kernel *kernel, const ed_call *call) { return kernel->run(call); }

ED_INLINE void ed_other_release(const ed_kernel *kernel, ed_env *env, void *state)
{
    if (kernel->release) kernel->release(env, state);
}

#endif

/* A tile of the batch: its outputs begin at pixel (side y, side x), its inputs one before. */
typedef struct ed_tile_at {
    int64_t image, y, x;
} ed_tile_at;

ED_INLINE ed_tile_at ed_tile_number(const ed_winograd *g, int64_t tile)
{
    return (ed_tile_at){tile / (g->high * g->wide), tile / g->wide % g->high, tile % g->wide};
}

ED_INLINE void ed_tile_next(const ed_winograd *g, ed_tile_at *at)
{
    if (++at->x < g->wide) return;
    at->x = 0;
    if (++at->y < g->high) return;
    at->y = 0;
    at->image++;
}

/* Where the size x size pixels of c channels are whose first is (side y - border, side x - border); -1 for those that
 * the image lacks. */
ED_INLINE void ed_tile_pixels(const ed_winograd *g, const ed_tile_at *at, int64_t c, int size, int border,
                              int64_t *offset)
{
    for (int i = 0; i < size; i++) {
        int64_t y = g->side * at->y - border + i, x = g->side * at->x - border;
        int64_t line = ((at->image * g->h + y) * g->w + x) * c;
        bool inside = y >= 0 && y < g->h;
        for (int j = 0; j < size; j++, x++, line += c) offset[i * size + j] = inside && x >= 0 && x < g->w ? line : -1;
    }
}

/* ---------------------------------------------------------------- transforms */

/* A tile's pixels to a number in each plane, at channels j .. j+lanes-1. */
typedef void (*ed_tile_lanes)(const ed_item *const *pixels, int64_t j, float *to, int64_t plane, int lanes);

/* Tiles first .. first+count-1 of images with c channels, size x size pixels each, to rows of the planes, `pitch`
 * floats apart; `zeros` for pixels that an image lacks. */
ED_INLINE void ed_transform_tiles(const ed_winograd *g, int size, int border, ed_tile_lanes lanes, int64_t c,
                                  const ed_item *images, const ed_item *zeros, int64_t first, int64_t count, float *to,
                                  int64_t pitch, int64_t plane)
{
    ed_tile_at at = ed_tile_number(g, first);
    for (int64_t t = 0; t < count; t++, ed_tile_next(g, &at), to += pitch) {
        const ed_item *pixels[36];
        int64_t offset[36], j = 0;
        ed_tile_pixels(g, &at, c, size, border, offset);
        for (int k = 0; k < size * size; k++) pixels[k] = offset[k] < 0 ? zeros : images + offset[k];
        for (; j + ED_LANES <= c; j += ED_LANES) lanes(pixels, j, to, plane, ED_LANES);
        if (j < c) lanes(pixels, j, to, plane, (int)(c - j));
    }
}

/* to[plane] = B^T d B at channels j .. j+lanes-1; pixels[] are the tile's 16 inputs. */
ED_INLINE void ed_input_lanes(const ed_item *const *pixels, int64_t j, float *to, int64_t plane, int lanes)
{
    ed_vec t[4][4];
    for (int k = 0; k < 4; k++) {
        ed_vec d0 = ed_load_some(pixels[k] + j, lanes), d1 = ed_load_some(pixels[4 + k] + j, lanes),
               d2 = ed_load_some(pixels[8 + k] + j, lanes), d3 = ed_load_some(pixels[12 + k] + j, lanes);
        t[0][k] = d0 - d2;
        t[1][k] = d1 + d2;
        t[2][k] = d2 - d1;
        t[3][k] = d1 - d3;
    }
    for (int i = 0; i < 4; i++, to += 4 * plane) {
        ed_store_some(to + j, t[i][0] - t[i][2], lanes);
        ed_store_some(to + plane + j, t[i][1] + t[i][2], lanes);
        ed_store_some(to + 2 * plane + j, t[i][2] - t[i][1], lanes);
        ed_store_some(to + 3 * plane + j, t[i][1] - t[i][3], lanes);
    }
}

#endif
