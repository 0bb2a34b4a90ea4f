/* Writing an .npy header. For npy.c alone. */
#ifndef ED_IO_NPY_HEADER_H
#define ED_IO_NPY_HEADER_H

#include "io/npy.h"

#define ED_NPY_FORMAT_SIZE 384

/* The header in `out`, a multiple of 64 bytes; its length, or 0 for a type or rank that cannot be written. */
size_t ed_npy_format(ed_type type, int rank, const int64_t *dim, char out[ED_NPY_FORMAT_SIZE]);

#endif
