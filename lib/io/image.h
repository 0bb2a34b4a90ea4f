/*
 * image: pictures as 8-bit RGB. PNG (any kind) and JPEG are read, PNG is written.
 *
 * As Pillow's convert("RGB"): grey is repeated, palettes are looked up, alpha is dropped, 16 bits become 8; JPEG is
 * decoded with libjpeg's accurate integer transform; CMYK, also inverted as Adobe writes it, is multiplied out.
 */
#ifndef ED_IO_IMAGE_H
#define ED_IO_IMAGE_H

#include "io/io.h"

/* Pictures larger than this are refused: a file of a few kilobytes can claim any size. */
#define ED_IMAGE_MAX_SIDE 32768
#define ED_IMAGE_MAX_PIXELS ((size_t)1 << 27)
#define ED_IMAGE_MAX_FILE ((size_t)1 << 30)

typedef struct ed_image {
    int height, width;
    uint8_t *rgb; /* [height][width][3], owned; freed with ed_free() */
} ed_image;

typedef enum ed_image_kind { ED_IMAGE_UNKNOWN, ED_IMAGE_PNG, ED_IMAGE_JPEG } ed_image_kind;

/* By the first bytes; 8 are enough. */
ed_image_kind ed_image_kind_of(const uint8_t *data, size_t size);
/* `name` is for messages. */
encdiff_status ed_image_decode(ed_env *env, const char *name, const uint8_t *data, size_t size, ed_image *out);
encdiff_status ed_image_read(ed_env *env, const char *path, ed_image *out);
/* Height and width alone (out->rgb is NULL), from the file's header. */
encdiff_status ed_image_read_size(ed_env *env, const char *path, ed_image *out);

/* PNG, rgb[height][width][3]; `level` 0..9. The file appears whole or not at all. */
encdiff_status ed_png_write(ed_env *env, const char *path, const uint8_t *rgb, int height, int width, int level);
encdiff_status ed_png_encode(ed_env *env, const uint8_t *rgb, int height, int width, int level, uint8_t **data,
                             size_t *size);

/* The decoders of png.c and jpeg.c; with `only_size` the pixels are left out. */
encdiff_status ed_png_decode(ed_env *env, const char *name, const uint8_t *data, size_t size, bool only_size,
                             ed_image *out);
encdiff_status ed_jpeg_decode(ed_env *env, const char *name, const uint8_t *data, size_t size, bool only_size,
                              ed_image *out);
/* Memory for the pixels, after the size was checked against the limits. */
encdiff_status ed_image_allocate(ed_env *env, const char *name, uint64_t height, uint64_t width, bool only_size,
                                 ed_image *out);

#endif
