/*
 * npy: NumPy arrays, alone (.npy, versions 1 to 3) or as members of a zip (.npz). Little-endian booleans, integers and
 * floats; no structures, no objects (which would be pickles).
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */
#ifndef ED_IO_NPY_H
#define ED_IO_NPY_H

#include "io/zip.h"

#define ED_NPY_MAX_RANK 8

/* The header of an array: what its elements are and where they begin. */
typedef struct ed_npy {
    char kind; /* 'b' boolean, 'u', 'i', 'f' */
    int size;  /* bytes of an element */
    bool fortran;
    int rank;
    int64_t dim[ED_NPY_MAX_RANK];
    int64_t count;          /* elements */
    uint64_t offset, bytes; /* of the data in the source */
} ed_npy;

/* Enough of a file to parse any header that is accepted. */
#define ED_NPY_HEADER_LIMIT 65536

/*
 * Parse the header at the start of `head`, `size` bytes of a source that has `total`. Checks that the data is all
 * there. `name` is for messages.
 */
encdiff_status ed_npy_parse(ed_env *env, const char *name, const uint8_t *head, size_t size, uint64_t total,
                            ed_npy *out);
encdiff_status ed_npy_parse_source(ed_env *env, const ed_source *source, ed_npy *out);
/* "float32 [10, 3, 64, 64]" */
const char *ed_npy_text(const ed_npy *npy, char text[192]);

/* A dense row-major array in memory. */
typedef struct ed_array {
    ed_type type; /* u8, i32, i64, f32 or f64 */
    int rank;
    int64_t dim[ED_NPY_MAX_RANK];
    int64_t count;
    void *data;
} ed_array;

#define ED_ARRAY_ANY (-1)

/*
 * Read an array whole. `member` is a name inside an .npz (".npy" may be left out) or NULL: its only one. `type` is an
 * ed_type to convert to, or ED_ARRAY_ANY: the narrowest of ed_array's types that holds the file's. Numbers that do not
 * fit the type are ENCDIFF_ERROR_FORMAT. Free out->data with ed_free().
 */
encdiff_status ed_array_read(ed_env *env, const char *path, const char *member, int type, ed_array *out);
/* Write .npy; the file appears whole or not at all. */
encdiff_status ed_array_write(ed_env *env, const char *path, const ed_array *array);
/* The same in memory, owned by the caller. */
encdiff_status ed_array_write_memory(ed_env *env, const ed_array *array, uint8_t **data, size_t *size);

/* A member of an .npz under "name.npy": the header now, then the data by ed_zip_writer_add() and ed_zip_writer_end().
 */
encdiff_status ed_npz_begin(ed_env *env, ed_zip_writer *writer, const char *name, ed_type type, int rank,
                            const int64_t *dim, int level);
/* A whole array. */
encdiff_status ed_npz_add(ed_env *env, ed_zip_writer *writer, const char *name, const ed_array *array, int level);

/* Elements first .. first+count-1 of an array in a source, as f64. For labels; i64 and u64 above 2^53 are rounded. */
encdiff_status ed_npy_read_f64(ed_env *env, const ed_source *source, const ed_npy *npy, int64_t first, int64_t count,
                               double *out);
/* The member "name" or "name.npy"; NULL when absent. */
const ed_zip_member *ed_npz_find(const ed_zip *zip, const char *name);

#endif
