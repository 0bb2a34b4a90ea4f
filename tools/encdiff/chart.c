#include "chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_POINTS 600 /* more are not seen */
#define SMOOTHING 0.94  /* memory of the running mean */

typedef struct curve {
    double *step, *loss;
    size_t count;
    double low, high; /* of the loss, the ends of the axis */
} curve;

/* ---------------------------------------------------------------- the log */

/* Which column of the header has the name; -1: none. */
static int column_of(const char *csv, const char *name)
{
    size_t length = strlen(name), line = strcspn(csv, "\n");
    int column = 0;
    for (const char *at = csv; at < csv + line; column++) {
        size_t n = strcspn(at, ",\n");
        if (n == length && strncmp(at, name, n) == 0) return column;
        at += n + 1;
    }
    return -1;
}

static double field(const char *line, int column)
{
    for (; column > 0 && *line && *line != '\n'; line++) column -= *line == ',';
    return column == 0 ? strtod(line, NULL) : NAN;
}

static void read_curve(const char *csv, curve *out)
{
    int step = column_of(csv, "step"), loss = column_of(csv, "loss");
    size_t rows = 0;
    for (const char *s = csv; *s; s++) rows += *s == '\n';
    *out = (curve){.step = calloc(rows + 1, sizeof(double)), .loss = calloc(rows + 1, sizeof(double))};
    if (step < 0 || loss < 0 || !out->step || !out->loss) return;
    for (const char *line = strchr(csv, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        double x = field(line + 1, step), y = field(line + 1, loss);
        if (!isfinite(x) || !isfinite(y) || y <= 0) continue;
        out->step[out->count] = x;
        out->loss[out->count++] = y;
    }
}

/* ---------------------------------------------------------------- the axes */

double chart_x(double first, double last, double step)
{
    return CHART_LEFT + (CHART_WIDTH - CHART_LEFT - CHART_RIGHT) * (step - first) / fmax(last - first, 1e-9);
}

void chart_level(text *svg, double y, double value)
{
    text_add(svg, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", CHART_LEFT,
             CHART_WIDTH - CHART_RIGHT, y, y);
    text_add(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", CHART_LEFT - 6, y + 4, value);
}

static double x_of(const curve *c, double step) { return chart_x(c->step[0], c->step[c->count - 1], step); }

static double y_of(const curve *c, double loss)
{
    return CHART_TOP +
           (CHART_HEIGHT - CHART_TOP - CHART_BOTTOM) * (log(c->high) - log(loss)) / (log(c->high) - log(c->low));
}

static void find_ends(curve *c)
{
    c->low = c->high = c->loss[0];
    for (size_t i = 0; i < c->count; i++) {
        c->low = fmin(c->low, c->loss[i]);
        c->high = fmax(c->high, c->loss[i]);
    }
    c->low *= 0.9;
    c->high *= 1.1;
}

static void add_loss_ticks(text *svg, const curve *c)
{
    static const double steps[] = {1, 2, 5};
    for (int power = (int)floor(log10(c->low)); power <= (int)ceil(log10(c->high)); power++)
        for (int i = 0; i < 3; i++) {
            double value = steps[i] * pow(10, power);
            if (value < c->low || value > c->high) continue;
            chart_level(svg, y_of(c, value), value);
        }
}

/* A round distance that gives about five ticks. */
static double tick_distance(double span)
{
    double raw = fmax(span / 5, 1), power = pow(10, floor(log10(raw))), digit = raw / power;
    return power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
}

void chart_step_ticks(text *svg, double first, double last)
{
    double distance = tick_distance(last - first);
    for (double step = ceil(first / distance) * distance; step <= last; step += distance)
        text_add(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.0f</text>\n", chart_x(first, last, step),
                 CHART_HEIGHT - CHART_BOTTOM + 16, step);
    text_add(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">step</text>\n", CHART_WIDTH - CHART_RIGHT,
             CHART_HEIGHT - 4);
}

/* ---------------------------------------------------------------- the lines */

static void add_line(text *svg, const curve *c, const char *class, double memory)
{
    double mean = c->loss[0], weight = 0;
    size_t stride = c->count / MOST_POINTS + 1;
    text_add(svg, "<polyline class=\"%s\" points=\"", class);
    for (size_t i = 0; i < c->count; i++) {
        weight = memory * weight + 1;
        mean += (c->loss[i] - mean) / weight;
        if (i % stride == 0 || i + 1 == c->count) text_add(svg, "%.1f,%.1f ", x_of(c, c->step[i]), y_of(c, mean));
    }
    text_add(svg, "\"/>\n");
}

bool chart_loss(text *svg, const char *csv)
{
    curve c;
    read_curve(csv, &c);
    bool enough = c.count >= 2;
    if (enough) {
        find_ends(&c);
        text_add(svg, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"loss by training step\">\n",
                 CHART_WIDTH, CHART_HEIGHT);
        add_loss_ticks(svg, &c);
        chart_step_ticks(svg, c.step[0], c.step[c.count - 1]);
        add_line(svg, &c, "raw", 0);
        add_line(svg, &c, "smooth", SMOOTHING);
        text_add(svg, "</svg>\n");
    }
    free(c.step);
    free(c.loss);
    return enough;
}
