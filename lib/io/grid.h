/* grid: images side by side in one picture, with labels above the columns and beside the rows. */
#ifndef ED_IO_GRID_H
#define ED_IO_GRID_H

#include "io/image.h"

typedef struct ed_grid_options {
    int columns;                      /* 0: about as many as rows */
    int scale;                        /* each pixel becomes scale x scale; 0: 1 */
    int gap;                          /* pixels between images and around; 0: 2, negative: none */
    const char *const *column_labels; /* [columns] or NULL; an entry may be NULL */
    const char *const *row_labels;    /* [rows] or NULL */
} ed_grid_options;

/* Columns and rows that n images take. */
void ed_grid_layout(const ed_grid_options *options, int n, int *columns, int *rows);
/* rgb[n][height][width][3] as one picture; `out->rgb` is freed with ed_free(). */
encdiff_status ed_grid_make(ed_env *env, const uint8_t *rgb, int n, int height, int width,
                            const ed_grid_options *options, ed_image *out);
/* The same as a PNG file. */
encdiff_status ed_grid_write(ed_env *env, const char *path, const uint8_t *rgb, int n, int height, int width,
                             const ed_grid_options *options);

#endif
