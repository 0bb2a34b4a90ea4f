/*
 * SmallNORB (LeCun et al. 2004): a folder with the files smallnorb-5x...-training-dat.mat, -cat.mat, -info.mat and the
 * same of -testing-. Each is a matrix of its own format, nothing of MATLAB's:
 *
 *   magic  int32: 0x1E3D4C55 for bytes, 0x1E3D4C54 for int32       rank  int32       sizes  int32[max(rank, 3)] data
 *
 *   dat   u8 [n][2][96][96]: two cameras, of which the first is read, grey
 *   cat   int32 [n]: category 0 .. 4
 *   info  int32 [n][4]: instance 0 .. 9, elevation 0 .. 8, azimuth 0, 2 .. 34, lighting 0 .. 5
 *
 * Training before testing; each is a split. Together they have every combination of the five factors once.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdio.h>

#include "data/dataset.h"
#include "io/image.h"
#include "io/pixels.h"

enum { BYTES = 0x1E3D4C55, INTEGERS = 0x1E3D4C54, MOST_SIZES = 4, PARTS = 2, FACTORS = 5, COLUMNS = 4 };

typedef struct matrix {
    ed_source source;
    int32_t rank;
    int64_t dim[MOST_SIZES];
    uint64_t offset; /* of the data */
} matrix;

typedef struct norb {
    ed_dataset base;
    matrix part[PARTS];
    int64_t first[PARTS + 1]; /* images of part p: first[p] .. first[p + 1] - 1 */
} norb;

static const char *const part_names[PARTS] = {"training", "testing"};
static const char *const factor_names[FACTORS] = {"category", "instance", "elevation", "azimuth", "lighting"};
static const int32_t factor_sizes[FACTORS] = {5, 10, 9, 18, 6};

/* ---------------------------------------------------------------- files */

/* "FOLDER/smallnorb-...-PART-KIND.mat"; *out is NULL where there is none. */
static encdiff_status find_file(ed_env *env, const char *folder, const char *part, const char *kind, char **out)
{
    char end[32];
    size_t length = (size_t)snprintf(end, sizeof end, "-%s-%s.mat", part, kind);
    encdiff_status status = ENCDIFF_OK;
    *out = NULL;
    DIR *directory = opendir(folder);
    if (!directory) return ed_fail(env, ENCDIFF_ERROR_IO, "%s: %s", folder, strerror(errno));
    for (struct dirent *e; !*out && status == ENCDIFF_OK && (e = readdir(directory));) {
        size_t n = strlen(e->d_name);
        if (strncmp(e->d_name, "smallnorb-", 10) != 0 || n < length || strcmp(e->d_name + n - length, end) != 0)
            continue;
        if (!(*out = ed_format(env, "%s/%s", folder, e->d_name))) status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    closedir(directory);
    return status;
}

encdiff_status ed_smallnorb_is(ed_env *env, const char *folder, bool *found)
{
    *found = false;
    for (int part = 0; part < PARTS && !*found; part++) {
        char *path;
        ED_TRY(find_file(env, folder, part_names[part], "dat", &path));
        *found = path != NULL;
        ed_free(env, path);
    }
    return ENCDIFF_OK;
}

static encdiff_status read_head(ed_env *env, const char *path, int32_t magic, int32_t rank, matrix *m)
{
    int32_t head[2 + MOST_SIZES];
    int sizes = ED_MAX((int)rank, 3);
    size_t item = magic == BYTES ? 1 : 4, bytes = item;
    ED_TRY(ed_source_open(env, path, &m->source));
    m->offset = sizeof head[0] * (size_t)(2 + sizes);
    ED_TRY(ed_source_read(env, &m->source, 0, head, (size_t)m->offset));
    if (head[0] != magic || head[1] != rank)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: not a matrix of %s with %d sizes (magic %#x, %d sizes)", path,
                       magic == BYTES ? "bytes" : "integers", rank, (unsigned)head[0], head[1]);
    m->rank = rank;
    for (int i = 0; i < rank; i++) {
        m->dim[i] = head[2 + i];
        if (m->dim[i] < 1 || !ed_mul(bytes, (size_t)m->dim[i], &bytes))
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: size %d is %d", path, i, head[2 + i]);
    }
    if (bytes > m->source.size - m->offset)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: truncated: its sizes need %zu bytes, there are %llu", path,
                       bytes, (unsigned long long)(m->source.size - m->offset));
    return ENCDIFF_OK;
}

/* On failure the source may be open; closing a zeroed or an open one is all there is to do. */
static encdiff_status open_matrix(ed_env *env, const char *folder, int part, const char *kind, int32_t magic,
                                  int32_t rank, matrix *m)
{
    char *path;
    *m = (matrix){0};
    ED_TRY(find_file(env, folder, part_names[part], kind, &path));
    if (!path)
        return ed_fail(env, ENCDIFF_ERROR_NOT_FOUND, "%s: no smallnorb-...-%s-%s.mat is in it", folder,
                       part_names[part], kind);
    encdiff_status status = read_head(env, path, magic, rank, m);
    ed_free(env, path);
    return status;
}

/* ---------------------------------------------------------------- labels */

static encdiff_status check_label(ed_env *env, const char *file, int64_t image, int factor, int32_t value, int32_t *out)
{
    bool azimuth = factor == 3;
    *out = azimuth ? value / 2 : value;
    if (value >= 0 && *out < factor_sizes[factor] && !(azimuth && value % 2)) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %s of image %lld is %d", file, factor_names[factor],
                   (long long)image, value);
}

static encdiff_status read_part_labels(ed_env *env, const matrix *category, const matrix *info, int64_t n, int32_t *out)
{
    for (int64_t i = 0; i < n; i++, out += FACTORS) {
        int32_t row[FACTORS];
        ED_TRY(ed_source_read(env, &category->source, category->offset + (uint64_t)i * 4, row, 4));
        ED_TRY(ed_source_read(env, &info->source, info->offset + (uint64_t)i * 4 * COLUMNS, row + 1, 4 * COLUMNS));
        ED_TRY(check_label(env, category->source.name, i, 0, row[0], &out[0]));
        for (int f = 1; f < FACTORS; f++) ED_TRY(check_label(env, info->source.name, i, f, row[f], &out[f]));
    }
    return ENCDIFF_OK;
}

static encdiff_status open_labels(ed_env *env, const char *folder, int part, int64_t n, int32_t *out)
{
    matrix category, info = {0};
    encdiff_status status = open_matrix(env, folder, part, "cat", INTEGERS, 1, &category);
    if (status == ENCDIFF_OK) status = open_matrix(env, folder, part, "info", INTEGERS, 2, &info);
    if (status == ENCDIFF_OK && (category.dim[0] != n || info.dim[0] != n || info.dim[1] != COLUMNS))
        status = ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: [%lld, %lld] and [%lld] labels of %lld images",
                         info.source.name, (long long)info.dim[0], (long long)info.dim[1], (long long)category.dim[0],
                         (long long)n);
    if (status == ENCDIFF_OK) status = read_part_labels(env, &category, &info, n, out);
    ed_source_close(env, &category.source);
    ed_source_close(env, &info.source);
    return status;
}

/* ---------------------------------------------------------------- images */

static encdiff_status norb_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    const norb *d = (const norb *)dataset;
    size_t pixels = (size_t)dataset->height * (size_t)dataset->width;
    for (int64_t i = 0; i < n; i++, out += 3 * pixels) {
        int part = indices[i] >= d->first[1];
        const matrix *m = &d->part[part];
        uint64_t pair = (uint64_t)(indices[i] - d->first[part]) * 2 * pixels;
        ED_TRY(ed_source_read(env, &m->source, m->offset + pair, out + 2 * pixels, pixels));
        ed_pixels_spread_grey(out, pixels);
    }
    return ed_check_cancel(env);
}

static void norb_close(ed_env *env, ed_dataset *dataset)
{
    norb *d = (norb *)dataset;
    for (int part = 0; part < PARTS; part++) ed_source_close(env, &d->part[part].source);
}

static const ed_dataset_class norb_class = {.read = norb_read, .close = norb_close};

/* ---------------------------------------------------------------- opening */

static encdiff_status open_part(ed_env *env, const char *folder, int part, norb *d)
{
    matrix *m = &d->part[part];
    ED_TRY(open_matrix(env, folder, part, "dat", BYTES, 4, m));
    bool same = !d->base.height || (m->dim[2] == d->base.height && m->dim[3] == d->base.width);
    if (m->dim[1] != 2 || m->dim[2] > ED_IMAGE_MAX_SIDE || m->dim[3] > ED_IMAGE_MAX_SIDE || !same)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: [%lld, %lld, %lld, %lld] is not [images, 2, height, width]%s",
                       m->source.name, (long long)m->dim[0], (long long)m->dim[1], (long long)m->dim[2],
                       (long long)m->dim[3], same ? "" : " of the other part's size");
    d->base.height = (int)m->dim[2];
    d->base.width = (int)m->dim[3];
    return ENCDIFF_OK;
}

static encdiff_status open_parts(ed_env *env, const char *folder, ed_split split, norb *d)
{
    for (int part = 0; part < PARTS; part++) {
        d->first[part + 1] = d->first[part];
        if (split == (part ? ED_SPLIT_TRAIN : ED_SPLIT_TEST)) continue;
        ED_TRY(open_part(env, folder, part, d));
        d->first[part + 1] += d->part[part].dim[0];
    }
    d->base.size = d->first[PARTS];
    d->base.grey = d->base.splits = true;
    ED_TRY(ed_dataset_set_factors(env, &d->base, FACTORS, factor_names, factor_sizes));
    if (!(d->base.labels = ed_alloc(env, (size_t)d->base.size, FACTORS * sizeof(int32_t))))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int part = 0; part < PARTS; part++)
        if (d->first[part + 1] > d->first[part])
            ED_TRY(open_labels(env, folder, part, d->part[part].dim[0], d->base.labels + d->first[part] * FACTORS));
    return ed_dataset_examine(env, &d->base);
}

encdiff_status ed_smallnorb_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_dataset *base = NULL;
    ed_split split;
    *out = NULL;
    ED_TRY(ed_split_parse(env, options->split, &split));
    if (split == ED_SPLIT_VALID)
        return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: SmallNORB has no split \"valid\"", path);
    ED_TRY(ed_dataset_create(env, sizeof(norb), &norb_class, "smallnorb", "smallnorb", &base));
    encdiff_status status = open_parts(env, path, split, (norb *)base);
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}
