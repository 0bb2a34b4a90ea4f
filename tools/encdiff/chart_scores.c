/* Scores by training step. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chart.h"

#define MOST_CURVES 8 /* the style has so many colours: .s0 to .s7 */

typedef struct series {
    const char *name; /* in the log, up to the comma */
    size_t length;
    double *step, *value;
    size_t count;
} series;

typedef struct curves {
    series all[64];
    size_t count, rows;
} curves;

/* What would say nothing on an axis from 0 to 1, or is not what a reader asks first. */
static bool left_out(const char *name, size_t length)
{
    static const char *const parts[] = {"train", "deviation.", "active", "attributes", "mse", "lpips"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t n = strlen(parts[i]);
        for (size_t at = 0; at + n <= length; at++)
            if (strncmp(name + at, parts[i], n) == 0) return true;
    }
    return false;
}

static series *series_of(curves *c, const char *name, size_t length)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->all[i].length == length && strncmp(c->all[i].name, name, length) == 0) return &c->all[i];
    if (c->count == sizeof c->all / sizeof *c->all || left_out(name, length)) return NULL;
    series *s = &c->all[c->count++];
    *s = (series){name, length, calloc(c->rows + 1, sizeof(double)), calloc(c->rows + 1, sizeof(double)), 0};
    return s;
}

static void read_row(curves *c, const char *row)
{
    char *end;
    double step = strtod(row, &end);
    if (*end != ',') return;
    const char *name = end + 1;
    size_t length = strcspn(name, ",\n");
    if (name[length] != ',') return;
    double value = strtod(name + length + 1, &end);
    if (end == name + length + 1) return; /* the header */
    series *s = series_of(c, name, length);
    if (!s || !s->step || !s->value) return;
    s->step[s->count] = step;
    s->value[s->count++] = value;
}

static bool drawable(const series *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (!(s->value[i] >= 0 && s->value[i] <= 1)) return false;
    return s->count >= 2;
}

/* Keeps what can be drawn, up to MOST_CURVES. */
static void select_curves(curves *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++) {
        if (kept < MOST_CURVES && drawable(&c->all[i])) {
            series moved = c->all[i];
            c->all[i] = c->all[kept];
            c->all[kept++] = moved;
        }
    }
    for (size_t i = kept; i < c->count; i++) {
        free(c->all[i].step);
        free(c->all[i].value);
    }
    c->count = kept;
}

static double y_of(double value) { return CHART_TOP + (CHART_HEIGHT - CHART_TOP - CHART_BOTTOM) * (1 - value); }

static void add_curve(text *svg, const series *s, size_t colour, double first, double last)
{
    text_add(svg, "<polyline class=\"curve s%zu\" points=\"", colour);
    for (size_t i = 0; i < s->count; i++)
        text_add(svg, "%.1f,%.1f ", chart_x(first, last, s->step[i]), y_of(s->value[i]));
    text_add(svg, "\"/>\n");
}

static void draw(text *svg, const curves *c)
{
    double first = INFINITY, last = -INFINITY;
    for (size_t i = 0; i < c->count; i++) {
        first = fmin(first, c->all[i].step[0]);
        last = fmax(last, c->all[i].step[c->all[i].count - 1]);
    }
    text_add(svg, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"scores by training step\">\n", CHART_WIDTH,
             CHART_HEIGHT);
    for (int i = 0; i <= 5; i++) chart_level(svg, y_of(i / 5.0), i / 5.0);
    chart_step_ticks(svg, first, last);
    for (size_t i = 0; i < c->count; i++) add_curve(svg, &c->all[i], i, first, last);
    text_add(svg, "</svg>\n<p class=\"legend\">");
    for (size_t i = 0; i < c->count; i++) {
        const series *s = &c->all[i];
        char name[128] = {0};
        memcpy(name, s->name, s->length < sizeof name ? s->length : sizeof name - 1);
        text_add(svg, "<span><i class=\"s%zu\"></i>", i);
        text_add_html(svg, name);
        text_add(svg, " %.3f</span>\n", s->value[s->count - 1]);
    }
    text_add(svg, "</p>\n");
}

bool chart_scores(text *svg, const char *csv)
{
    curves c = {.count = 0};
    for (const char *s = csv; *s; s++) c.rows += *s == '\n';
    for (const char *row = csv; row && *row; row = strchr(row, '\n') ? strchr(row, '\n') + 1 : NULL) read_row(&c, row);
    select_curves(&c);
    if (c.count) draw(svg, &c);
    for (size_t i = 0; i < c.count; i++) {
        free(c.all[i].step);
        free(c.all[i].value);
    }
    return c.count > 0;
}
