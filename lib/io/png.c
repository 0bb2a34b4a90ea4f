/*
 * PNG through libpng, which appears in this file alone. libpng reports errors by longjmp: everything that must survive
 * one lives in a struct that the caller of setjmp holds, and each setjmp has a function of its own.
 */
#include <png.h>

#include "io/image.h"

/* ---------------------------------------------------------------- shared */

typedef struct failure {
    ed_env *env;
    const char *name;
    encdiff_status status; /* when a callback of ours failed and recorded why */
} failure;

/* libpng's own message for this is not told from damage, so the status is kept here. */
static void *png_allocate(png_structp png, png_alloc_size_t size)
{
    failure *f = png_get_mem_ptr(png);
    void *pointer = ed_alloc_raw(f->env, size);
    if (!pointer) f->status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    return pointer;
}

static void png_release(png_structp png, void *pointer)
{
    failure *f = png_get_mem_ptr(png);
    ed_free(f->env, pointer);
}

static void on_error(png_structp png, const char *message)
{
    failure *f = png_get_error_ptr(png);
    if (f->status == ENCDIFF_ERROR_OUT_OF_MEMORY)
        ed_fail_within(f->env, "%s", f->name);
    else if (f->status == ENCDIFF_OK)
        f->status = ed_fail(f->env, ENCDIFF_ERROR_FORMAT, "%s: damaged PNG: %s", f->name, message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, const char *message) { (void)png, (void)message; }

/* ---------------------------------------------------------------- reading */

typedef struct reader {
    failure failure;
    const uint8_t *data;
    size_t left;
    bool only_size;
    png_structp png;
    png_infop info;
    png_bytep *rows;
    ed_image image;
} reader;

static void read_bytes(png_structp png, png_bytep out, size_t size)
{
    reader *r = png_get_io_ptr(png);
    if (size > r->left) png_error(png, "the file is truncated");
    memcpy(out, r->data, size);
    r->data += size;
    r->left -= size;
}

/* Whatever the file has becomes 8-bit RGB. */
static void ask_for_rgb(png_structp png, png_infop info)
{
    int colour = png_get_color_type(png, info);
    png_set_expand(png); /* palettes, grey of fewer than 8 bits, transparency chunks */
    png_set_scale_16(png);
    if (!(colour & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

/* Everything that may longjmp. */
static encdiff_status read_guarded(reader *r)
{
    failure *f = &r->failure;
    if (setjmp(png_jmpbuf(r->png))) return f->status ? f->status : ENCDIFF_ERROR_FORMAT;
    png_set_read_fn(r->png, r, read_bytes);
    png_set_user_limits(r->png, ED_IMAGE_MAX_SIDE, ED_IMAGE_MAX_SIDE);
    png_set_chunk_malloc_max(r->png, 8000000);
    png_read_info(r->png, r->info);
    size_t height = png_get_image_height(r->png, r->info), width = png_get_image_width(r->png, r->info);
    ED_TRY(ed_image_allocate(f->env, f->name, height, width, r->only_size, &r->image));
    if (r->only_size) return ENCDIFF_OK;
    ask_for_rgb(r->png, r->info);
    if (png_get_rowbytes(r->png, r->info) != width * 3) png_error(r->png, "its kind is not known");
    if (!(r->rows = ed_alloc(f->env, height, sizeof *r->rows))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (size_t y = 0; y < height; y++) r->rows[y] = r->image.rgb + y * width * 3;
    png_read_image(r->png, r->rows);
    png_read_end(r->png, NULL);
    return ENCDIFF_OK;
}

encdiff_status ed_png_decode(ed_env *env, const char *name, const uint8_t *data, size_t size, bool only_size,
                             ed_image *out)
{
    reader r = {.failure = {.env = env, .name = name}, .data = data, .left = size, .only_size = only_size};
    *out = (ed_image){0};
    r.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &r.failure, on_error, on_warning, &r.failure, png_allocate,
                                     png_release);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    encdiff_status status = r.info ? read_guarded(&r)
                                   : ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no memory to decode the PNG", name);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    ed_free(env, r.rows);
    if (status == ENCDIFF_OK)
        *out = r.image;
    else
        ed_free(env, r.image.rgb);
    return status;
}

/* ---------------------------------------------------------------- writing */

typedef struct writer {
    failure failure;
    ed_sink *sink;
    const uint8_t *rgb;
    size_t height, width;
    int level;
    png_structp png;
    png_infop info;
} writer;

static void write_bytes(png_structp png, png_bytep data, size_t size)
{
    writer *w = png_get_io_ptr(png);
    w->failure.status = ed_sink_write(w->failure.env, w->sink, data, size);
    if (w->failure.status != ENCDIFF_OK) png_error(png, "writing failed");
}

static void flush_bytes(png_structp png) { (void)png; }

static encdiff_status write_guarded(writer *w)
{
    if (setjmp(png_jmpbuf(w->png))) return w->failure.status ? w->failure.status : ENCDIFF_ERROR_INTERNAL;
    png_set_write_fn(w->png, w, write_bytes, flush_bytes);
    png_set_IHDR(w->png, w->info, (png_uint_32)w->width, (png_uint_32)w->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(w->png, w->level);
    png_write_info(w->png, w->info);
    for (size_t y = 0; y < w->height; y++) png_write_row(w->png, w->rgb + y * w->width * 3);
    png_write_end(w->png, NULL);
    return ENCDIFF_OK;
}

static encdiff_status write_png(ed_env *env, const uint8_t *rgb, int height, int width, int level, ed_sink *sink)
{
    writer w = {.failure = {.env = env, .name = sink->path ? sink->path : "PNG"},
                .sink = sink,
                .rgb = rgb,
                .height = (size_t)height,
                .width = (size_t)width,
                .level = level};
    if (height < 1 || width < 1 || level < 0 || level > 9)
        return ed_fail(env, ENCDIFF_ERROR_SHAPE, "a picture of %d x %d pixels cannot be written", width, height);
    w.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &w.failure, on_error, on_warning, &w.failure, png_allocate,
                                      png_release);
    w.info = w.png ? png_create_info_struct(w.png) : NULL;
    encdiff_status status = w.info ? write_guarded(&w)
                                   : ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no memory to write the PNG",
                                             w.failure.name);
    png_destroy_write_struct(&w.png, &w.info);
    return status;
}

encdiff_status ed_png_write(ed_env *env, const char *path, const uint8_t *rgb, int height, int width, int level)
{
    ed_sink sink;
    ED_TRY(ed_sink_open(env, path, &sink));
    encdiff_status status = write_png(env, rgb, height, width, level, &sink);
    if (status == ENCDIFF_OK) return ed_sink_commit(env, &sink);
    ed_sink_discard(env, &sink);
    return status;
}

encdiff_status ed_png_encode(ed_env *env, const uint8_t *rgb, int height, int width, int level, uint8_t **data,
                             size_t *size)
{
    ed_sink sink;
    ed_sink_to_memory(&sink);
    encdiff_status status = write_png(env, rgb, height, width, level, &sink);
    if (status == ENCDIFF_OK)
        ed_sink_take(&sink, data, size);
    else
        ed_sink_discard(env, &sink);
    return status;
}
