/*
 * What the files about HDF5 share. HDF5 appears in the files h5*.c alone.
 *
 * The library that Debian ships is not thread-safe, so every use of it here, by whatever context, is behind one
 * process-wide lock: the only state of this library that is shared between contexts. The host's error printing is
 * switched off inside the lock and put back. A host that calls HDF5 itself from other threads must arrange that too.
 */
#ifndef ED_DATA_H5_H
#define ED_DATA_H5_H

#include <hdf5.h>

#include "data/dataset.h"
#include "io/mat.h"

typedef struct ed_h5_guard {
    H5E_auto2_t print;
    void *print_data;
} ed_h5_guard;

void ed_h5_enter(ed_h5_guard *guard);
void ed_h5_leave(const ed_h5_guard *guard);

/* The functions below are called inside the guard. */

/* Record "path: what: HDF5's innermost reason". */
encdiff_status ed_h5_fail(ed_env *env, encdiff_status kind, const char *path, const char *what);

/*
 * For reading alone (h5_driver.c); negative after a failure. *driver goes back to ed_h5_close_file(): HDF5 forgets a
 * driver before it closes the last file of it, which is then closed through freed memory.
 */
hid_t ed_h5_open_file(const char *path, hid_t *driver);
void ed_h5_close_file(hid_t file, hid_t driver); /* negative ones are fine */

#define ED_H5_MAX_RANK 5

/* What a dataset in the file is. */
typedef struct ed_h5_shape {
    int rank;
    hsize_t dim[ED_H5_MAX_RANK];
    H5T_class_t type;
    size_t size;
    bool is_unsigned;
} ed_h5_shape;

/* false: not a dataset of rank 1 to ED_H5_MAX_RANK. */
bool ed_h5_inspect(hid_t dataset, ed_h5_shape *out);
/* Only hard links: a file must not make the reader open others. */
bool ed_h5_is_inside(hid_t file, const char *name);
hid_t ed_h5_open_inside(hid_t file, const char *name, hid_t access); /* negative when absent */
/* Refuses external files, virtual datasets and filters that this HDF5 lacks. */
encdiff_status ed_h5_check_storage(ed_env *env, const char *path, hid_t properties);
/*
 * Where chunks have Fletcher's checksums: those of `rows` rows from `first` on are long enough to have one. HDF5 1.10
 * sums what lies before a shorter chunk.
 */
encdiff_status ed_h5_check_sums(ed_env *env, const char *path, hid_t dataset, hid_t properties,
                                const ed_h5_shape *shape, hsize_t first, hsize_t rows);
/* An unwritten dataset can claim any size; what is stored bounds what can be there (deflate shrinks 1032 times). */
encdiff_status ed_h5_check_amount(ed_env *env, const char *path, hid_t dataset, const ed_h5_shape *shape);

/* Outside the guard: the u8 dataset `name` of a file, as MATLAB 7.3 writes arrays: its first size is HDF5's last. */
encdiff_status ed_h5_read_bytes(ed_env *env, const char *path, const char *name, ed_mat *out);

#endif
