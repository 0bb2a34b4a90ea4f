/* Which decoder reads a picture, and the limits of size. */
#include "io/image.h"

ed_image_kind ed_image_kind_of(const uint8_t *data, size_t size)
{
    if (size >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0) return ED_IMAGE_PNG;
    if (size >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0) return ED_IMAGE_JPEG;
    return ED_IMAGE_UNKNOWN;
}

encdiff_status ed_image_allocate(ed_env *env, const char *name, uint64_t height, uint64_t width, bool only_size,
                                 ed_image *out)
{
    if (height < 1 || width < 1 || height > ED_IMAGE_MAX_SIDE || width > ED_IMAGE_MAX_SIDE ||
        height * width > ED_IMAGE_MAX_PIXELS)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: a picture of %llu x %llu pixels is not read", name,
                       (unsigned long long)width, (unsigned long long)height);
    out->height = (int)height;
    out->width = (int)width;
    if (only_size) return ENCDIFF_OK;
    out->rgb = ed_alloc_raw(env, (size_t)(height * width) * 3);
    return out->rgb ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

static encdiff_status decode(ed_env *env, const char *name, const uint8_t *data, size_t size, bool only_size,
                             ed_image *out)
{
    *out = (ed_image){0};
    switch (ed_image_kind_of(data, size)) {
    case ED_IMAGE_PNG: return ed_png_decode(env, name, data, size, only_size, out);
    case ED_IMAGE_JPEG: return ed_jpeg_decode(env, name, data, size, only_size, out);
    case ED_IMAGE_UNKNOWN: break;
    }
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: neither PNG nor JPEG", name);
}

encdiff_status ed_image_decode(ed_env *env, const char *name, const uint8_t *data, size_t size, ed_image *out)
{
    return decode(env, name, data, size, false, out);
}

encdiff_status ed_image_read(ed_env *env, const char *path, ed_image *out)
{
    char *data;
    size_t size;
    *out = (ed_image){0};
    ED_TRY(ed_read_file(env, path, ED_IMAGE_MAX_FILE, &data, &size));
    encdiff_status status = decode(env, path, (const uint8_t *)data, size, false, out);
    ed_free(env, data);
    return status;
}

/* The size stands within the first bytes of a PNG; in a JPEG after any number of segments, so a second try has it all.
 */
encdiff_status ed_image_read_size(ed_env *env, const char *path, ed_image *out)
{
    uint8_t head[4096];
    ed_source source;
    *out = (ed_image){0};
    ED_TRY(ed_source_open(env, path, &source));
    size_t n = (size_t)ED_MIN(source.size, (uint64_t)sizeof head);
    encdiff_status status = ed_source_read(env, &source, 0, head, n);
    if (status == ENCDIFF_OK) status = decode(env, path, head, n, true, out);
    bool again = status == ENCDIFF_ERROR_FORMAT && n < source.size && ed_image_kind_of(head, n) == ED_IMAGE_JPEG;
    ed_source_close(env, &source);
    if (!again) return status;
    char *data;
    size_t size;
    ED_TRY(ed_read_file(env, path, ED_IMAGE_MAX_FILE, &data, &size));
    status = decode(env, path, (const uint8_t *)data, size, true, out);
    ed_free(env, data);
    return status;
}
