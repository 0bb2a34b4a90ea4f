/* Pictures of numbers: a matrix as coloured cells with the numbers in them, and points coloured by class. */
#ifndef ED_IO_PLOT_H
#define ED_IO_PLOT_H

#include "io/image.h"

typedef struct ed_matrix_plot {
    const double *values; /* [rows][columns], finite */
    int rows, columns;
    const char *title, *row_title, *column_title; /* NULL: none */
    const char *const *row_labels;                /* [rows]; NULL: 0, 1, ... */
    const char *const *column_labels;             /* [columns]; NULL: 0, 1, ... */
    double low, high;                             /* of the lightest and the darkest cell */
    bool fit;                                     /* they are 0 and the largest value instead */
    int digits;                                   /* behind the point */
} ed_matrix_plot;

encdiff_status ed_matrix_write(ed_env *env, const char *path, const ed_matrix_plot *plot);

typedef struct ed_scatter_plot {
    const float *points;    /* [panels][n][2], finite: right and up; each panel is scaled to its points */
    const int32_t *classes; /* [panels][n], 0 .. count - 1 */
    const int32_t *counts;  /* [panels]: classes */
    int panels, n;
    int columns, size;         /* panels in a row; pixels of a panel's side */
    const char *const *titles; /* [panels]; NULL: none */
} ed_scatter_plot;

encdiff_status ed_scatter_write(ed_env *env, const char *path, const ed_scatter_plot *plot);

#endif
