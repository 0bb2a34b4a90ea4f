/* What a source names: a procedural set, or a path whose content tells the format; and a range of it. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "data/dataset.h"
#include "io/image.h"

static const char *const formats[] = {"h5", "npz", "npy", "folder", "image"};

/* ---------------------------------------------------------------- range */

typedef struct range {
    bool given;
    int64_t begin, end; /* end -1: to the last image */
} range;

/* Digits, or nothing for `otherwise`. */
static bool parse_bound(const char **p, int64_t otherwise, int64_t *out)
{
    *out = otherwise;
    if (**p < '0' || **p > '9') return true;
    errno = 0;
    char *end;
    long long value = strtoll(*p, &end, 10);
    *p = end;
    *out = value;
    return errno == 0;
}

/* "PATH[begin:end]", either bound may be left out. A file that is really called so is that file. */
static encdiff_status split_range(ed_env *env, const char *source, char **path, range *r)
{
    struct stat info;
    size_t length = strlen(source);
    *r = (range){0};
    if (!(*path = ed_strdup(env, source))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    char *open = length && source[length - 1] == ']' ? strrchr(*path, '[') : NULL;
    if (!open || stat(source, &info) == 0) return ENCDIFF_OK;
    const char *p = open + 1;
    bool good = parse_bound(&p, 0, &r->begin) && *p == ':';
    if (good) p++;
    good = good && parse_bound(&p, -1, &r->end) && strcmp(p, "]") == 0;
    if (!good) {
        ed_free(env, *path);
        *path = NULL;
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "\"%s\": a range is written [begin:end]", source);
    }
    *open = 0;
    r->given = true;
    return ENCDIFF_OK;
}

static encdiff_status apply_range(ed_env *env, const range *r, ed_dataset **dataset)
{
    ed_dataset *whole = *dataset;
    int64_t end = r->end < 0 ? whole->size : r->end;
    *dataset = NULL;
    encdiff_status status;
    if (r->begin >= end || end > whole->size)
        status = ed_fail(env, ENCDIFF_ERROR_SHAPE, "%s: the range [%lld:%lld] is not within its %lld images",
                         whole->name, (long long)r->begin, (long long)end, (long long)whole->size);
    else
        status = ed_dataset_slice(env, whole, r->begin, end, dataset);
    ed_dataset_free(env, whole);
    return status;
}

/* ---------------------------------------------------------------- format */

static encdiff_status detect(ed_env *env, const char *path, const char **format)
{
    struct stat info;
    uint8_t head[8] = {0};
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        *format = "folder";
        return ENCDIFF_OK;
    }
    ed_source source;
    ED_TRY(ed_source_open(env, path, &source));
    size_t n = (size_t)ED_MIN(source.size, (uint64_t)sizeof head);
    encdiff_status status = ed_source_read(env, &source, 0, head, n);
    ed_source_close(env, &source);
    if (status != ENCDIFF_OK) return status;
    if (memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0)
        *format = "h5";
    else if (memcmp(head, "\x93NUMPY", 6) == 0)
        *format = "npy";
    else if (memcmp(head, "PK", 2) == 0)
        *format = "npz";
    else if (ed_image_kind_of(head, n) != ED_IMAGE_UNKNOWN)
        *format = "image";
    else
        return ed_fail(env, ENCDIFF_ERROR_FORMAT,
                       "%s: not a format that holds images (HDF5, .npy, .npz, PNG, JPEG, or a folder of pictures)%s",
                       path, n < 8 ? "; the file is nearly empty" : "");
    return ENCDIFF_OK;
}

static encdiff_status open_format(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    const char *format = options->format;
    if (strcmp(format, "h5") == 0 || strcmp(format, "3dshapes.h5") == 0) return ed_h5_open(env, path, options, out);
    if (strcmp(format, "npy") == 0 || strcmp(format, "npz") == 0) return ed_npy_dataset_open(env, path, options, out);
    if (strcmp(format, "folder") == 0 || strcmp(format, "image") == 0) return ed_folder_open(env, path, options, out);
    return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "\"%s\" is not a dataset format: %s, %s, %s, %s, %s", format,
                   formats[0], formats[1], formats[2], formats[3], formats[4]);
}

static encdiff_status open_path(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_dataset_options chosen = *options;
    struct stat info;
    if (stat(path, &info) != 0)
        return ed_fail(env, errno == ENOENT || errno == ENOTDIR ? ENCDIFF_ERROR_NOT_FOUND : ENCDIFF_ERROR_IO, "%s: %s",
                       path, strerror(errno));
    if (!chosen.format) ED_TRY(detect(env, path, &chosen.format));
    return open_format(env, path, &chosen, out);
}

static encdiff_status open_procedural(ed_env *env, const char *name, ed_dataset **out)
{
    if (strcmp(name, "shapes3d") == 0) return ed_shapes3d_open(env, out);
    return ed_fail(env, ENCDIFF_ERROR_NOT_FOUND, "there is no procedural set \"%s\", there is: shapes3d", name);
}

static encdiff_status open_whole(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    static const char prefix[] = "procedural:";
    if (strncmp(path, prefix, sizeof prefix - 1) == 0)
        ED_TRY(open_procedural(env, path + sizeof prefix - 1, out));
    else
        ED_TRY(open_path(env, path, options, out));
    int height = options->height ? options->height : options->width;
    int width = options->width ? options->width : options->height;
    if (!height || (height == (*out)->height && width == (*out)->width)) return ENCDIFF_OK;
    return ed_resized_open(env, *out, options, out);
}

encdiff_status ed_dataset_open(ed_env *env, const char *source, const ed_dataset_options *options, ed_dataset **out)
{
    static const ed_dataset_options defaults = {0};
    char *path;
    range r;
    *out = NULL;
    if (!options) options = &defaults;
    if (options->height < 0 || options->width < 0 || options->height > ED_IMAGE_MAX_SIDE ||
        options->width > ED_IMAGE_MAX_SIDE)
        return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "images cannot be resized to %d x %d", options->width,
                       options->height);
    ED_TRY(split_range(env, source, &path, &r));
    encdiff_status status = open_whole(env, path, options, out);
    if (status == ENCDIFF_OK && r.given) status = apply_range(env, &r, out);
    ed_free(env, path);
    return status;
}

encdiff_status ed_dataset_save(ed_env *env, ed_dataset *dataset, const char *path, int level, ed_data_progress progress,
                               void *user)
{
    if (level > 9) return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "compression %d is not in [0, 9]", level);
    if (ed_ends_with(path, ".h5") || ed_ends_with(path, ".hdf5"))
        return ed_h5_save(env, dataset, path, level, progress, user);
    if (ed_ends_with(path, ".npz")) return ed_npz_save(env, dataset, path, level, progress, user);
    return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "%s: datasets are written as .h5 or .npz", path);
}
