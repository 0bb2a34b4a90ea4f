/*
 * mat: arrays of bytes in MATLAB files of version 5 (what `save` writes by default, compressed or not). Files of
 * version 7.3 are HDF5. https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
 */
#ifndef ED_IO_MAT_H
#define ED_IO_MAT_H

#include "io/io.h"

#define ED_MAT_MAX_RANK 8
#define ED_MAT_LIMIT ((size_t)256 << 20) /* bytes of a file, and of a variable */

typedef struct ed_mat {
    int rank;
    int64_t dim[ED_MAT_MAX_RANK]; /* the first one is the fastest in memory */
    uint8_t *data;                /* owned */
} ed_mat;

/* Read the uint8 variable `name`; ENCDIFF_ERROR_FORMAT when it is absent or of another kind. */
encdiff_status ed_mat_read(ed_env *env, const char *path, const char *name, ed_mat *out);

#endif
