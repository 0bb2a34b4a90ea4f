/* Decoding, fitting and caching of pictures, and pictures that are files. */
#include "data/pictures.h"

#define CACHE_DEFAULT ((uint64_t)64 << 20)
enum { MOST_CHECKED = 4096 }; /* pictures whose size is looked at on opening; of larger sets, when they are read */

typedef struct pictures {
    ed_dataset base;
    ed_picture_store store;
    ed_fit fit;
    bool any_size;        /* every picture is brought to the size of the set */
    ed_scratch_pool pool; /* also guards the cache */
    int64_t slots;        /* image i may be in slot i % slots */
    int64_t *holds;       /* [slots], the image in it, or -1 */
    uint8_t *pixels;      /* [slots][h][w][3] */
} pictures;

/* ---------------------------------------------------------------- sizes */

static encdiff_status check_size(ed_env *env, const pictures *p, int64_t index, const ed_image *image)
{
    int height, width;
    char text[256];
    ed_fit_size(&p->fit, image->height, image->width, &height, &width);
    if (p->any_size || (height == p->base.height && width == p->base.width)) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_SHAPE,
                   "%s: %d x %d pixels, but the first picture has %d x %d; give a size to resize all to",
                   p->store.name(p->store.self, index, text), width, height, p->base.width, p->base.height);
}

static encdiff_status set_size(ed_env *env, pictures *p)
{
    ed_image image;
    p->base.size = p->store.count;
    p->any_size = p->fit.height || p->fit.crop == ED_CROP_D2C;
    ed_fit_size(&p->fit, 0, 0, &p->base.height, &p->base.width);
    if (p->any_size) return ENCDIFF_OK;
    ED_TRY(p->store.measure(env, p->store.self, 0, &image));
    ed_fit_size(&p->fit, image.height, image.width, &p->base.height, &p->base.width);
    for (int64_t i = 1; i < p->base.size && i < MOST_CHECKED; i++) {
        ED_TRY(p->store.measure(env, p->store.self, i, &image));
        ED_TRY(check_size(env, p, i, &image));
        ED_TRY(ed_check_cancel(env));
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- reading */

static size_t image_bytes(const ed_dataset *base) { return (size_t)base->height * (size_t)base->width * 3; }

static encdiff_status fit_image(ed_env *env, pictures *p, const char *name, const ed_image *image, uint8_t *out)
{
    ed_window window;
    ed_scratch *scratch;
    ED_TRY(ed_fit_window(env, name, &p->fit, image->rgb, image->height, image->width, &window));
    ED_TRY(ed_scratch_take(env, &p->pool, &scratch));
    encdiff_status status = ed_resizer_prepare(env, &scratch->resizer, window.height, window.width, p->fit.filter,
                                               p->base.height, p->base.width);
    if (status == ENCDIFF_OK) ed_resizer_run(&scratch->resizer, &window, out);
    ed_scratch_give(&p->pool, scratch);
    return status;
}

static encdiff_status decode(ed_env *env, pictures *p, int64_t index, uint8_t *out)
{
    char text[256];
    const char *name = p->store.name(p->store.self, index, text);
    ed_image image = {0};
    uint8_t *data;
    size_t size;
    ED_TRY(p->store.fetch(env, p->store.self, index, &data, &size));
    encdiff_status status = ed_image_decode(env, name, data, size, &image);
    ed_free(env, data);
    if (status == ENCDIFF_OK) status = check_size(env, p, index, &image);
    if (status == ENCDIFF_OK) status = fit_image(env, p, name, &image, out);
    ed_free(env, image.rgb);
    return status;
}

static bool look_up(pictures *p, int64_t index, uint8_t *out)
{
    if (!p->slots) return false;
    size_t bytes = image_bytes(&p->base);
    int64_t slot = index % p->slots;
    pthread_mutex_lock(&p->pool.lock);
    bool found = p->holds[slot] == index;
    if (found) memcpy(out, p->pixels + (size_t)slot * bytes, bytes);
    pthread_mutex_unlock(&p->pool.lock);
    return found;
}

static void keep(pictures *p, int64_t index, const uint8_t *pixels)
{
    if (!p->slots) return;
    size_t bytes = image_bytes(&p->base);
    int64_t slot = index % p->slots;
    pthread_mutex_lock(&p->pool.lock);
    p->holds[slot] = index;
    memcpy(p->pixels + (size_t)slot * bytes, pixels, bytes);
    pthread_mutex_unlock(&p->pool.lock);
}

static encdiff_status pictures_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    pictures *p = (pictures *)dataset;
    for (int64_t i = 0; i < n; i++, out += image_bytes(dataset)) {
        if (look_up(p, indices[i], out)) continue;
        ED_TRY(decode(env, p, indices[i], out));
        keep(p, indices[i], out);
        ED_TRY(ed_check_cancel(env));
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- life */

static void pictures_close(ed_env *env, ed_dataset *dataset)
{
    pictures *p = (pictures *)dataset;
    p->store.close(env, p->store.self);
    ed_free(env, p->holds);
    ed_free(env, p->pixels);
    ed_scratch_pool_close(env, &p->pool);
}

static const ed_dataset_class pictures_class = {.read = pictures_read, .close = pictures_close};

static encdiff_status make_cache(ed_env *env, pictures *p, uint64_t bytes)
{
    uint64_t slots = (bytes ? bytes : CACHE_DEFAULT) / image_bytes(&p->base);
    ED_TRY(ed_scratch_pool_open(env, &p->pool, 0));
    slots = ED_MIN(slots, (uint64_t)p->base.size);
    if (!slots) return ENCDIFF_OK;
    if (!(p->holds = ed_alloc(env, slots, sizeof *p->holds)) ||
        !(p->pixels = ed_alloc_raw(env, slots * image_bytes(&p->base))))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (uint64_t i = 0; i < slots; i++) p->holds[i] = -1;
    p->slots = (int64_t)slots;
    return ENCDIFF_OK;
}

char *ed_base_name(ed_env *env, const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    if (begin == end) return ed_strdup(env, path);
    return ed_format(env, "%.*s", (int)ED_MIN(end - begin, (size_t)4096), path + begin);
}

encdiff_status ed_pictures_open(ed_env *env, const char *path, const char *format, const ed_picture_store *store,
                                const ed_dataset_options *options, ed_dataset **out)
{
    ed_dataset *base;
    char *name = ed_base_name(env, path);
    *out = NULL;
    encdiff_status status = name ? ed_dataset_create(env, sizeof(pictures), &pictures_class, name, format, &base)
                                 : ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_free(env, name);
    if (status != ENCDIFF_OK) {
        store->close(env, store->self);
        return status;
    }
    pictures *p = (pictures *)base;
    p->store = *store;
    base->fitted = true;
    status = ed_fit_parse(env, options, &p->fit);
    if (status == ENCDIFF_OK) status = set_size(env, p);
    if (status == ENCDIFF_OK) status = make_cache(env, p, options->cache_bytes);
    if (status == ENCDIFF_OK)
        *out = base;
    else
        ed_dataset_free(env, base);
    return status;
}

/* ---------------------------------------------------------------- files */

bool ed_is_picture_name(const char *name)
{
    return ed_ends_with(name, ".png") || ed_ends_with(name, ".jpg") || ed_ends_with(name, ".jpeg");
}

encdiff_status ed_path_list_add(ed_env *env, ed_path_list *list, char *path)
{
    if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_reserve(env, &list->paths, &list->capacity, list->count + 1, sizeof(char *));
    if (status == ENCDIFF_OK)
        list->paths[list->count++] = path;
    else
        ed_free(env, path);
    return status;
}

void ed_path_list_free(ed_env *env, ed_path_list *list)
{
    for (size_t i = 0; i < list->count; i++) ed_free(env, list->paths[i]);
    ed_free(env, list->paths);
    *list = (ed_path_list){0};
}

static const char *path_name(const void *self, int64_t index, char text[256])
{
    (void)text;
    return ((const ed_path_list *)self)->paths[index];
}

static encdiff_status path_fetch(ed_env *env, void *self, int64_t index, uint8_t **data, size_t *size)
{
    return ed_read_file(env, ((const ed_path_list *)self)->paths[index], ED_IMAGE_MAX_FILE, (char **)data, size);
}

static encdiff_status path_measure(ed_env *env, void *self, int64_t index, ed_image *out)
{
    return ed_image_read_size(env, ((const ed_path_list *)self)->paths[index], out);
}

static void path_close(ed_env *env, void *self)
{
    ed_path_list_free(env, self);
    ed_free(env, self);
}

encdiff_status ed_path_store(ed_env *env, ed_path_list *list, ed_picture_store *out)
{
    ed_path_list *moved = ed_alloc(env, 1, sizeof *moved);
    if (!moved) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *moved = *list;
    *list = (ed_path_list){0};
    *out = (ed_picture_store){.self = moved,
                              .count = (int64_t)moved->count,
                              .fetch = path_fetch,
                              .measure = path_measure,
                              .name = path_name,
                              .close = path_close};
    return ENCDIFF_OK;
}
