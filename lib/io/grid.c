#include "io/grid.h"
#include "io/canvas.h"

typedef struct plan {
    int columns, rows, scale, gap;
    int text;                        /* scale of the letters */
    int64_t cell_height, cell_width; /* of a scaled image with its gap */
    int64_t top, left;               /* of the first image */
    int64_t height, width;
} plan;

void ed_grid_layout(const ed_grid_options *options, int n, int *columns, int *rows)
{
    int c = options->columns;
    if (c < 1)
        for (c = 1; (int64_t)c * c < n; c++) {}
    *columns = ED_MIN(c, ED_MAX(n, 1));
    *rows = (n + *columns - 1) / *columns;
}

/* As large as fits above every column; a letter's pixel is at most a 32nd of an image. */
static int text_scale(const ed_grid_options *o, int columns, int64_t width)
{
    int scale = (int)ED_MIN(ED_MAX(width / 64, 1), 8);
    for (int c = 0; o->column_labels && c < columns; c++)
        while (scale > 1 && ed_canvas_text_width(o->column_labels[c], scale) > width) scale--;
    return scale;
}

static encdiff_status make_plan(ed_env *env, int n, int height, int width, const ed_grid_options *o, plan *p)
{
    *p = (plan){.scale = o->scale ? o->scale : 1, .gap = o->gap < 0 ? 0 : o->gap ? o->gap : 2};
    if (n < 1 || height < 1 || width < 1 || p->scale < 1 || p->scale > 64 || p->gap > 4096)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%d images of %d x %d at scale %d make no picture", n, width, height,
                       p->scale);
    ed_grid_layout(o, n, &p->columns, &p->rows);
    p->cell_height = (int64_t)height * p->scale + p->gap;
    p->cell_width = (int64_t)width * p->scale + p->gap;
    p->top = p->left = p->gap;
    p->text = text_scale(o, p->columns, p->cell_width - p->gap);
    if (o->column_labels) p->top += ED_FONT_HEIGHT * p->text + 2;
    for (int r = 0; o->row_labels && r < p->rows; r++)
        p->left = ED_MAX(p->left, ed_canvas_text_width(o->row_labels[r], p->text) + p->gap + 4 * p->text);
    p->height = p->top + p->rows * p->cell_height;
    p->width = p->left + p->columns * p->cell_width;
    if (p->height <= ED_IMAGE_MAX_SIDE && p->width <= ED_IMAGE_MAX_SIDE) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_SHAPE, "a grid of %lld x %lld pixels is too large", (long long)p->width,
                   (long long)p->height);
}

static void draw_labels(ed_image *image, const ed_grid_options *o, const plan *p)
{
    for (int c = 0; o->column_labels && c < p->columns; c++) {
        int64_t room = p->cell_width - p->gap, wide = ed_canvas_text_width(o->column_labels[c], p->text);
        int64_t x = p->left + c * p->cell_width + ED_MAX(0, (room - wide) / 2);
        ed_canvas_text(image, o->column_labels[c], 1 + p->gap / 2, x, room, p->text, ED_INK);
    }
    for (int r = 0; o->row_labels && r < p->rows; r++) {
        int64_t middle = p->top + r * p->cell_height + (p->cell_height - p->gap - ED_FONT_HEIGHT * p->text) / 2;
        ed_canvas_text(image, o->row_labels[r], middle, 2 * p->text, p->left - 2 * p->text, p->text, ED_INK);
    }
}

static void draw_image(ed_image *image, const uint8_t *rgb, int height, int width, int64_t y, int64_t x, int scale)
{
    for (int64_t r = 0; r < (int64_t)height * scale; r++) {
        uint8_t *to = image->rgb + ((y + r) * image->width + x) * 3;
        const uint8_t *row = rgb + (r / scale) * width * 3;
        for (int64_t c = 0; c < (int64_t)width * scale; c++) memcpy(to + 3 * c, row + c / scale * 3, 3);
    }
}

encdiff_status ed_grid_make(ed_env *env, const uint8_t *rgb, int n, int height, int width,
                            const ed_grid_options *options, ed_image *out)
{
    static const ed_grid_options defaults = {0};
    plan p;
    *out = (ed_image){0};
    if (!options) options = &defaults;
    ED_TRY(make_plan(env, n, height, width, options, &p));
    ED_TRY(ed_image_allocate(env, "grid", (uint64_t)p.height, (uint64_t)p.width, false, out));
    ed_canvas_fill(out, ED_WHITE);
    for (int i = 0; i < n; i++)
        draw_image(out, rgb + (size_t)i * (size_t)height * (size_t)width * 3, height, width,
                   p.top + i / p.columns * p.cell_height, p.left + i % p.columns * p.cell_width, p.scale);
    draw_labels(out, options, &p);
    return ENCDIFF_OK;
}

encdiff_status ed_grid_write(ed_env *env, const char *path, const uint8_t *rgb, int n, int height, int width,
                             const ed_grid_options *options)
{
    ed_image image;
    ED_TRY(ed_grid_make(env, rgb, n, height, width, options, &image));
    encdiff_status status = ed_png_write(env, path, image.rgb, image.height, image.width, 6);
    ed_free(env, image.rgb);
    return status;
}
