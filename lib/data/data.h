/*
 * data: numbered images with factor labels, wherever they come from, and the loader that feeds training.
 *
 *   data.h        datasets: opening, reading, labels, views (slice, shuffle, split), writing; each format is one file
 *   dataset.h     what a format implements; for this folder alone
 *   shapes3d      rooms rendered by index, with the factors of 3D Shapes
 *   h5, npy (with npz), folder, memory: the formats that are stored
 *   loader.h      batches in shuffled order, read ahead by background threads
 *
 * Train, metrics and api call it; it stands on base, tensor and io.
 */
#ifndef ED_DATA_H
#define ED_DATA_H

#include "io/io.h"
#include "io/pixels.h"

typedef struct ed_dataset ed_dataset;

typedef struct ed_dataset_options {
    const char *format;   /* as in formats.c; NULL: found out */
    int height, width;    /* resize to this; 0: the source's size; one of them given: square */
    const char *crop;     /* "centre": the largest centred part of the target's proportions; "d2c"; NULL: distort */
    const char *filter;   /* of resizing: "bicubic" (NULL), "bilinear", "lanczos", "box" */
    const char *split;    /* "train", "valid", "test" of a set that is published so; NULL: all */
    uint64_t cache_bytes; /* decoded images kept in memory; 0: 64 MiB */
} ed_dataset_options;

typedef struct ed_dataset_info {
    const char *name;   /* of the procedural set or the file, without folder */
    const char *format; /* "procedural", "3dshapes.h5", "h5", "npz", "npy", "folder", "image", "memory" */
    int64_t size;
    int height, width; /* 3 channels */
    int factors;       /* 0: no labels */
    const char *const *factor_names;
    const int32_t *factor_sizes;
    bool complete; /* every combination of factors occurs exactly once */
    bool exact;    /* pixels are floats in the source, and ed_dataset_read_f32() gives them unrounded */
} ed_dataset_info;

/* Images given by pointers, which are borrowed; names and sizes are copied. */
typedef struct ed_dataset_arrays {
    const uint8_t *u8; /* [n][h][w][3], or */
    const float *f32;  /* [n][h][w][3] or, with `planar`, [n][3][h][w], in [-1, 1] */
    bool planar;
    int64_t n;
    int height, width;
    int factors;
    const int32_t *labels;           /* [n][factors] */
    const int32_t *factor_sizes;     /* NULL: largest label + 1 */
    const char *const *factor_names; /* NULL: "factor 0", ... */
} ed_dataset_arrays;

/* How far a long call is; non-zero stops it with ENCDIFF_CANCELLED. May be NULL. */
typedef int (*ed_data_progress)(void *user, int64_t done, int64_t total);

/* `source` as in encdiff_dataset_open(): a path or "procedural:NAME", with "[begin:end]" after it for a range. */
encdiff_status ed_dataset_open(ed_env *env, const char *source, const ed_dataset_options *options, ed_dataset **out);
encdiff_status ed_dataset_from_arrays(ed_env *env, const ed_dataset_arrays *arrays, ed_dataset **out);
/* Datasets are counted references; views hold their source. */
ed_dataset *ed_dataset_retain(ed_dataset *dataset);
void ed_dataset_free(ed_env *env, ed_dataset *dataset); /* NULL is fine */
void ed_dataset_get_info(const ed_dataset *dataset, ed_dataset_info *info);

/*
 * The functions below may be called by several threads at once, each with its own env. `indices` has n entries in any
 * order, repeats allowed.
 */

/* u8 [n][h][w][3]. Float sources are rounded; ENCDIFF_ERROR_NUMERIC for NaN. */
encdiff_status ed_dataset_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out);
/* f32 [n][h][w][3] in [-1, 1]. */
encdiff_status ed_dataset_read_f32(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, float *out);
/* int32 [n][factors]; ENCDIFF_ERROR_UNSUPPORTED without labels. */
encdiff_status ed_dataset_labels(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, int32_t *out);
/* The lowest index with these labels; ENCDIFF_ERROR_NOT_FOUND. */
encdiff_status ed_dataset_find(ed_env *env, ed_dataset *dataset, const int32_t *labels, int64_t *index);

encdiff_status ed_dataset_slice(ed_env *env, ed_dataset *dataset, int64_t begin, int64_t end, ed_dataset **out);
encdiff_status ed_dataset_shuffle(ed_env *env, ed_dataset *dataset, uint64_t seed, ed_dataset **out);
/* `first_size` images drawn by seed, and the rest; each part keeps the order of the whole. */
encdiff_status ed_dataset_split(ed_env *env, ed_dataset *dataset, int64_t first_size, uint64_t seed, ed_dataset **first,
                                ed_dataset **second);

/*
 * Write "images" u8 [n][h][w][3] and, with factors, "labels" f64 [n][factors] to .h5 (as 3dshapes.h5) or .npz, by the
 * path's ending. `level` 0..9 is the compression (0: none), negative the format's default. The path appears only when
 * all is written. Labels are the values of 3D Shapes where the factors are its, else 0, 1, 2, ...
 */
encdiff_status ed_dataset_save(ed_env *env, ed_dataset *dataset, const char *path, int level, ed_data_progress progress,
                               void *user);

#endif
