/*
 * A folder of PNG and JPEG files, with its subfolders, in the order of their paths; or one such file. Pictures are
 * decoded when asked for, cropped and resized as Pillow's bicubic does, and kept in a cache of a limited size.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "data/dataset.h"
#include "io/image.h"
#include "io/resize.h"

#define CACHE_DEFAULT ((uint64_t)64 << 20)
enum {
    DEEPEST = 32,        /* folders in folders */
    MOST_CHECKED = 4096, /* pictures whose size is looked at on opening; of larger folders, when they are read */
};

typedef struct folder {
    ed_dataset base;
    char **paths;
    size_t count, capacity;
    bool resizes, crops;
    pthread_mutex_t lock; /* of the cache */
    bool has_lock;
    int64_t slots;   /* image i may be in slot i % slots */
    int64_t *holds;  /* [slots], the image in it, or -1 */
    uint8_t *pixels; /* [slots][h][w][3] */
} folder;

/* ---------------------------------------------------------------- finding the files */

static bool is_picture(const char *name)
{
    return ed_ends_with(name, ".png") || ed_ends_with(name, ".jpg") || ed_ends_with(name, ".jpeg");
}

static encdiff_status add_path(ed_env *env, folder *f, char *path)
{
    encdiff_status status = ed_reserve(env, &f->paths, &f->capacity, f->count + 1, sizeof(char *));
    if (status == ENCDIFF_OK)
        f->paths[f->count++] = path;
    else
        ed_free(env, path);
    return status;
}

static encdiff_status walk(ed_env *env, folder *f, const char *path, int depth);

/* Links to files are followed, links to folders are not: they could lead back. */
static encdiff_status visit(ed_env *env, folder *f, const char *parent, const char *name, int depth)
{
    struct stat info;
    if (name[0] == '.') return ENCDIFF_OK;
    char *path = ed_format(env, "%s/%s", parent, name);
    if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (is_picture(name) && stat(path, &info) == 0 && S_ISREG(info.st_mode)) return add_path(env, f, path);
    encdiff_status status = ENCDIFF_OK;
    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode)) status = walk(env, f, path, depth + 1);
    ed_free(env, path);
    return status;
}

static encdiff_status walk(ed_env *env, folder *f, const char *path, int depth)
{
    if (depth > DEEPEST) return ed_fail(env, ENCDIFF_ERROR_IO, "%s: folders are nested too deeply", path);
    DIR *directory = opendir(path);
    if (!directory) return ed_fail(env, ENCDIFF_ERROR_IO, "%s: %s", path, strerror(errno));
    encdiff_status status = ENCDIFF_OK;
    for (struct dirent *entry; status == ENCDIFF_OK && (entry = readdir(directory));) {
        status = visit(env, f, path, entry->d_name, depth);
        if (status == ENCDIFF_OK) status = ed_check_cancel(env);
    }
    closedir(directory);
    return status;
}

static int compare_paths(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static encdiff_status find_files(ed_env *env, folder *f, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return ed_fail(env, errno == ENOENT ? ENCDIFF_ERROR_NOT_FOUND : ENCDIFF_ERROR_IO, "%s: %s", path,
                       strerror(errno));
    if (!S_ISDIR(info.st_mode)) {
        char *copy = ed_strdup(env, path);
        return copy ? add_path(env, f, copy) : ENCDIFF_ERROR_OUT_OF_MEMORY;
    }
    ED_TRY(walk(env, f, path, 0));
    if (!f->count) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no .png, .jpg or .jpeg files are in it", path);
    qsort(f->paths, f->count, sizeof *f->paths, compare_paths);
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- sizes */

static encdiff_status check_size(ed_env *env, const folder *f, int64_t index, const ed_image *image)
{
    if (f->resizes || (image->height == f->base.height && image->width == f->base.width)) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_SHAPE,
                   "%s: %d x %d pixels, but the first picture has %d x %d; give a size to "
                   "resize all to",
                   f->paths[index], image->width, image->height, f->base.width, f->base.height);
}

static encdiff_status set_size(ed_env *env, folder *f, const ed_dataset_options *options)
{
    ed_image image;
    f->base.size = (int64_t)f->count;
    f->resizes = options->height || options->width;
    f->crops = options->crop;
    f->base.height = options->height ? options->height : options->width;
    f->base.width = options->width ? options->width : options->height;
    if (f->resizes) return ENCDIFF_OK;
    ED_TRY(ed_image_read_size(env, f->paths[0], &image));
    f->base.height = image.height;
    f->base.width = image.width;
    for (int64_t i = 1; i < f->base.size && i < MOST_CHECKED; i++) {
        ED_TRY(ed_image_read_size(env, f->paths[i], &image));
        ED_TRY(check_size(env, f, i, &image));
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- reading */

static size_t image_bytes(const ed_dataset *base) { return (size_t)base->height * (size_t)base->width * 3; }

static encdiff_status fit(ed_env *env, const folder *f, const ed_image *image, uint8_t *out)
{
    ed_window window = {
        .rgb = image->rgb, .stride = (size_t)image->width, .height = image->height, .width = image->width};
    if (f->crops) window = ed_crop_centre(image->rgb, image->height, image->width, f->base.height, f->base.width);
    return ed_resize(env, &window, ED_FILTER_BICUBIC, f->base.height, f->base.width, out);
}

static encdiff_status decode(ed_env *env, const folder *f, int64_t index, uint8_t *out)
{
    ed_image image;
    ED_TRY(ed_image_read(env, f->paths[index], &image));
    encdiff_status status = check_size(env, f, index, &image);
    if (status == ENCDIFF_OK) status = fit(env, f, &image, out);
    ed_free(env, image.rgb);
    return status;
}

static bool look_up(folder *f, int64_t index, uint8_t *out)
{
    if (!f->slots) return false;
    size_t bytes = image_bytes(&f->base);
    int64_t slot = index % f->slots;
    pthread_mutex_lock(&f->lock);
    bool found = f->holds[slot] == index;
    if (found) memcpy(out, f->pixels + (size_t)slot * bytes, bytes);
    pthread_mutex_unlock(&f->lock);
    return found;
}

static void keep(folder *f, int64_t index, const uint8_t *pixels)
{
    if (!f->slots) return;
    size_t bytes = image_bytes(&f->base);
    int64_t slot = index % f->slots;
    pthread_mutex_lock(&f->lock);
    f->holds[slot] = index;
    memcpy(f->pixels + (size_t)slot * bytes, pixels, bytes);
    pthread_mutex_unlock(&f->lock);
}

static encdiff_status folder_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    folder *f = (folder *)dataset;
    for (int64_t i = 0; i < n; i++, out += image_bytes(dataset)) {
        if (look_up(f, indices[i], out)) continue;
        ED_TRY(decode(env, f, indices[i], out));
        keep(f, indices[i], out);
        ED_TRY(ed_check_cancel(env));
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- life */

static void folder_close(ed_env *env, ed_dataset *dataset)
{
    folder *f = (folder *)dataset;
    for (size_t i = 0; i < f->count; i++) ed_free(env, f->paths[i]);
    ed_free(env, f->paths);
    ed_free(env, f->holds);
    ed_free(env, f->pixels);
    if (f->has_lock) pthread_mutex_destroy(&f->lock);
}

static const ed_dataset_class folder_class = {.read = folder_read, .close = folder_close};

static encdiff_status make_cache(ed_env *env, folder *f, uint64_t bytes)
{
    uint64_t slots = (bytes ? bytes : CACHE_DEFAULT) / image_bytes(&f->base);
    f->has_lock = pthread_mutex_init(&f->lock, NULL) == 0;
    if (!f->has_lock) return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "no mutex for the picture cache");
    slots = ED_MIN(slots, (uint64_t)f->base.size);
    if (!slots) return ENCDIFF_OK;
    if (!(f->holds = ed_alloc(env, slots, sizeof *f->holds)) ||
        !(f->pixels = ed_alloc_raw(env, slots * image_bytes(&f->base))))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (uint64_t i = 0; i < slots; i++) f->holds[i] = -1;
    f->slots = (int64_t)slots;
    return ENCDIFF_OK;
}

/* "pictures" of "data/pictures/"; the whole path where nothing is left. */
static encdiff_status base_name(ed_env *env, const char *path, char **out)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    *out = begin < end ? ed_format(env, "%.*s", (int)ED_MIN(end - begin, (size_t)4096), path + begin)
                       : ed_strdup(env, path);
    return *out ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
}

encdiff_status ed_folder_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_dataset *base;
    char *name;
    bool single = options->format && strcmp(options->format, "image") == 0;
    *out = NULL;
    ED_TRY(base_name(env, path, &name));
    encdiff_status status = ed_dataset_create(env, sizeof(folder), &folder_class, name, single ? "image" : "folder",
                                              &base);
    ed_free(env, name);
    if (status != ENCDIFF_OK) return status;
    folder *f = (folder *)base;
    status = find_files(env, f, path);
    if (status == ENCDIFF_OK) status = set_size(env, f, options);
    if (status == ENCDIFF_OK) status = make_cache(env, f, options->cache_bytes);
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}
