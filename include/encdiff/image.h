/*
 * Images and arrays in the caller's memory, and the files they are exchanged in. To read images from files (one
 * picture, a folder, an array, an HDF5 set), open them as a dataset.
 */
#ifndef ENCDIFF_IMAGE_H
#define ENCDIFF_IMAGE_H

#include <encdiff/context.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum encdiff_image_format {
    ENCDIFF_IMAGE_U8_NHWC = 1,  /* uint8_t[n][height][width][3], 0..255 */
    ENCDIFF_IMAGE_F32_NHWC = 2, /* float[n][height][width][3], in [-1, 1] */
    ENCDIFF_IMAGE_F32_NCHW = 3  /* float[n][3][height][width], in [-1, 1] */
} encdiff_image_format;

/**
 * n images of one size in the caller's memory. As an input (const view) the pixels are only read. As an output the
 * caller describes the memory in the format it wants and the library fills the pixels: u8 rounded and clamped, float as
 * computed. Never grows.
 */
typedef struct encdiff_image_view {
    void *data;
    int32_t format; /* encdiff_image_format */
    int32_t n;
    int32_t height;
    int32_t width;
} encdiff_image_view;

/* Bytes that the view's format and size take; 0 when they are not positive, not a format, or too large. */
ENCDIFF_API size_t encdiff_image_view_bytes(const encdiff_image_view *view);

/**
 * Convert images between formats.
 *
 * source  images
 * target  out, of the same n, height and width and any format; must not overlap source
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_SHAPE when sizes differ; ENCDIFF_ERROR_NUMERIC for NaN pixels on their way to u8.
 */
ENCDIFF_API encdiff_status encdiff_image_convert(encdiff_context *context, const encdiff_image_view *source,
                                                 encdiff_image_view *target);

typedef struct encdiff_grid_options {
    size_t struct_size;
    int32_t columns;                  /* images in a row; 0: about as many as rows */
    int32_t scale;                    /* each pixel becomes scale x scale; 0: 1 */
    int32_t gap;                      /* pixels between images, in the picture's scale; 0: 2, -1: none */
    int32_t reserved;                 /* 0 */
    const char *const *column_labels; /* columns texts drawn above, or NULL */
    const char *const *row_labels;    /* one text for each row drawn at its left, or NULL */
} encdiff_grid_options;

/* Set every option to its default; struct_size is sizeof(encdiff_grid_options) as the caller compiled it. */
ENCDIFF_API void encdiff_grid_options_init(encdiff_grid_options *options, size_t struct_size);

/**
 * Write images as one PNG, side by side in rows.
 *
 * path     file, replaced only when the whole picture is written
 * images   one or more, first row first
 * options  NULL for defaults
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_IO; ENCDIFF_ERROR_NUMERIC for NaN pixels; ENCDIFF_ERROR_UNSUPPORTED for a build
 * without libpng.
 */
ENCDIFF_API encdiff_status encdiff_image_write_grid(encdiff_context *context, const char *path,
                                                    const encdiff_image_view *images,
                                                    const encdiff_grid_options *options);

typedef struct encdiff_matrix_options {
    size_t struct_size;
    const char *title; /* texts are NULL for none */
    const char *row_title;
    const char *column_title;
    const char *const *row_labels;    /* rows texts, or NULL for numbers */
    const char *const *column_labels; /* columns texts, or NULL for numbers */
    double low; /* value of the lightest cell, and of the darkest; both 0: 0 and the largest value */
    double high;
    int32_t digits; /* behind the point; 0: 2, -1: none */
    int32_t reserved;
} encdiff_matrix_options;

/* Set every option to its default; struct_size is sizeof(encdiff_matrix_options) as the caller compiled it. */
ENCDIFF_API void encdiff_matrix_options_init(encdiff_matrix_options *options, size_t struct_size);

/**
 * Write a matrix as a PNG of coloured cells with the numbers in them, for example DCI's importances.
 *
 * path     file, replaced only when the whole picture is written
 * values   double[rows][columns]
 * options  NULL for defaults
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_IO; ENCDIFF_ERROR_NUMERIC for numbers that are not finite; ENCDIFF_ERROR_SHAPE for
 * a picture that would be too large; ENCDIFF_ERROR_ARGUMENT for more than six digits, or where high is not above low;
 * ENCDIFF_ERROR_UNSUPPORTED for a build without libpng.
 */
ENCDIFF_API encdiff_status encdiff_image_write_matrix(encdiff_context *context, const char *path, const double *values,
                                                      int32_t rows, int32_t columns,
                                                      const encdiff_matrix_options *options);

typedef struct encdiff_scatter {
    size_t struct_size;
    const float *points;         /* float[panels][n][2], right and up; each panel is scaled to its points */
    const int32_t *classes;      /* int32_t[panels][n], 0 .. class_counts[panel] - 1: the colour, from blue to red */
    const int32_t *class_counts; /* int32_t[panels] */
    const char *const *titles;   /* panels texts, or NULL */
    int32_t panels;
    int32_t n;
    int32_t columns; /* panels in a row; 0: about as many as rows */
    int32_t size;    /* pixels of a panel's side; 0: 320 */
} encdiff_scatter;

/**
 * Write panels of points as one PNG, for example tokens coloured by a factor.
 *
 * path     file, replaced only when the whole picture is written
 * scatter  set struct_size first
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_IO; ENCDIFF_ERROR_NUMERIC for points that are not finite; ENCDIFF_ERROR_ARGUMENT
 * for a class out of range; ENCDIFF_ERROR_SHAPE; ENCDIFF_ERROR_UNSUPPORTED for a build without libpng.
 */
ENCDIFF_API encdiff_status encdiff_image_write_scatter(encdiff_context *context, const char *path,
                                                       const encdiff_scatter *scatter);

typedef enum encdiff_type {
    ENCDIFF_TYPE_ANY = 0, /* in encdiff_array_read(): whatever the file has */
    ENCDIFF_TYPE_U8 = 1,
    ENCDIFF_TYPE_I32 = 2,
    ENCDIFF_TYPE_I64 = 3,
    ENCDIFF_TYPE_F32 = 4,
    ENCDIFF_TYPE_F64 = 5
} encdiff_type;

/* A dense row-major array. Never grows. */
typedef struct encdiff_array {
    void *data;
    int32_t type; /* encdiff_type */
    int32_t rank; /* 0..8 */
    int64_t shape[8];
} encdiff_array;

/**
 * Read an array from an .npy file, or from a member of an .npz file.
 *
 * path    file
 * member  name inside an .npz without ".npy"; NULL for its only member and for .npy
 * type    to convert to, or ENCDIFF_TYPE_ANY to keep the file's where that is an encdiff_type
 * array   out; release array->data with encdiff_context_release()
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_NOT_FOUND for a missing file or member; ENCDIFF_ERROR_IO; ENCDIFF_ERROR_FORMAT for
 * a malformed or truncated file, an element type that cannot be kept, and integers that do not fit the type asked for.
 */
ENCDIFF_API encdiff_status encdiff_array_read(encdiff_context *context, const char *path, const char *member,
                                              encdiff_type type, encdiff_array *array);

/**
 * Write an array as .npy; the file is replaced only when all is written.
 *
 * Returns ENCDIFF_OK; ENCDIFF_ERROR_SHAPE for a rank or shape that is not one; ENCDIFF_ERROR_IO.
 */
ENCDIFF_API encdiff_status encdiff_array_write(encdiff_context *context, const char *path, const encdiff_array *array);

#ifdef __cplusplus
}
#endif
#endif
