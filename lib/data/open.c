/* What a source names: a procedural set, or a path whose content tells the format; and a range of it. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "data/celeba.h"
#include "data/source.h"
#include "io/image.h"

/* ---------------------------------------------------------------- format */

typedef encdiff_status opener(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out);

static const struct {
    const char *name;
    opener *open;
} formats[] = {
    {"h5", ed_h5_open},
    {"3dshapes.h5", ed_h5_open},
    {"npz", ed_npz_open},
    {"dsprites", ed_npz_open},
    {"mpi3d", ed_npz_open},
    {"npy", ed_npy_dataset_open},
    {"image", ed_folder_open},
    {"folder", ed_folder_open},
    {"csv", ed_listed_open},
    {"celeba", ed_celeba_open},
    {"cars3d", ed_cars3d_open},
    {"lmdb", ed_lmdb_open},
    {"smallnorb", ed_smallnorb_open},
};

static bool has_file(ed_env *env, const char *folder, const char *name)
{
    struct stat info;
    char *path = ed_format(env, "%s/%s", folder, name);
    bool found = path && stat(path, &info) == 0 && S_ISREG(info.st_mode);
    ed_free(env, path);
    return found;
}

static encdiff_status detect_folder(ed_env *env, const char *path, const char **format)
{
    char *list;
    bool norb;
    ED_TRY(ed_smallnorb_is(env, path, &norb));
    ED_TRY(ed_celeba_find_list(env, path, &list));
    *format = has_file(env, path, "data.mdb")      ? "lmdb"
              : list                               ? "celeba"
              : has_file(env, path, "factors.csv") ? "csv"
              : norb                               ? "smallnorb"
              : ed_cars3d_is(path)                 ? "cars3d"
                                                   : "folder";
    ed_free(env, list);
    return ENCDIFF_OK;
}

static encdiff_status detect_file(ed_env *env, const char *path, const char **format)
{
    uint8_t head[20] = {0};
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
    else if (n == sizeof head && memcmp(head + 16, "\xDE\xC0\xEF\xBE", 4) == 0)
        *format = "lmdb";
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
    char known[256] = "";
    for (size_t i = 0; i < ED_COUNT(formats); i++)
        if (strcmp(options->format, formats[i].name) == 0) return formats[i].open(env, path, options, out);
    for (size_t i = 0; i < ED_COUNT(formats); i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", formats[i].name);
    return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "\"%s\" is not a dataset format: %s", options->format, known);
}

static encdiff_status open_path(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_dataset_options chosen = *options;
    struct stat info;
    if (stat(path, &info) != 0)
        return ed_fail(env, errno == ENOENT || errno == ENOTDIR ? ENCDIFF_ERROR_NOT_FOUND : ENCDIFF_ERROR_IO, "%s: %s",
                       path, strerror(errno));
    if (!chosen.format)
        ED_TRY(S_ISDIR(info.st_mode) ? detect_folder(env, path, &chosen.format)
                                     : detect_file(env, path, &chosen.format));
    return open_format(env, path, &chosen, out);
}

static encdiff_status open_procedural(ed_env *env, const char *name, ed_dataset **out)
{
    if (strcmp(name, "shapes3d") == 0) return ed_shapes3d_open(env, out);
    if (strcmp(name, "dsprites") == 0) return ed_dsprites_open(env, out);
    return ed_fail(env, ENCDIFF_ERROR_NOT_FOUND, "there is no procedural set \"%s\", there are: shapes3d, dsprites",
                   name);
}

/* ---------------------------------------------------------------- options that hold for all formats */

encdiff_status ed_split_parse(ed_env *env, const char *name, ed_split *out)
{
    static const struct {
        const char *name;
        ed_split split;
    } known[] = {{"all", ED_SPLIT_ALL},     {"train", ED_SPLIT_TRAIN}, {"valid", ED_SPLIT_VALID},
                 {"val", ED_SPLIT_VALID},   {"test", ED_SPLIT_TEST},   {"training", ED_SPLIT_TRAIN},
                 {"testing", ED_SPLIT_TEST}};
    *out = ED_SPLIT_ALL;
    if (!name) return ENCDIFF_OK;
    for (size_t i = 0; i < ED_COUNT(known); i++)
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].split;
            return ENCDIFF_OK;
        }
    return ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "\"%s\" is not a split: all, train, valid, test", name);
}

/* What the format has not done itself. Takes *dataset, which is NULL after a failure. */
static encdiff_status apply_options(ed_env *env, const ed_fit *fit, ed_split split, ed_dataset **dataset)
{
    ed_dataset *whole = *dataset;
    if (split != ED_SPLIT_ALL && !whole->splits) {
        encdiff_status status = ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s has no published split", whole->name);
        ed_dataset_free(env, whole);
        *dataset = NULL;
        return status;
    }
    bool same = fit->crop == ED_CROP_NONE &&
                (!fit->height || (fit->height == whole->height && fit->width == whole->width));
    return same || whole->fitted ? ENCDIFF_OK : ed_resized_open(env, whole, fit, dataset);
}

static encdiff_status open_whole(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    static const char prefix[] = "procedural:";
    ed_fit fit;
    ed_split split;
    ED_TRY(ed_fit_parse(env, options, &fit));
    ED_TRY(ed_split_parse(env, options->split, &split));
    if (strncmp(path, prefix, sizeof prefix - 1) == 0)
        ED_TRY(open_procedural(env, path + sizeof prefix - 1, out));
    else
        ED_TRY(open_path(env, path, options, out));
    return apply_options(env, &fit, split, out);
}

static encdiff_status apply_range(ed_env *env, const ed_source_text *r, ed_dataset **dataset)
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

encdiff_status ed_dataset_open(ed_env *env, const char *source, const ed_dataset_options *options, ed_dataset **out)
{
    ed_source_text text;
    *out = NULL;
    ED_TRY(ed_source_parse(env, source, options, &text));
    const ed_dataset_options *o = &text.options;
    encdiff_status status = ENCDIFF_OK;
    if (o->height < 0 || o->width < 0 || o->height > ED_IMAGE_MAX_SIDE || o->width > ED_IMAGE_MAX_SIDE)
        status = ed_fail(env, ENCDIFF_ERROR_ARGUMENT, "images cannot be resized to %d x %d", o->width, o->height);
    if (status == ENCDIFF_OK) status = open_whole(env, text.path, o, out);
    if (status == ENCDIFF_OK && text.ranged) status = apply_range(env, &text, out);
    ed_free(env, text.path);
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
