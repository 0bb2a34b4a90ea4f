/*
 * A convolution as a matrix product: row p of `col` holds the patch of x under output pixel p, in the order of the
 * weights [kh, kw, c]. Images are channels-last, so a row of a patch is one contiguous piece of kw * c floats.
 */
#include "cpu/onednn/internal.h"

/* Cache that a block of patches may take, and the fewest rows worth a product of their own. */
#define BLOCK_BYTES ((int64_t)384 << 10)
#define BLOCK_ROWS 128

ed_conv ed_conv_describe(const ed_graph *graph, const ed_node *node, ed_value x, ed_value w, ed_value y)
{
    const int64_t *xd = ed_graph_shape(graph, x)->dim, *wd = ed_graph_shape(graph, w)->dim;
    const int64_t *yd = ed_graph_shape(graph, y)->dim;
    ed_conv g = {.n = xd[0], .h = xd[1], .w = xd[2], .c = xd[3]};
    g.o = wd[0], g.kh = wd[1], g.kw = wd[2], g.oh = yd[1], g.ow = yd[2];
    g.stride = node->attr.conv.stride, g.top = node->attr.conv.pad_top, g.left = node->attr.conv.pad_left;
    g.pixels = g.n * g.oh * g.ow;
    g.patch = g.kh * g.kw * g.c;
    return g;
}

bool ed_conv_is_product(const ed_conv *g)
{
    if (g->top || g->left) return false;
    bool point = g->kh == 1 && g->kw == 1 && g->stride == 1 && g->oh == g->h && g->ow == g->w;
    bool whole = g->kh == g->h && g->kw == g->w && g->oh == 1 && g->ow == 1;
    return point || whole;
}

int64_t ed_conv_block(const ed_conv *g)
{
    int64_t most = ED_MAX(BLOCK_BYTES / (g->patch * (int64_t)sizeof(float)), BLOCK_ROWS);
    int64_t blocks = ED_MAX((g->pixels + most - 1) / most, 1);
    int64_t rows = (g->pixels + blocks - 1) / blocks;
    return (rows + 7) / 8 * 8; /* whole vectors */
}

/* Where a patch row of kw pixels, starting at column `at`, meets the image: pixels from .. to-1 of it are inside. */
static inline void inside(const ed_conv *g, int64_t at, int64_t *from, int64_t *to)
{
    *from = ED_MIN(ED_MAX(-at, 0), g->kw);
    *to = ED_MAX(ED_MIN(g->w - at, g->kw), *from);
}

/* The output pixel p of the batch. */
typedef struct pixel {
    int64_t image, y, x;
} pixel;

static inline pixel pixel_at(const ed_conv *g, int64_t p)
{
    return (pixel){p / (g->oh * g->ow), p / g->ow % g->oh, p % g->ow};
}

static inline void pixel_next(const ed_conv *g, pixel *p)
{
    if (++p->x < g->ow) return;
    p->x = 0;
    if (++p->y < g->oh) return;
    p->y = 0;
    p->image++;
}

void ed_im2col(const ed_conv *g, const float *x, int64_t first, int64_t rows, float *col, int64_t pitch)
{
    const int64_t c = g->c, width = g->kw * c;
    pixel p = pixel_at(g, first);
    for (int64_t i = 0; i < rows; i++, pixel_next(g, &p), col += pitch - g->patch) {
        int64_t at = p.x * g->stride - g->left, from, to;
        inside(g, at, &from, &to);
        for (int64_t ky = 0; ky < g->kh; ky++, col += width) {
            int64_t line = p.y * g->stride - g->top + ky;
            if (line < 0 || line >= g->h || from == to) {
                memset(col, 0, (size_t)width * sizeof *col);
                continue;
            }
            const float *source = x + ((p.image * g->h + line) * g->w + at + from) * c;
            if (from > 0) memset(col, 0, (size_t)(from * c) * sizeof *col);
            memcpy(col + from * c, source, (size_t)((to - from) * c) * sizeof *col);
            if (to < g->kw) memset(col + to * c, 0, (size_t)((g->kw - to) * c) * sizeof *col);
        }
    }
}

void ed_col2im(const ed_conv *g, const float *col, int64_t first, int64_t rows, float *dx)
{
    const int64_t c = g->c, width = g->kw * c;
    pixel p = pixel_at(g, first);
    for (int64_t i = 0; i < rows; i++, pixel_next(g, &p)) {
        int64_t at = p.x * g->stride - g->left, from, to;
        inside(g, at, &from, &to);
        for (int64_t ky = 0; ky < g->kh; ky++, col += width) {
            int64_t line = p.y * g->stride - g->top + ky;
            if (line < 0 || line >= g->h || from == to) continue;
            float *target = dx + ((p.image * g->h + line) * g->w + at + from) * c;
            const float *source = col + from * c;
            for (int64_t j = 0; j < (to - from) * c; j++) target[j] += source[j];
        }
    }
}

/* ---------------------------------------------------------------- bands */

/* The rows of the kernel that meet the image under output row y: from .. to-1. */
static void taps(const ed_conv *g, int64_t y, int64_t *from, int64_t *to)
{
    int64_t line = y * g->stride - g->top;
    *from = ED_MIN(ED_MAX(-line, 0), g->kh);
    *to = ED_MAX(ED_MIN(g->h - line, g->kh), *from);
}

static ed_band make_band(const ed_conv *g, int64_t y, int64_t rows, int64_t from, int64_t to)
{
    ed_band band = {.g = *g, .weights = from * g->kw * g->c, .kernel = g->patch};
    band.output = y * g->ow * g->o, band.image = g->oh * g->ow * g->o;
    band.g.top = g->top - from - y * g->stride;
    band.g.oh = rows, band.g.kh = to - from;
    band.g.pixels = g->n * rows * g->ow;
    band.g.patch = band.g.kh * g->kw * g->c;
    return band;
}

int ed_conv_bands(const ed_conv *g, ed_band bands[ED_MAX_BANDS])
{
    int count = 0;
    int64_t work = 0, least = 8; /* pixels of a band that are worth packing the weights for */
    for (int64_t y = 0, next, from, to; y < g->oh; y = next) {
        taps(g, y, &from, &to);
        for (next = y + 1; next < g->oh; next++) {
            int64_t f, t;
            taps(g, next, &f, &t);
            if (f != from || t != to) break;
        }
        if (count == ED_MAX_BANDS || from == to || g->n * (next - y) * g->ow < least) goto whole;
        bands[count++] = make_band(g, y, next - y, from, to);
        work += (next - y) * (to - from);
    }
    if (work * 10 <= g->oh * g->kh * 9) return count;
whole:
    bands[0] = make_band(g, 0, g->oh, 0, g->kh);
    return 1;
}

bool ed_band_is_whole(const ed_band *band) { return band->g.oh * band->g.ow * band->g.o == band->image; }

int64_t ed_band_run(const ed_band *band, int64_t first, int64_t rows, int64_t *offset)
{
    int64_t each = band->g.oh * band->g.ow, at = first % each;
    *offset = first / each * band->image + band->output + at * band->g.o;
    return ED_MIN(each - at, rows);
}

void ed_band_gather(const ed_band *band, const float *y, int64_t first, int64_t rows, float *packed, int64_t pitch)
{
    for (int64_t done = 0, offset, run; done < rows; done += run) {
        run = ed_band_run(band, first + done, rows - done, &offset);
        ed_copy_rows(run, band->g.o, y + offset, band->g.o, packed + done * pitch, pitch);
    }
}
