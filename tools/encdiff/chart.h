/* chart: curves of a training as SVG. */
#ifndef CLI_CHART_H
#define CLI_CHART_H

#include <stdbool.h>

#include "text.h"

/* Pixels of all charts: the whole, and the margins around the curves. */
#define CHART_WIDTH 640.0
#define CHART_HEIGHT 280.0
#define CHART_LEFT 56.0
#define CHART_RIGHT 16.0
#define CHART_TOP 14.0
#define CHART_BOTTOM 34.0

double chart_x(double first, double last, double step);
void chart_step_ticks(text *svg, double first, double last);
/* A line across and its label. */
void chart_level(text *svg, double y, double value);

/* csv: a training log. False, and nothing added, when it has not two rows with a positive loss. */
bool chart_loss(text *svg, const char *csv);
/*
 * csv: a log of scores, "step,score,value". A curve for each score whose values are in 0 .. 1, those of training
 * samples left out, and below the chart the names. False, and nothing added, when no such score has two steps.
 */
bool chart_scores(text *svg, const char *csv);

#endif
