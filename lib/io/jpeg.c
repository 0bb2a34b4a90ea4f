/*
 * JPEG through libjpeg, which appears in this file alone. libjpeg reports errors by a callback that may not return, so
 * it jumps back; what must survive lives in a struct that the caller of setjmp holds.
 */
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>
#include <jerror.h>

#include "io/image.h"

#define MOST_SCANS 500 /* of a progressive file; a hostile one has many that each walk the whole picture */

typedef struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    ed_env *env;
    const char *name;
    const uint8_t *data;
    size_t size;
    bool only_size;
    uint8_t *row; /* CMYK */
    ed_image image;
} reader;

static void on_error(j_common_ptr jpeg)
{
    reader *r = jpeg->client_data;
    char message[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, message);
    ed_fail(r->env, jpeg->err->msg_code == JERR_OUT_OF_MEMORY ? ENCDIFF_ERROR_OUT_OF_MEMORY : ENCDIFF_ERROR_FORMAT,
            "%s: damaged JPEG: %s", r->name, message);
    longjmp(r->back, 1);
}

/* A file that ends too early is filled up with grey by libjpeg; here it is an error, other warnings are not. */
static void on_message(j_common_ptr jpeg, int level)
{
    if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) on_error(jpeg);
}

static void on_output(j_common_ptr jpeg) { (void)jpeg; }

static void on_progress(j_common_ptr jpeg)
{
    reader *r = jpeg->client_data;
    if (((j_decompress_ptr)jpeg)->input_scan_number <= MOST_SCANS) return;
    ed_fail(r->env, ENCDIFF_ERROR_FORMAT, "%s: damaged JPEG: more than %d scans", r->name, MOST_SCANS);
    longjmp(r->back, 1);
}

/* Ink c, m, y, k to light: (1 - ink)(1 - k). Adobe stores 255 - ink. */
static void cmyk_to_rgb(const uint8_t *row, int width, bool inverted, uint8_t *out)
{
    for (int x = 0; x < width; x++, row += 4, out += 3) {
        unsigned k = inverted ? row[3] : 255u - row[3];
        for (int c = 0; c < 3; c++) out[c] = (uint8_t)(((inverted ? row[c] : 255u - row[c]) * k + 127) / 255);
    }
}

static encdiff_status read_rows(reader *r)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    size_t width = jpeg->output_width;
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *out = r->image.rgb + jpeg->output_scanline * width * 3;
        JSAMPROW row = r->row ? r->row : out;
        jpeg_read_scanlines(jpeg, &row, 1);
        if (r->row) cmyk_to_rgb(r->row, (int)width, jpeg->saw_Adobe_marker, out);
    }
    jpeg_finish_decompress(jpeg);
    return ENCDIFF_OK;
}

/* Everything that may longjmp. */
static encdiff_status read_guarded(reader *r)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    if (setjmp(r->back)) return r->env->status;
    jpeg_create_decompress(jpeg);
    jpeg->progress = &r->progress;
    jpeg_mem_src(jpeg, r->data, (unsigned long)r->size);
    jpeg_read_header(jpeg, TRUE);
    ED_TRY(ed_image_allocate(r->env, r->name, jpeg->image_height, jpeg->image_width, r->only_size, &r->image));
    if (r->only_size) return ENCDIFF_OK;
    bool cmyk = jpeg->num_components == 4;
    jpeg->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    if (cmyk && !(r->row = ed_alloc(r->env, jpeg->image_width, 4))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    jpeg_start_decompress(jpeg);
    return read_rows(r);
}

encdiff_status ed_jpeg_decode(ed_env *env, const char *name, const uint8_t *data, size_t size, bool only_size,
                              ed_image *out)
{
    reader r = {.env = env, .name = name, .data = data, .size = size, .only_size = only_size};
    *out = (ed_image){0};
    r.jpeg.err = jpeg_std_error(&r.errors);
    r.jpeg.client_data = &r;
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    r.errors.output_message = on_output;
    r.progress.progress_monitor = on_progress;
    encdiff_status status = read_guarded(&r);
    jpeg_destroy_decompress(&r.jpeg);
    ed_free(env, r.row);
    if (status == ENCDIFF_OK)
        *out = r.image;
    else
        ed_free(env, r.image.rgb);
    return status;
}
