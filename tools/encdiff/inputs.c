#include "inputs.h"

#include <limits.h>
#include <string.h>

/* ---------------------------------------------------------------- images in memory */

encdiff_image_view images_new(cli *c, int32_t n, int32_t height, int32_t width)
{
    encdiff_image_view view = {.format = ENCDIFF_IMAGE_F32_NCHW, .n = n, .height = height, .width = width};
    size_t bytes = encdiff_image_view_bytes(&view);
    if (!bytes) cli_fail(c, "%d images of %dx%d are no images, or too many to hold", n, width, height);
    view.data = cli_alloc(c, bytes, 1);
    return view;
}

size_t image_floats(const encdiff_image_view *view) { return 3 * (size_t)view->height * (size_t)view->width; }

float *image_at(const encdiff_image_view *view, int32_t index)
{
    return (float *)view->data + (size_t)index * image_floats(view);
}

encdiff_image_view images_part(const encdiff_image_view *view, int32_t first, int32_t n)
{
    encdiff_image_view part = *view;
    part.data = image_at(view, first);
    part.n = n;
    return part;
}

/* ---------------------------------------------------------------- sources */

static void check_size(cli *c, const encdiff_dataset_info *info, const encdiff_model_info *model)
{
    if (info->height == model->height && info->width == model->width) return;
    cli_fail(c, "%s: images are %dx%d, the model's are %dx%d (--resize fits them)", info->name, info->width,
             info->height, model->width, model->height);
}

inputs inputs_open(cli *c, encdiff_model *model, const cli_texts *sources, const input_args *args)
{
    encdiff_model_info wanted = cli_model_info(c, model);
    inputs in = {.count = sources->count, .height = wanted.height, .width = wanted.width};
    in.datasets = cli_alloc(c, (size_t)in.count, sizeof(encdiff_dataset *));
    in.first = cli_alloc(c, (size_t)in.count + 1, sizeof *in.first);
    for (int32_t i = 0; i < in.count; i++) {
        in.datasets[i] = cli_open_dataset(c, sources->items[i], args->resize ? wanted.height : 0);
        encdiff_dataset_info info = cli_dataset_info(c, in.datasets[i]);
        check_size(c, &info, &wanted);
        in.first[i + 1] = in.first[i] + info.size;
    }
    in.size = in.first[in.count];
    if (args->count > in.size)
        cli_fail(c, "%lld images are asked for and there are %lld", (long long)args->count, (long long)in.size);
    if (args->count) in.size = args->count;
    return in;
}

/* Those of first .. first+n-1 that lie in dataset i. */
static void read_part(cli *c, const inputs *in, int32_t i, int64_t first, int32_t n, encdiff_image_view *to)
{
    int64_t begin = first > in->first[i] ? first : in->first[i];
    int64_t end = first + n < in->first[i + 1] ? first + n : in->first[i + 1];
    if (begin >= end) return;
    encdiff_image_view part = images_part(to, (int32_t)(begin - first), (int32_t)(end - begin));
    int64_t *indices = cli_alloc(c, (size_t)part.n, sizeof *indices);
    for (int32_t k = 0; k < part.n; k++) indices[k] = begin - in->first[i] + k;
    cli_check(c, encdiff_dataset_read(in->datasets[i], indices, &part));
}

static void read_into(cli *c, const inputs *in, int64_t first, encdiff_image_view *to)
{
    for (int32_t i = 0; i < in->count; i++) read_part(c, in, i, first, to->n, to);
}

encdiff_image_view inputs_read(cli *c, const inputs *in, int64_t first, int32_t n)
{
    encdiff_image_view view = images_new(c, n, in->height, in->width);
    read_into(c, in, first, &view);
    return view;
}

encdiff_image_view inputs_load(cli *c, const inputs *in, int32_t limit, const char *source)
{
    if (in->size > limit)
        cli_usage(c, "%s has %lld images, more than the %d that fit: name a range (\"%s[0:16]\") or --count", source,
                  (long long)in->size, limit, source);
    return inputs_read(c, in, 0, (int32_t)in->size);
}

encdiff_image_view inputs_load_one(cli *c, encdiff_model *model, const char *source, bool resize)
{
    input_args args = {.resize = resize};
    inputs in = inputs_open(c, model, &(cli_texts){&source, 1}, &args);
    if (in.size != 1)
        cli_usage(c, "%s has %lld images and one is needed: name it by a range (\"%s[0:1]\")", source,
                  (long long)in.size, source);
    return inputs_read(c, &in, 0, 1);
}

/* ---------------------------------------------------------------- arrays */

static void release_array(cli *c, void *thing) { encdiff_context_release(c->context, thing); }

encdiff_array array_load(cli *c, const char *path, encdiff_type type, int32_t low_rank, int32_t high_rank,
                         const char *what)
{
    encdiff_array array;
    const char *colon = strrchr(path, ':'), *member = NULL;
    char *file = cli_format(c, "%s", path);
    if (colon && colon - path > 4 && strncmp(colon - 4, ".npz", 4) == 0) {
        file[colon - path] = 0;
        member = colon + 1;
    }
    cli_check(c, encdiff_array_read(c->context, file, member, type, &array));
    cli_own(c, array.data, release_array);
    if (array.rank >= low_rank && array.rank <= high_rank) return array;
    if (low_rank == high_rank)
        cli_fail(c, "%s: %s have %d dimensions, the array has %d", path, what, low_rank, array.rank);
    cli_fail(c, "%s: %s have %d or %d dimensions, the array has %d", path, what, low_rank, high_rank, array.rank);
}

void array_save(cli *c, const char *path, encdiff_type type, void *data, int32_t rank, const int64_t *shape)
{
    encdiff_array array = {.data = data, .type = type, .rank = rank};
    memcpy(array.shape, shape, (size_t)rank * sizeof *shape);
    cli_check(c, encdiff_array_write(c->context, path, &array));
}
