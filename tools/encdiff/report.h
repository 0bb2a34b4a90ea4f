/* report: one self-contained page, with its pictures in it, for a screen of any width, light or dark. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "cli.h"

typedef struct report {
    cli *c;
    text html;
} report;

void report_begin(report *r, cli *c, const char *title, const char *subtitle);
void report_section(report *r, const char *title);
void report_paragraph(report *r, const char *format, ...) ENCDIFF_FORMAT(2, 3);

/* A row of large numbers. */
void report_figures_begin(report *r);
void report_figure(report *r, const char *value, const char *name, const char *settings);
void report_figures_end(report *r);

/* headings: `columns` texts, or NULL. */
void report_table_begin(report *r, const char *const *headings, int columns);
void report_row(report *r, const char *const *cells, int columns);
void report_table_end(report *r);

/* Numbers on cells that are darker where they are larger; rows are numbered, columns named. */
void report_matrix(report *r, const double *values, int32_t rows, int32_t columns, const char *row_name,
                   const char *const *column_names, const char *caption);
/* A PNG file. */
void report_picture(report *r, const char *path, const char *caption);
/* The loss column of a training log in CSV, on a logarithmic axis. A file without two rows is left out. */
bool report_curve(report *r, const char *path, const char *caption);
/* The same of a log of scores. Both return whether there was something to draw. */
bool report_score_curves(report *r, const char *path, const char *caption);
/* Text behind a line that unfolds it. */
void report_fold(report *r, const char *summary, const char *content);

void report_write(report *r, const char *path);

/* Table and JSON of an evaluation; how long its parts took. */
void report_scores(report *r, const encdiff_scores *scores);
void report_timing(report *r, const encdiff_scores *scores);

#endif
