/* What a format implements, and what it may use. For lib/data alone. */
#ifndef ED_DATA_DATASET_H
#define ED_DATA_DATASET_H

#include <stdatomic.h>

#include "data/data.h"
#include "data/fit.h"

typedef struct ed_dataset_class {
    /* Indices are in range. Several threads at once. */
    encdiff_status (*read)(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out);
    /* NULL: through read(). */
    encdiff_status (*read_f32)(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, float *out);
    /* NULL: from the base's `labels`, or by counting when `ordered`. */
    encdiff_status (*labels)(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, int32_t *out);
    void (*close)(ed_env *env, ed_dataset *dataset); /* what the format added; the base is freed after */
} ed_dataset_class;

/* First member of every format's struct. */
struct ed_dataset {
    const ed_dataset_class *class;
    atomic_int references;
    char *name;
    const char *format;
    int64_t size;
    int height, width;
    int factors;
    char **factor_names;
    int32_t *factor_sizes;
    int32_t *labels; /* [size][factors] or NULL */
    bool complete;
    bool ordered; /* complete, and the index counts through the factors, the last one fastest */
    bool exact;
    bool grey;   /* the three channels are equal */
    bool fitted; /* the format crops and resizes itself */
    bool splits; /* the format knows published splits, and has applied the one that was asked for */
};

/* Parts in which a set is published. */
typedef enum ed_split { ED_SPLIT_ALL, ED_SPLIT_TRAIN, ED_SPLIT_VALID, ED_SPLIT_TEST } ed_split;

/* By name, NULL: all; ENCDIFF_ERROR_ARGUMENT for another. */
encdiff_status ed_split_parse(ed_env *env, const char *name, ed_split *out);

/* First members of a dataset that stands on another one, of which it holds a reference. */
typedef struct ed_wrapped {
    ed_dataset base;
    ed_dataset *source;
} ed_wrapped;

/* As ed_dataset_create(), with what the source says of itself; takes the reference, also on failure. */
encdiff_status ed_wrapped_create(ed_env *env, size_t bytes, const ed_dataset_class *class, ed_dataset *source,
                                 ed_dataset **out);
encdiff_status ed_wrapped_labels(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, int32_t *out);
void ed_wrapped_close(ed_env *env, ed_dataset *dataset);

#define ED_SHAPES3D_FACTORS 6
extern const char *const ed_shapes3d_names[ED_SHAPES3D_FACTORS];
extern const int32_t ed_shapes3d_sizes[ED_SHAPES3D_FACTORS];
#define ED_DSPRITES_FACTORS 5
extern const char *const ed_dsprites_names[ED_DSPRITES_FACTORS];
extern const int32_t ed_dsprites_sizes[ED_DSPRITES_FACTORS];
/* What the published file has for a class: shapes 1 to 3, scales .5 to 1, orientations to 2 pi, positions to 1. */
double ed_dsprites_value(int factor, int32_t label);

/* What the published file has for a class: hues k / 10, scales .75 to 1.25, orientations -30 to 30 degrees. */
double ed_shapes3d_value(int factor, int32_t label);

/* A zeroed struct of `bytes` with the base filled in; `name` is copied. */
encdiff_status ed_dataset_create(ed_env *env, size_t bytes, const ed_dataset_class *class, const char *name,
                                 const char *format, ed_dataset **out);
/* Take over factor names (NULL: "factor 0", ..., or those of 3D Shapes where the sizes are) and sizes. */
encdiff_status ed_dataset_set_factors(ed_env *env, ed_dataset *dataset, int factors, const char *const *names,
                                      const int32_t *sizes);
/*
 * Labels as a file has them, f64 [size][factors]: equal values of a column become one class, in ascending order.
 * `names` may be NULL.
 */
encdiff_status ed_dataset_set_values(ed_env *env, ed_dataset *dataset, int factors, const char *const *names,
                                     const double *values);
/* Find out `complete` and `ordered` from `labels`, and free these where the index says the same. */
encdiff_status ed_dataset_examine(ed_env *env, ed_dataset *dataset);
/* The value that a file has for a class: 3D Shapes' own, else the class. */
double ed_dataset_value(const ed_dataset *dataset, int factor, int32_t label);

/* The formats. `path` exists. */
encdiff_status ed_shapes3d_open(ed_env *env, ed_dataset **out);
encdiff_status ed_dsprites_open(ed_env *env, ed_dataset **out);
encdiff_status ed_h5_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out);
encdiff_status ed_npy_dataset_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out);
encdiff_status ed_npz_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out);
encdiff_status ed_folder_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out);
encdiff_status ed_listed_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out);
bool ed_cars3d_is(const char *path); /* a folder with .mat files */
encdiff_status ed_cars3d_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out);
encdiff_status ed_smallnorb_is(ed_env *env, const char *folder, bool *found); /* it has one of the image files */
encdiff_status ed_smallnorb_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out);
encdiff_status ed_lmdb_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out);
encdiff_status ed_celeba_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out);
/* `dataset` cropped and resized; takes the reference. */
encdiff_status ed_resized_open(ed_env *env, ed_dataset *dataset, const ed_fit *fit, ed_dataset **out);

/* How images lie in a file of which reading one unpacks `run` neighbours. The functions are NULL where it is by index.
 */
typedef struct ed_storage {
    int64_t run;
    int64_t (*position_of)(const ed_dataset *dataset, int64_t index);
    int64_t (*index_at)(const ed_dataset *dataset, int64_t position);
} ed_storage;

/* `dataset`, copied into a temporary file when it is read at random; takes the reference. */
encdiff_status ed_unpacked_open(ed_env *env, ed_dataset *dataset, const ed_storage *storage, ed_dataset **out);
encdiff_status ed_h5_save(ed_env *env, ed_dataset *dataset, const char *path, int level, ed_data_progress progress,
                          void *user);
encdiff_status ed_npz_save(ed_env *env, ed_dataset *dataset, const char *path, int level, ed_data_progress progress,
                           void *user);

#endif
