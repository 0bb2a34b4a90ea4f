/*
 * Datasets: numbered images, with factor labels where they are known. Whatever holds images is opened as one.
 */
#ifndef ENCDIFF_DATASET_H
#define ENCDIFF_DATASET_H

#include <encdiff/context.h>
#include <encdiff/image.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Images by index, read from their source when they are asked for; never held whole unless they are given in memory.
 *
 * Thread-safety: that of its context.
 */
typedef struct encdiff_dataset encdiff_dataset;

typedef struct encdiff_dataset_options {
    size_t struct_size;
    const char *format;   /* as in encdiff_dataset_info.format; NULL: found out from the content */
    int32_t height;       /* resize to this; 0: the source's size, or what the crop leaves */
    int32_t width;        /* 0: the source's size, or height where that is given */
    uint64_t cache_bytes; /* decoded images kept in memory; 0: 64 MiB */
    /*
     * Before resizing: "centre" cuts out the largest centred part of the target's proportions (square where no size is
     * given), "d2c" the 128 x 128 pixels around row 121, column 89, which is how CelebA's aligned pictures are cut in
     * the literature. NULL or "none": the whole picture, distorted where the proportions differ.
     */
    const char *crop;
    const char *filter; /* of resizing: "bicubic", "bilinear", "lanczos", "box", each as Pillow's; NULL: "bicubic" */
    const char *split;  /* "train", "valid" or "test" of a set that is published so; NULL or "all": all of it */
} encdiff_dataset_options;

/* Set every option to its default; struct_size is sizeof(encdiff_dataset_options) as the caller compiled it. */
ENCDIFF_API void encdiff_dataset_options_init(encdiff_dataset_options *options, size_t struct_size);

/**
 * Open a dataset.
 *
 * source   "procedural:shapes3d", a picture, a folder of pictures, or an .npy, .npz or .h5 file, whose arrays are u8
 *          NHWC, f32 NHWC or f32 NCHW; what is known by its layout is in docs/file-formats.md. Options may follow,
 * which go before those of `options`: format, crop, filter, split, height, width ("celeba?split=train&crop=d2c").
 *          "[begin:end]" after it takes that range of indices ("3dshapes.h5[0:64]")
 * options  NULL for defaults
 * dataset  out, to be freed with encdiff_dataset_free()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_NOT_FOUND for a missing path or unknown procedural set; ENCDIFF_ERROR_IO;
 * ENCDIFF_ERROR_FORMAT for a malformed, truncated or unknown file, or one without images; ENCDIFF_ERROR_SHAPE for
 * pictures of differing sizes without options->height or smaller than the crop, or a range beyond the end;
 * ENCDIFF_ERROR_ARGUMENT for an unknown format, crop, filter or split; ENCDIFF_ERROR_UNSUPPORTED for a split of a set
 * that has none.
 */
ENCDIFF_API encdiff_status encdiff_dataset_open(encdiff_context *context, const char *source,
                                                const encdiff_dataset_options *options, encdiff_dataset **dataset);

/* Arrays in the caller's memory, for encdiff_dataset_from_arrays(). */
typedef struct encdiff_dataset_arrays {
    size_t struct_size;
    const encdiff_image_view *images; /* pixels are borrowed until the dataset and its subsets are freed */
    const int32_t *labels;            /* int32_t[images->n][factors], borrowed as long; NULL without labels */
    const int32_t *factor_sizes;      /* int32_t[factors], labels are 0 .. size-1; NULL: largest label + 1 */
    const char *const *factor_names;  /* factors names; NULL: "factor 0", ... */
    int32_t factors;                  /* 0 without labels */
} encdiff_dataset_arrays;

/**
 * Make a dataset of images in memory.
 *
 * arrays   set struct_size first; names and sizes are copied, images and labels are not
 * dataset  out, to be freed with encdiff_dataset_free()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_SHAPE for a view without images; ENCDIFF_ERROR_ARGUMENT for a label outside its
 * factor's size.
 */
ENCDIFF_API encdiff_status encdiff_dataset_from_arrays(encdiff_context *context, const encdiff_dataset_arrays *arrays,
                                                       encdiff_dataset **dataset);

/* Give up the caller's hold on the dataset; subsets keep what they need. NULL is allowed. */
ENCDIFF_API void encdiff_dataset_free(encdiff_dataset *dataset);

typedef struct encdiff_dataset_info {
    size_t struct_size;
    const char *name;   /* of the procedural set or the file, without folder */
    const char *format; /* "procedural", "3dshapes.h5", "npz", "npy", "folder", "image", "memory", ... */
    int64_t size;       /* images */
    int32_t height;     /* pixels, after resizing */
    int32_t width;
    int32_t factors;  /* 0: no labels */
    int32_t complete; /* 1: every combination of factors occurs exactly once */
} encdiff_dataset_info;

/* Describe the dataset; set struct_size first. Strings belong to the dataset. Returns ENCDIFF_OK. */
ENCDIFF_API encdiff_status encdiff_dataset_get_info(const encdiff_dataset *dataset, encdiff_dataset_info *info);

/* Name of a factor, "floor hue"; belongs to the dataset. NULL when factor is out of range. */
ENCDIFF_API const char *encdiff_dataset_factor_name(const encdiff_dataset *dataset, int32_t factor);

/* How many values a factor takes; 0 when factor is out of range. */
ENCDIFF_API int32_t encdiff_dataset_factor_size(const encdiff_dataset *dataset, int32_t factor);

/**
 * Labels of images.
 *
 * n        how many
 * indices  int64_t[n], repeats allowed; NULL: 0 .. n-1
 * labels   out, int32_t[n][factors], each 0 .. size of its factor - 1
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT for an index out of range; ENCDIFF_ERROR_UNSUPPORTED without labels;
 * ENCDIFF_ERROR_IO; ENCDIFF_ERROR_FORMAT.
 */
ENCDIFF_API encdiff_status encdiff_dataset_labels(encdiff_dataset *dataset, int64_t n, const int64_t *indices,
                                                  int32_t *labels);

/**
 * Read images.
 *
 * indices  int64_t[images->n], repeats allowed; NULL: 0 .. n-1
 * images   out, at the dataset's height and width, any format
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT for an index out of range; ENCDIFF_ERROR_SHAPE when the view's size
 * differs; ENCDIFF_ERROR_IO; ENCDIFF_ERROR_FORMAT; ENCDIFF_ERROR_NUMERIC for NaN pixels in a float source;
 * ENCDIFF_CANCELLED.
 */
ENCDIFF_API encdiff_status encdiff_dataset_read(encdiff_dataset *dataset, const int64_t *indices,
                                                encdiff_image_view *images);

/**
 * Find the image with a combination of factors.
 *
 * labels  int32_t[factors]
 * index   out, the lowest where several have it
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT for a label outside its factor's size; ENCDIFF_ERROR_NOT_FOUND when no
 * image has the combination; ENCDIFF_ERROR_UNSUPPORTED without labels.
 */
ENCDIFF_API encdiff_status encdiff_dataset_find(encdiff_dataset *dataset, const int32_t *labels, int64_t *index);

/**
 * The images begin .. end-1 as a dataset of their own, reading from the same source.
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT unless 0 <= begin < end <= size.
 */
ENCDIFF_API encdiff_status encdiff_dataset_slice(encdiff_dataset *dataset, int64_t begin, int64_t end,
                                                 encdiff_dataset **slice);

/* The same images in an order drawn from seed, as a dataset of its own. Returns ENCDIFF_OK. */
ENCDIFF_API encdiff_status encdiff_dataset_shuffle(encdiff_dataset *dataset, uint64_t seed, encdiff_dataset **shuffled);

/**
 * Divide the images at random into two datasets.
 *
 * first_size     images of the first, 1 .. size-1
 * seed           of the choice; each part keeps the order of the whole
 * first, second  out, each to be freed
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT when first_size is out of range.
 */
ENCDIFF_API encdiff_status encdiff_dataset_split(encdiff_dataset *dataset, int64_t first_size, uint64_t seed,
                                                 encdiff_dataset **first, encdiff_dataset **second);

/**
 * Write a dataset to a file; a procedural one is rendered.
 *
 * path  .h5: the layout of 3dshapes.h5 ("images" u8 [n][height][width][3], "labels" f64 [n][factors]); .npz: the same
 *       two arrays. The file is replaced only when all is written
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_ARGUMENT for another extension; ENCDIFF_ERROR_IO; ENCDIFF_ERROR_FORMAT when the
 * source is damaged; ENCDIFF_ERROR_UNSUPPORTED for a build without HDF5; ENCDIFF_CANCELLED.
 */
ENCDIFF_API encdiff_status encdiff_dataset_save(encdiff_dataset *dataset, const char *path, encdiff_progress progress,
                                                void *user);

typedef struct encdiff_dataset_save_options {
    size_t struct_size;
    int32_t compression; /* 1 .. 9: deflate, faster to smaller; -1: none; 0: .h5 4, .npz none (see the file formats) */
} encdiff_dataset_save_options;

/* Set every option to its default; struct_size is sizeof(encdiff_dataset_save_options) as the caller compiled it. */
ENCDIFF_API void encdiff_dataset_save_options_init(encdiff_dataset_save_options *options, size_t struct_size);

/**
 * encdiff_dataset_save() with options; NULL for defaults.
 *
 * Returns what that does, and ENCDIFF_ERROR_ARGUMENT for a compression outside -1 .. 9.
 */
ENCDIFF_API encdiff_status encdiff_dataset_save_with(encdiff_dataset *dataset, const char *path,
                                                     const encdiff_dataset_save_options *options,
                                                     encdiff_progress progress, void *user);

#ifdef __cplusplus
}
#endif
#endif
