/* chart: a loss curve as SVG. */
#ifndef CLI_CHART_H
#define CLI_CHART_H

#include <stdbool.h>

#include "text.h"

/* csv: a training log. False, and nothing added, when it has not two rows with a positive loss. */
bool chart_loss(text *svg, const char *csv);

#endif
