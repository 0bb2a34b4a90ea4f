/*
 * Cars3D (Reed et al. 2015): a folder of .mat files, one a car, in the order of their names, each with "im", uint8
 * [128][128][3][24][4]: rows, columns, channels, azimuths, elevations. Images are reduced to 64 pixels as Pillow's
 * thumbnail() does with LANCZOS, unless another size is asked for. The factors count as in disentanglement_lib:
 * elevation, azimuth, object, the last one fastest.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "data/h5.h"
#include "data/pictures.h"
#include "io/mat.h"

enum { AZIMUTHS = 24, ELEVATIONS = 4, VIEWS = AZIMUTHS * ELEVATIONS, THUMBNAIL = 64 };

typedef struct cars {
    ed_dataset base;
    ed_path_list files;
    int height, width; /* of the views in the files */
    ed_fit fit;
    ed_scratch_pool pool; /* a view; the lock also guards the car */
    ed_mat car;           /* the last one read */
    int64_t car_index;    /* -1: none */
} cars;

/* ---------------------------------------------------------------- files */

bool ed_cars3d_is(const char *path)
{
    bool found = false;
    DIR *directory = opendir(path);
    for (struct dirent *e; directory && !found && (e = readdir(directory));)
        found = e->d_name[0] != '.' && ed_ends_with(e->d_name, ".mat");
    if (directory) closedir(directory);
    return found;
}

static int compare_paths(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static encdiff_status find_files(ed_env *env, const char *path, ed_path_list *files)
{
    encdiff_status status = ENCDIFF_OK;
    DIR *directory = opendir(path);
    if (!directory) return ed_fail(env, ENCDIFF_ERROR_IO, "%s: %s", path, strerror(errno));
    for (struct dirent *e; status == ENCDIFF_OK && (e = readdir(directory));)
        if (e->d_name[0] != '.' && ed_ends_with(e->d_name, ".mat"))
            status = ed_path_list_add(env, files, ed_format(env, "%s/%s", path, e->d_name));
    closedir(directory);
    if (status == ENCDIFF_OK && !files->count)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no .mat files are in it", path);
    if (status == ENCDIFF_OK) qsort(files->paths, files->count, sizeof *files->paths, compare_paths);
    return status;
}

static encdiff_status read_car(ed_env *env, const char *path, ed_mat *out)
{
    ed_source source;
    char head[10] = "";
    *out = (ed_mat){0};
    ED_TRY(ed_source_open(env, path, &source));
    encdiff_status status = ed_source_read(env, &source, 0, head, (size_t)ED_MIN(source.size, (uint64_t)sizeof head));
    ed_source_close(env, &source);
    if (status != ENCDIFF_OK) return status;
    if (memcmp(head, "MATLAB 7.3", sizeof head) == 0)
        status = ed_h5_read_bytes(env, path, "im", out);
    else
        status = ed_mat_read(env, path, "im", out);
    if (status != ENCDIFF_OK) return status;
    const int64_t *d = out->dim;
    if (out->rank == 5 && d[2] == 3 && d[3] == AZIMUTHS && d[4] == ELEVATIONS && d[0] <= 4096 && d[1] <= 4096)
        return ENCDIFF_OK;
    ed_free(env, out->data);
    out->data = NULL;
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: \"im\" is not uint8 [height, width, 3, %d, %d]", path, AZIMUTHS,
                   ELEVATIONS);
}

/* ---------------------------------------------------------------- reading */

/* With the lock held. */
static encdiff_status load(ed_env *env, cars *c, int64_t car)
{
    ed_mat read;
    if (c->car_index == car) return ENCDIFF_OK;
    ED_TRY(read_car(env, c->files.paths[car], &read));
    ed_free(env, c->car.data);
    c->car = read;
    c->car_index = car;
    if (read.dim[0] == c->height && read.dim[1] == c->width) return ENCDIFF_OK;
    c->car_index = -1;
    return ed_fail(env, ENCDIFF_ERROR_SHAPE, "%s: %lld x %lld pixels, but the first car has %d x %d",
                   c->files.paths[car], (long long)read.dim[1], (long long)read.dim[0], c->width, c->height);
}

/* Columns of planes become rows of pixels. */
static encdiff_status copy_view(ed_env *env, cars *c, int64_t car, int64_t view, uint8_t *out)
{
    int64_t h = c->height, w = c->width, elevation = view / AZIMUTHS, azimuth = view % AZIMUTHS;
    pthread_mutex_lock(&c->pool.lock);
    encdiff_status status = load(env, c, car);
    const uint8_t *from = status == ENCDIFF_OK ? c->car.data + (elevation * AZIMUTHS + azimuth) * h * w * 3 : NULL;
    for (int64_t channel = 0; status == ENCDIFF_OK && channel < 3; channel++)
        for (int64_t x = 0; x < w; x++)
            for (int64_t y = 0; y < h; y++) out[(y * w + x) * 3 + channel] = *from++;
    pthread_mutex_unlock(&c->pool.lock);
    return status;
}

static encdiff_status read_view(ed_env *env, cars *c, ed_scratch *scratch, int64_t index, uint8_t *out)
{
    ed_window window;
    int64_t count = (int64_t)c->files.count;
    ED_TRY(copy_view(env, c, index % count, index / count, scratch->pixels));
    ED_TRY(ed_fit_window(env, c->base.name, &c->fit, scratch->pixels, c->height, c->width, &window));
    ED_TRY(ed_resizer_prepare(env, &scratch->resizer, window.height, window.width, c->fit.filter, c->base.height,
                              c->base.width));
    ed_resizer_run(&scratch->resizer, &window, out);
    return ed_check_cancel(env);
}

static encdiff_status cars_read(ed_env *env, ed_dataset *dataset, int64_t n, const int64_t *indices, uint8_t *out)
{
    cars *c = (cars *)dataset;
    ed_scratch *scratch;
    size_t bytes = (size_t)dataset->height * (size_t)dataset->width * 3;
    ED_TRY(ed_scratch_take(env, &c->pool, &scratch));
    encdiff_status status = ENCDIFF_OK;
    for (int64_t i = 0; i < n && status == ENCDIFF_OK; i++)
        status = read_view(env, c, scratch, indices[i], out + (size_t)i * bytes);
    ed_scratch_give(&c->pool, scratch);
    return status;
}

static void cars_close(ed_env *env, ed_dataset *dataset)
{
    cars *c = (cars *)dataset;
    ed_path_list_free(env, &c->files);
    ed_free(env, c->car.data);
    ed_scratch_pool_close(env, &c->pool);
}

static const ed_dataset_class cars_class = {.read = cars_read, .close = cars_close};

/* Car by car in the files, the car fastest in the set. */
static int64_t position_of(const ed_dataset *dataset, int64_t index)
{
    int64_t count = dataset->size / VIEWS;
    return index % count * VIEWS + index / count;
}

static int64_t index_at(const ed_dataset *dataset, int64_t position)
{
    return position % VIEWS * (dataset->size / VIEWS) + position / VIEWS;
}

/* ---------------------------------------------------------------- opening */

static encdiff_status open_cars(ed_env *env, const char *path, const ed_dataset_options *options, cars *c)
{
    static const char *const names[] = {"elevation", "azimuth", "object"};
    ED_TRY(ed_fit_parse(env, options, &c->fit));
    ED_TRY(find_files(env, path, &c->files));
    ED_TRY(read_car(env, c->files.paths[0], &c->car));
    c->car_index = 0;
    c->height = (int)c->car.dim[0];
    c->width = (int)c->car.dim[1];
    if (!options->filter) c->fit.filter = ED_FILTER_LANCZOS;
    if (!c->fit.height && c->height == c->width && c->height > THUMBNAIL) c->fit.height = c->fit.width = THUMBNAIL;
    ed_fit_size(&c->fit, c->height, c->width, &c->base.height, &c->base.width);
    c->base.size = (int64_t)c->files.count * VIEWS;
    c->base.complete = c->base.ordered = c->base.fitted = true;
    ED_TRY(ed_scratch_pool_open(env, &c->pool, (size_t)c->height * (size_t)c->width * 3));
    return ed_dataset_set_factors(env, &c->base, 3, names, (int32_t[]){ELEVATIONS, AZIMUTHS, (int32_t)c->files.count});
}

encdiff_status ed_cars3d_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_dataset *base = NULL;
    char *name = ed_base_name(env, path);
    *out = NULL;
    encdiff_status status = name ? ed_dataset_create(env, sizeof(cars), &cars_class, name, "cars3d", &base)
                                 : ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_free(env, name);
    if (status != ENCDIFF_OK) return status;
    ((cars *)base)->car_index = -1;
    status = open_cars(env, path, options, (cars *)base);
    if (status == ENCDIFF_OK)
        return ed_unpacked_open(env, base,
                                &(ed_storage){.run = VIEWS, .position_of = position_of, .index_at = index_at}, out);
    ed_dataset_free(env, base);
    return status;
}
