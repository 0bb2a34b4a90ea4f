#include "io/plot.h"

#include <math.h>
#include <stdio.h>

#include "io/canvas.h"

#define TEXT 2 /* pixels of a letter's pixel */
#define LINE (ED_FONT_HEIGHT * TEXT)
#define PAD 10
#define CELL (LINE + 14)       /* height of a cell */
#define WIDEST 1400            /* pixels of all cells together; beyond it labels of columns are turned */
#define NUMBER_LIMIT (1 << 16) /* rows times columns */
#define MOST_DIGITS 6

static encdiff_status finish(ed_env *env, const char *path, ed_image *image)
{
    encdiff_status status = ed_png_write(env, path, image->rgb, image->height, image->width, 6);
    ed_free(env, image->rgb);
    return status;
}

static int64_t centre(int64_t from, int64_t size, int64_t what) { return from + (size - what) / 2; }

/* The label of a row or column: the given one, or its number in `buffer`. */
static const char *label_of(const char *const *labels, int index, char buffer[16])
{
    if (labels && labels[index]) return labels[index];
    snprintf(buffer, 16, "%d", index);
    return buffer;
}

static int64_t widest_label(const char *const *labels, int count)
{
    char buffer[16];
    int64_t widest = 0;
    for (int i = 0; i < count; i++) widest = ED_MAX(widest, ed_canvas_text_width(label_of(labels, i, buffer), TEXT));
    return widest;
}

/* ---------------------------------------------------------------- a matrix */

typedef struct matrix_layout {
    int64_t cell; /* width */
    bool turned;  /* labels of columns */
    int64_t top, left, height, width;
} matrix_layout;

static const char *number(const ed_matrix_plot *m, int row, int column, char buffer[32])
{
    snprintf(buffer, 32, "%.*f", m->digits, m->values[(size_t)row * (size_t)m->columns + (size_t)column]);
    return buffer;
}

static int64_t widest_number(const ed_matrix_plot *m)
{
    char buffer[32];
    int64_t widest = 0;
    for (int r = 0; r < m->rows; r++)
        for (int c = 0; c < m->columns; c++)
            widest = ED_MAX(widest, ed_canvas_text_width(number(m, r, c, buffer), TEXT));
    return widest;
}

static matrix_layout lay_out_matrix(const ed_matrix_plot *m)
{
    int64_t numbers = widest_number(m) + 2 * PAD, labels = widest_label(m->column_labels, m->columns);
    matrix_layout l = {.cell = ED_MAX(numbers, labels + 2 * PAD), .top = PAD, .left = PAD};
    l.turned = l.cell > numbers && l.cell * m->columns > WIDEST;
    if (l.turned) l.cell = numbers;
    if (m->title) l.top += LINE + PAD;
    if (m->column_title) l.top += LINE + PAD / 2;
    l.top += (l.turned ? labels : LINE) + PAD / 2;
    if (m->row_title) l.left += LINE + PAD;
    l.left += widest_label(m->row_labels, m->rows) + PAD;
    l.height = l.top + (int64_t)m->rows * CELL + PAD;
    l.width = ED_MAX(l.left + m->columns * l.cell, ed_canvas_text_width(m->title, TEXT) + PAD) + PAD;
    return l;
}

static void draw_cells(ed_image *image, const ed_matrix_plot *m, const matrix_layout *l)
{
    char buffer[32];
    for (int r = 0; r < m->rows; r++)
        for (int c = 0; c < m->columns; c++) {
            double value = m->values[(size_t)r * (size_t)m->columns + (size_t)c];
            double part = fmin(fmax((value - m->low) / (m->high - m->low), 0), 1);
            int64_t y = l->top + r * CELL, x = l->left + c * l->cell;
            const char *text = number(m, r, c, buffer);
            ed_canvas_rectangle(image, y, x, CELL - 2, l->cell - 2, ed_ramp(part));
            ed_canvas_text(image, text, y + 7, centre(x, l->cell - 2, ed_canvas_text_width(text, TEXT)), l->cell, TEXT,
                           ed_ramp_ink(part));
        }
}

static void draw_axes(ed_image *image, const ed_matrix_plot *m, const matrix_layout *l)
{
    char buffer[16];
    int64_t y = PAD;
    ed_canvas_text(image, m->title, y, PAD, image->width, TEXT, ED_INK);
    if (m->title) y += LINE + PAD;
    ed_canvas_text(image, m->column_title, y, l->left, image->width, TEXT, ED_INK);
    if (m->row_title)
        ed_canvas_text_up(image, m->row_title, l->top + (m->rows * CELL + ed_canvas_text_width(m->row_title, TEXT)) / 2,
                          PAD, TEXT, ED_INK);
    for (int r = 0; r < m->rows; r++) {
        const char *text = label_of(m->row_labels, r, buffer);
        ed_canvas_text(image, text, l->top + r * CELL + 7, l->left - PAD - ed_canvas_text_width(text, TEXT), l->left,
                       TEXT, ED_INK);
    }
    for (int c = 0; c < m->columns; c++) {
        const char *text = label_of(m->column_labels, c, buffer);
        int64_t x = l->left + c * l->cell, wide = ed_canvas_text_width(text, TEXT), bottom = l->top - PAD / 2;
        if (l->turned)
            ed_canvas_text_up(image, text, bottom, centre(x, l->cell - 2, LINE), TEXT, ED_INK);
        else
            ed_canvas_text(image, text, bottom - LINE, centre(x, l->cell - 2, wide), l->cell, TEXT, ED_INK);
    }
}

static encdiff_status check_matrix(ed_env *env, const char *path, const ed_matrix_plot *m)
{
    if (m->rows < 1 || m->columns < 1 || (int64_t)m->rows * m->columns > NUMBER_LIMIT)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%s: a matrix of %d x %d makes no picture", path, m->rows, m->columns);
    for (int i = 0; i < m->rows * m->columns; i++)
        if (!isfinite(m->values[i]) || fabs(m->values[i]) > 1e15)
            return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "%s: number %d of row %d is %g", path, i % m->columns,
                           i / m->columns, m->values[i]);
    if ((!m->fit && !(m->high > m->low)) || !isfinite(m->high - m->low) || m->digits < 0 || m->digits > MOST_DIGITS)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "%s: colours for %g to %g, %d digits", path, m->low, m->high,
                       m->digits);
    return ENCDIFF_OK;
}

/* 0 to the largest value; a matrix without anything above 0 is all light. */
static void fit_colours(ed_matrix_plot *m)
{
    m->low = m->high = 0;
    for (int i = 0; i < m->rows * m->columns; i++) m->high = fmax(m->high, m->values[i]);
    if (!(m->high > 0)) m->high = 1;
}

encdiff_status ed_matrix_write(ed_env *env, const char *path, const ed_matrix_plot *plot)
{
    ed_image image;
    ed_matrix_plot m = *plot;
    ED_TRY(check_matrix(env, path, &m));
    if (m.fit) fit_colours(&m);
    matrix_layout l = lay_out_matrix(&m);
    ED_TRY(ed_image_allocate(env, path, (uint64_t)l.height, (uint64_t)l.width, false, &image));
    ed_canvas_fill(&image, ED_WHITE);
    draw_cells(&image, &m, &l);
    draw_axes(&image, &m, &l);
    return finish(env, path, &image);
}

/* ---------------------------------------------------------------- points */

#define LEGEND (LINE + PAD) /* below a panel */

typedef struct extent {
    double low[2], span; /* both axes have the same scale */
} extent;

static extent extent_of(const float *points, int n)
{
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int i = 0; i < n; i++)
        for (int k = 0; k < 2; k++) {
            low[k] = fmin(low[k], (double)points[2 * i + k]);
            high[k] = fmax(high[k], (double)points[2 * i + k]);
        }
    double span = fmax(fmax(high[0] - low[0], high[1] - low[1]), 1e-30);
    extent e = {.span = span};
    for (int k = 0; k < 2; k++) e.low[k] = (low[k] + high[k] - span) / 2;
    return e;
}

static ed_colour class_colour(int32_t which, int32_t count)
{
    return ed_spectrum(count > 1 ? (double)which / (count - 1) : 0);
}

/* The classes' colours in a row, from the first to the last. */
static void draw_legend(ed_image *image, int32_t count, int64_t y, int64_t x, int64_t room)
{
    char last[16];
    snprintf(last, sizeof last, "%d", (int)count - 1);
    int64_t wide = ed_canvas_text_width(last, TEXT), left = x + ed_canvas_text_width("0", TEXT) + PAD;
    int64_t bar = room - (left - x) - wide - PAD;
    for (int32_t c = 0; c < count && bar > 0; c++)
        ed_canvas_rectangle(image, y + 2, left + bar * c / count, LINE - 6, bar / count + 1, class_colour(c, count));
    ed_canvas_text(image, "0", y, x, room, TEXT, ED_INK);
    ed_canvas_text(image, last, y, x + room - wide, wide, TEXT, ED_INK);
}

static void draw_panel(ed_image *image, const ed_scatter_plot *s, int panel, int64_t y, int64_t x)
{
    const float *points = s->points + (size_t)panel * (size_t)s->n * 2;
    const int32_t *classes = s->classes + (size_t)panel * (size_t)s->n;
    int32_t count = s->counts[panel];
    extent e = extent_of(points, s->n);
    double radius = s->n > 3000 ? 1.8 : s->n > 600 ? 2.4 : 3.2, margin = 3 * radius, room = s->size - 2 * margin;
    if (s->titles) ed_canvas_text(image, s->titles[panel], y, x, s->size, TEXT, ED_INK);
    if (s->titles) y += LINE + PAD / 2;
    ed_canvas_rectangle(image, y, x, s->size, s->size, ED_GREY);
    ed_canvas_rectangle(image, y + 1, x + 1, s->size - 2, s->size - 2, ED_WHITE);
    for (int i = 0; i < s->n; i++)
        ed_canvas_disc(image, (double)y + margin + room * (1 - ((double)points[2 * i + 1] - e.low[1]) / e.span),
                       (double)x + margin + room * (((double)points[2 * i] - e.low[0]) / e.span), radius,
                       class_colour(classes[i], count), 0.7);
    draw_legend(image, count, y + s->size + PAD / 2, x, s->size);
}

static encdiff_status check_scatter(ed_env *env, const char *path, const ed_scatter_plot *s)
{
    if (s->panels < 1 || s->n < 1 || s->columns < 1 || s->size < 64 || s->size > 4096 || s->panels > 4096)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%s: %d panels of %d points in %d columns, %d pixels each", path,
                       s->panels, s->n, s->columns, s->size);
    for (int p = 0; p < s->panels; p++)
        for (int i = 0; i < s->n; i++) {
            size_t at = (size_t)p * (size_t)s->n + (size_t)i;
            if (!isfinite(s->points[2 * at]) || !isfinite(s->points[2 * at + 1]))
                return ed_fail(env, ENCDIFF_ERROR_NUMERIC, "%s: point %d of panel %d is not finite", path, i, p);
            if (s->classes[at] < 0 || s->classes[at] >= s->counts[p])
                return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "%s: point %d of panel %d has class %d of %d", path, i, p,
                               (int)s->classes[at], (int)s->counts[p]);
        }
    return ENCDIFF_OK;
}

encdiff_status ed_scatter_write(ed_env *env, const char *path, const ed_scatter_plot *s)
{
    ed_image image;
    ED_TRY(check_scatter(env, path, s));
    int columns = ED_MIN(s->columns, s->panels), rows = (s->panels + columns - 1) / columns;
    int64_t high = s->size + LEGEND + 2 * PAD + (s->titles ? LINE + PAD / 2 : 0), wide = s->size + 2 * PAD;
    ED_TRY(
        ed_image_allocate(env, path, (uint64_t)(rows * high + PAD), (uint64_t)(columns * wide + PAD), false, &image));
    ed_canvas_fill(&image, ED_WHITE);
    for (int p = 0; p < s->panels; p++) draw_panel(&image, s, p, PAD + p / columns * high, PAD + p % columns * wide);
    return finish(env, path, &image);
}
