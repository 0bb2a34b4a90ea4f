/* Datasets: procedural ones, arrays in memory, views of them, files. */
#include <sys/stat.h>

#include "api.h"

static encdiff_context *context;
static counted_memory memory;

static void begin(void) { context = open_context(&memory, 1); }
static void end(void) { close_context(context, &memory); }

enum { FACTORS = 6, ALL_SHAPES = 480000 };

static encdiff_image_view u8_view(uint8_t *data, int32_t n, int32_t side)
{
    return (encdiff_image_view){.data = data, .format = ENCDIFF_IMAGE_U8_NHWC, .n = n, .height = side, .width = side};
}

static encdiff_dataset_info info_of(encdiff_dataset *dataset)
{
    encdiff_dataset_info info = {.struct_size = sizeof info};
    OK(context, encdiff_dataset_get_info(dataset, &info));
    return info;
}

/* ---------------------------------------------------------------- procedural */

static void shapes_are_described_as_the_published_set(void)
{
    static const char *const names[FACTORS] = {"floor hue", "wall hue", "object hue", "scale", "shape", "orientation"};
    static const int32_t sizes[FACTORS] = {10, 10, 10, 8, 4, 15};
    encdiff_dataset *data = NULL;
    begin();
    OK(context, encdiff_dataset_open(context, "procedural:shapes3d", NULL, &data));
    encdiff_dataset_info info = info_of(data);
    CHECK_EQUAL(info.size, ALL_SHAPES);
    CHECK_EQUAL(info.height, 64);
    CHECK_EQUAL(info.width, 64);
    CHECK_EQUAL(info.factors, FACTORS);
    CHECK_EQUAL(info.complete, 1);
    CHECK_TEXT(info.format, "procedural");
    for (int32_t f = 0; f < FACTORS; f++) {
        CHECK_EQUAL(encdiff_dataset_factor_size(data, f), sizes[f]);
        CHECK(strncmp(encdiff_dataset_factor_name(data, f), names[f], 5) == 0);
    }
    CHECK(!encdiff_dataset_factor_name(data, -1) && !encdiff_dataset_factor_name(data, FACTORS));
    CHECK_EQUAL(encdiff_dataset_factor_size(data, -1) + encdiff_dataset_factor_size(data, FACTORS), 0);
    encdiff_dataset_free(data);
    end();
}

static void indices_count_through_the_factors_last_first(void)
{
    static const int64_t indices[] = {0, 1, 15, ALL_SHAPES - 1, 0};
    int32_t labels[5][FACTORS];
    begin();
    encdiff_dataset *data = open_shapes(context, "procedural:shapes3d");
    OK(context, encdiff_dataset_labels(data, 5, indices, &labels[0][0]));
    CHECK_EQUAL(labels[1][5], 1);
    CHECK_EQUAL(labels[2][4], 1);
    CHECK_EQUAL(labels[2][5], 0);
    CHECK_EQUAL(labels[3][0], 9);
    CHECK_EQUAL(labels[3][5], 14);
    CHECK(memcmp(labels[0], labels[4], sizeof labels[0]) == 0); /* repeats are allowed */
    for (int i = 0; i < 4; i++) {
        int64_t index = -1;
        OK(context, encdiff_dataset_find(data, labels[i], &index));
        CHECK_EQUAL(index, indices[i]);
    }
    labels[0][3] = 8;
    int64_t index;
    FAILS(context, encdiff_dataset_find(data, labels[0], &index), ENCDIFF_ERROR_ARGUMENT, "8");
    labels[0][3] = -1;
    FAILS(context, encdiff_dataset_find(data, labels[0], &index), ENCDIFF_ERROR_ARGUMENT, "-1");
    encdiff_dataset_free(data);
    end();
}

static void images_are_read_in_every_format(void)
{
    static const int64_t indices[] = {7, 100000, 7};
    static uint8_t u8[3 * PIXELS];
    static float last[3 * PIXELS], planar[3 * PIXELS];
    encdiff_image_view bytes = u8_view(u8, 3, SIDE), floats = view_f32(last, 3), planes = view_f32(planar, 3);
    planes.format = ENCDIFF_IMAGE_F32_NCHW;
    begin();
    encdiff_dataset *data = open_shapes(context, "procedural:shapes3d");
    OK(context, encdiff_dataset_read(data, indices, &bytes));
    OK(context, encdiff_dataset_read(data, indices, &floats));
    OK(context, encdiff_dataset_read(data, indices, &planes));
    CHECK(memcmp(u8, u8 + 2 * PIXELS, PIXELS) == 0);
    CHECK(memcmp(u8, u8 + PIXELS, PIXELS) != 0);
    for (size_t i = 0; i < PIXELS; i++) {
        if (!CHECK_NEAR(u8[i] / 127.5 - 1, last[i], 1e-6, "0..255 maps linearly")) break;
        if (!CHECK_NEAR(planar[i % 3 * (PIXELS / 3) + i / 3], last[i], 0, "moved")) break;
    }
    bytes.height = SIDE * 2;
    FAILS(context, encdiff_dataset_read(data, indices, &bytes), ENCDIFF_ERROR_SHAPE, "32x16");
    encdiff_dataset_free(data);
    end();
}

static void ranges_in_the_source_are_indices(void)
{
    uint8_t a[PIXELS], b[PIXELS];
    encdiff_image_view one = u8_view(a, 1, SIDE), other = u8_view(b, 1, SIDE);
    encdiff_dataset *none = (encdiff_dataset *)(uintptr_t)1;
    begin();
    encdiff_dataset *part = open_shapes(context, "procedural:shapes3d[1000:1010]");
    encdiff_dataset *whole = open_shapes(context, "procedural:shapes3d");
    CHECK_EQUAL(info_of(part).size, 10);
    OK(context, encdiff_dataset_read(part, (int64_t[]){3}, &one));
    OK(context, encdiff_dataset_read(whole, (int64_t[]){1003}, &other));
    CHECK(memcmp(a, b, sizeof a) == 0);
    FAILS(context, encdiff_dataset_open(context, "procedural:shapes3d[0:480001]", NULL, &none), ENCDIFF_ERROR_SHAPE,
          "480001");
    CHECK(!none);
    encdiff_dataset_free(part);
    encdiff_dataset_free(whole);
    end();
}

/* ---------------------------------------------------------------- arguments */

static void arguments_are_checked_by_name(void)
{
    uint8_t pixels[PIXELS];
    int32_t labels[FACTORS] = {0};
    int64_t index, outside = 100;
    encdiff_image_view one = u8_view(pixels, 1, SIDE);
    encdiff_dataset *out, *second;
    encdiff_dataset_options options;
    begin();
    encdiff_dataset *data = open_shapes(context, "procedural:shapes3d[0:100]");
    FAILS(context, encdiff_dataset_open(context, NULL, NULL, &out), ENCDIFF_ERROR_ARGUMENT, "source");
    FAILS(context, encdiff_dataset_open(context, "x", NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "out");
    FAILS(context, encdiff_dataset_open(context, "procedural:nothing", NULL, &out), ENCDIFF_ERROR_NOT_FOUND, "nothing");
    FAILS(context, encdiff_dataset_open(context, "/nonexistent.h5", NULL, &out), ENCDIFF_ERROR_NOT_FOUND,
          "/nonexistent.h5");
    encdiff_dataset_options_init(&options, sizeof options);
    options.height = -1;
    FAILS(context, encdiff_dataset_open(context, "procedural:shapes3d", &options, &out), ENCDIFF_ERROR_ARGUMENT,
          "height");
    CHECK(!out);
    options.struct_size = 2;
    FAILS(context, encdiff_dataset_open(context, "procedural:shapes3d", &options, &out), ENCDIFF_ERROR_ARGUMENT,
          "struct_size");
    FAILS(context, encdiff_dataset_read(data, &outside, &one), ENCDIFF_ERROR_ARGUMENT, "100");
    outside = -1;
    FAILS(context, encdiff_dataset_read(data, &outside, &one), ENCDIFF_ERROR_ARGUMENT, "-1");
    FAILS(context, encdiff_dataset_labels(data, 1, &outside, labels), ENCDIFF_ERROR_ARGUMENT, "-1");
    FAILS(context, encdiff_dataset_labels(data, 101, NULL, labels), ENCDIFF_ERROR_ARGUMENT, "101");
    FAILS(context, encdiff_dataset_labels(data, -1, NULL, labels), ENCDIFF_ERROR_ARGUMENT, "n");
    FAILS(context, encdiff_dataset_labels(data, 1, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "labels");
    FAILS(context, encdiff_dataset_find(data, NULL, &index), ENCDIFF_ERROR_ARGUMENT, "labels");
    FAILS(context, encdiff_dataset_read(data, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "encdiff_dataset_read");
    FAILS(context, encdiff_dataset_get_info(data, NULL), ENCDIFF_ERROR_ARGUMENT, "info");
    FAILS(context, encdiff_dataset_slice(data, 0, 101, &out), ENCDIFF_ERROR_ARGUMENT, "101");
    FAILS(context, encdiff_dataset_slice(data, 5, 5, &out), ENCDIFF_ERROR_ARGUMENT, "5");
    FAILS(context, encdiff_dataset_slice(data, -1, 5, &out), ENCDIFF_ERROR_ARGUMENT, "-1");
    CHECK(!out);
    FAILS(context, encdiff_dataset_split(data, 0, 0, &out, &second), ENCDIFF_ERROR_ARGUMENT, "0");
    FAILS(context, encdiff_dataset_split(data, 100, 0, &out, &second), ENCDIFF_ERROR_ARGUMENT, "100");
    CHECK(!out && !second);
    FAILS(context, encdiff_dataset_shuffle(data, 0, NULL), ENCDIFF_ERROR_ARGUMENT, "shuffled");
    FAILS(context, encdiff_dataset_save(data, NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "path");
    FAILS(context, encdiff_dataset_save(data, temporary("set.txt"), NULL, NULL), ENCDIFF_ERROR_ARGUMENT, ".txt");
    encdiff_dataset_free(data);
    end();
}

static void a_null_dataset_is_refused(void)
{
    encdiff_dataset_info info = {.struct_size = sizeof info};
    encdiff_dataset *out, *second;
    int32_t label = 0;
    int64_t index;
    encdiff_dataset_free(NULL);
    CHECK_EQUAL(encdiff_dataset_open(NULL, "x", NULL, &out), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_dataset_from_arrays(NULL, NULL, &out), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_dataset_get_info(NULL, &info), ENCDIFF_ERROR_ARGUMENT);
    CHECK(!encdiff_dataset_factor_name(NULL, 0));
    CHECK_EQUAL(encdiff_dataset_factor_size(NULL, 0), 0);
    CHECK_EQUAL(encdiff_dataset_labels(NULL, 0, NULL, &label), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_dataset_read(NULL, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_dataset_find(NULL, &label, &index), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_dataset_slice(NULL, 0, 1, &out), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_dataset_shuffle(NULL, 0, &out), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_dataset_split(NULL, 1, 0, &out, &second), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(encdiff_dataset_save(NULL, "x.npz", NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
}

static void infos_of_other_sizes_are_filled(void)
{
    struct {
        encdiff_dataset_info known;
        uint64_t later;
    } info;
    begin();
    encdiff_dataset *data = open_shapes(context, "procedural:shapes3d[0:9]");
    memset(&info, 0xff, sizeof info);
    info.known.struct_size = offsetof(encdiff_dataset_info, height);
    OK(context, encdiff_dataset_get_info(data, &info.known));
    CHECK_EQUAL(info.known.size, 9);
    CHECK_EQUAL(info.known.height, -1);
    info.known.struct_size = sizeof info;
    OK(context, encdiff_dataset_get_info(data, &info.known));
    CHECK_EQUAL(info.known.height, SIDE);
    CHECK_EQUAL(info.later, 0);
    encdiff_dataset_free(data);
    end();
}

/* ---------------------------------------------------------------- arrays in memory */

enum { HELD = 6 };

static encdiff_dataset_arrays held_arrays(encdiff_image_view *view, const int32_t *labels)
{
    return (encdiff_dataset_arrays){
        .struct_size = sizeof(encdiff_dataset_arrays), .images = view, .labels = labels, .factors = labels ? 2 : 0};
}

static void arrays_in_memory_are_a_dataset(void)
{
    static float pixels[HELD * PIXELS], read[HELD * PIXELS];
    int32_t labels[HELD][2], got[2][2];
    static const char *const names[] = {"row", "column"};
    static const int32_t sizes[] = {2, 4};
    encdiff_image_view view = view_f32(pixels, HELD), out = view_f32(read, HELD);
    encdiff_dataset *data = NULL;
    int64_t index;
    begin();
    fill_floats(pixels, HELD * PIXELS, 0);
    for (int i = 0; i < HELD; i++) labels[i][0] = i / 3, labels[i][1] = i % 3;
    encdiff_dataset_arrays arrays = held_arrays(&view, &labels[0][0]);
    OK(context, encdiff_dataset_from_arrays(context, &arrays, &data));
    encdiff_dataset_info info = info_of(data);
    CHECK_EQUAL(info.size, HELD);
    CHECK_EQUAL(info.factors, 2);
    CHECK_EQUAL(info.complete, 1);
    CHECK_TEXT(info.format, "memory");
    CHECK_TEXT(encdiff_dataset_factor_name(data, 1), "factor 1");
    CHECK_EQUAL(encdiff_dataset_factor_size(data, 1), 3); /* largest label + 1 */
    OK(context, encdiff_dataset_read(data, NULL, &out));
    CHECK(memcmp(read, pixels, sizeof read) == 0);
    OK(context, encdiff_dataset_labels(data, 2, (int64_t[]){4, 0}, &got[0][0]));
    CHECK_EQUAL(got[0][0] * 10 + got[0][1], 11);
    OK(context, encdiff_dataset_find(data, (int32_t[]){1, 2}, &index));
    CHECK_EQUAL(index, 5);
    encdiff_dataset_free(data);

    char copied[8] = "row"; /* names and sizes are copied */
    const char *own_names[] = {copied, names[1]};
    arrays.factor_names = own_names;
    arrays.factor_sizes = sizes;
    OK(context, encdiff_dataset_from_arrays(context, &arrays, &data));
    memset(copied, 'x', 3);
    CHECK_TEXT(encdiff_dataset_factor_name(data, 0), "row");
    CHECK_EQUAL(encdiff_dataset_factor_size(data, 1), 4);
    CHECK_EQUAL(info_of(data).complete, 0);
    FAILS(context, encdiff_dataset_find(data, (int32_t[]){1, 3}, &index), ENCDIFF_ERROR_NOT_FOUND, "");
    encdiff_dataset_free(data);
    end();
}

static void arrays_that_contradict_are_refused(void)
{
    static float pixels[HELD * PIXELS], read[PIXELS];
    int32_t labels[HELD][2] = {{0}}, sizes[] = {1, 1};
    encdiff_image_view view = view_f32(pixels, HELD), one = view_f32(read, 1);
    encdiff_dataset *data;
    int64_t index;
    begin();
    encdiff_dataset_arrays arrays = held_arrays(&view, &labels[0][0]);
    labels[4][1] = -1;
    FAILS(context, encdiff_dataset_from_arrays(context, &arrays, &data), ENCDIFF_ERROR_ARGUMENT, "-1");
    labels[4][1] = 1;
    arrays.factor_sizes = sizes;
    FAILS(context, encdiff_dataset_from_arrays(context, &arrays, &data), ENCDIFF_ERROR_ARGUMENT, "1");
    CHECK(!data);
    arrays = held_arrays(&view, NULL);
    arrays.factors = 2;
    FAILS(context, encdiff_dataset_from_arrays(context, &arrays, &data), ENCDIFF_ERROR_ARGUMENT, "labels");
    arrays = held_arrays(NULL, NULL);
    FAILS(context, encdiff_dataset_from_arrays(context, &arrays, &data), ENCDIFF_ERROR_ARGUMENT, "images");
    arrays = held_arrays(&view, NULL);
    arrays.struct_size = 0;
    FAILS(context, encdiff_dataset_from_arrays(context, &arrays, &data), ENCDIFF_ERROR_ARGUMENT, "struct_size");
    FAILS(context, encdiff_dataset_from_arrays(context, NULL, &data), ENCDIFF_ERROR_ARGUMENT, "arrays");
    arrays = held_arrays(&view, NULL);
    view.n = 0;
    FAILS(context, encdiff_dataset_from_arrays(context, &arrays, &data), ENCDIFF_ERROR_SHAPE, "0 images");
    view.n = HELD;
    OK(context, encdiff_dataset_from_arrays(context, &arrays, &data));
    FAILS(context, encdiff_dataset_labels(data, 1, NULL, &labels[0][0]), ENCDIFF_ERROR_UNSUPPORTED, "labels");
    FAILS(context, encdiff_dataset_find(data, &labels[0][0], &index), ENCDIFF_ERROR_UNSUPPORTED, "labels");
    pixels[2 * PIXELS + 5] = NAN;
    FAILS(context, encdiff_dataset_read(data, (int64_t[]){2}, &one), ENCDIFF_ERROR_NUMERIC, "2");
    OK(context, encdiff_dataset_read(data, (int64_t[]){1}, &one));
    encdiff_dataset_free(data);
    end();
}

/* ---------------------------------------------------------------- views */

static void labels_of(encdiff_dataset *dataset, int32_t n, int32_t *labels)
{
    OK(context, encdiff_dataset_labels(dataset, n, NULL, labels));
}

static void slices_shuffles_and_splits_hold_the_same_images(void)
{
    enum { SIZE = 60 };
    static int32_t all[SIZE][FACTORS], mixed[SIZE][FACTORS], again[SIZE][FACTORS], parts[SIZE][FACTORS];
    encdiff_dataset *shuffled = NULL, *same = NULL, *first = NULL, *second = NULL, *slice = NULL;
    begin();
    encdiff_dataset *data = open_shapes(context, "procedural:shapes3d[0:60]"); /* shape and orientation vary */
    labels_of(data, SIZE, &all[0][0]);
    OK(context, encdiff_dataset_shuffle(data, 3, &shuffled));
    OK(context, encdiff_dataset_shuffle(data, 3, &same));
    OK(context, encdiff_dataset_slice(shuffled, 10, 20, &slice)); /* a view of a view */
    OK(context, encdiff_dataset_split(data, 40, 9, &first, &second));
    encdiff_dataset_free(data); /* subsets keep what they need */
    labels_of(shuffled, SIZE, &mixed[0][0]);
    labels_of(same, SIZE, &again[0][0]);
    CHECK(memcmp(mixed, again, sizeof mixed) == 0);
    CHECK(memcmp(mixed, all, sizeof mixed) != 0);
    labels_of(slice, 10, &again[0][0]);
    CHECK(memcmp(again, mixed[10], 10 * sizeof again[0]) == 0);
    CHECK_EQUAL(info_of(first).size, 40);
    CHECK_EQUAL(info_of(second).size, 20);
    CHECK_EQUAL(info_of(first).complete, 0);
    labels_of(first, 40, &parts[0][0]);
    labels_of(second, 20, &parts[40][0]);
    for (int part = 0; part < 2; part++) /* each keeps the order of the whole */
        for (int i = part ? 41 : 1; i < (part ? SIZE : 40); i++)
            CHECK(parts[i - 1][4] * 15 + parts[i - 1][5] < parts[i][4] * 15 + parts[i][5]);
    int seen[2][SIZE] = {{0}};
    for (int i = 0; i < SIZE; i++) {
        seen[0][parts[i][4] * 15 + parts[i][5]]++;
        seen[1][mixed[i][4] * 15 + mixed[i][5]]++;
    }
    for (int i = 0; i < SIZE; i++) CHECK(seen[0][i] == 1 && seen[1][i] == 1);
    encdiff_dataset_free(shuffled);
    encdiff_dataset_free(same);
    encdiff_dataset_free(slice);
    encdiff_dataset_free(second);
    encdiff_dataset_free(first);
    end();
}

/* ---------------------------------------------------------------- files */

static int32_t stop_at_once(const encdiff_progress_info *info, void *user)
{
    CHECK(info->struct_size >= sizeof *info && info->activity && info->done >= 1 && info->done <= info->total);
    ++*(int *)user;
    return 1;
}

static void saved_datasets_open_again(void)
{
    static const char *const names[] = {"set.npz", "set.h5"};
    static uint8_t a[12 * PIXELS], b[12 * PIXELS];
    int32_t labels[12][FACTORS], again[12][FACTORS];
    encdiff_image_view view = u8_view(a, 12, SIDE), other = u8_view(b, 12, SIDE);
    begin();
    encdiff_dataset *data = open_shapes(context, "procedural:shapes3d[100:112]"), *loaded = NULL;
    OK(context, encdiff_dataset_read(data, NULL, &view));
    labels_of(data, 12, &labels[0][0]);
    for (int k = 0; k < 2; k++) {
        const char *path = temporary(names[k]);
        if (!OK(context, encdiff_dataset_save(data, path, NULL, NULL))) continue;
        if (!OK(context, encdiff_dataset_open(context, path, NULL, &loaded))) continue;
        CHECK_EQUAL(info_of(loaded).size, 12);
        CHECK_EQUAL(info_of(loaded).factors, FACTORS);
        OK(context, encdiff_dataset_read(loaded, NULL, &other));
        CHECK(memcmp(a, b, sizeof a) == 0);
        labels_of(loaded, 12, &again[0][0]);
        CHECK(memcmp(labels, again, sizeof labels) == 0);
        encdiff_dataset_free(loaded);
        unlink(path);
    }
    encdiff_dataset_free(data);
    end();
}

/* A stop leaves no file, and one that was there as it was. */
static void a_stopped_save_changes_no_file(void)
{
    static const char *const names[] = {"stopped.npz", "stopped.h5"};
    begin();
    encdiff_dataset *data = open_shapes(context, "procedural:shapes3d[0:2000]");
    for (int k = 0; k < 2; k++) {
        const char *path = temporary(names[k]);
        int calls = 0;
        struct stat status;
        FAILS(context, encdiff_dataset_save(data, path, stop_at_once, &calls), ENCDIFF_CANCELLED, "");
        CHECK_EQUAL(calls, 1);
        CHECK(stat(path, &status) != 0);
        FILE *file = fopen(path, "w");
        fputs("before", file);
        fclose(file);
        FAILS(context, encdiff_dataset_save(data, path, stop_at_once, &calls), ENCDIFF_CANCELLED, "");
        CHECK(stat(path, &status) == 0 && status.st_size == 6);
        unlink(path);
    }
    FAILS(context, encdiff_dataset_save(data, "/nonexistent/set.npz", NULL, NULL), ENCDIFF_ERROR_IO, "/nonexistent");
    encdiff_dataset_free(data);
    end();
}

static void files_that_are_no_dataset_are_refused(void)
{
    static const char *const names[] = {"broken.npz", "broken.h5", "broken.npy", "broken.png", "broken.jpg", "broken"};
    encdiff_dataset *data;
    begin();
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        const char *path = temporary(names[k]);
        FILE *file = fopen(path, "w");
        fputs("PK\003\004 this is no file of any kind that the library knows", file);
        fclose(file);
        data = (encdiff_dataset *)(uintptr_t)1;
        FAILS(context, encdiff_dataset_open(context, path, NULL, &data), ENCDIFF_ERROR_FORMAT, path);
        CHECK(!data);
        CHECK_EQUAL(truncate(path, 0), 0);
        FAILS(context, encdiff_dataset_open(context, path, NULL, &data), ENCDIFF_ERROR_FORMAT, path);
        unlink(path);
    }
    const char *folder = temporary("empty-folder");
    mkdir(folder, 0700);
    FAILS(context, encdiff_dataset_open(context, folder, NULL, &data), ENCDIFF_ERROR_FORMAT, folder);
    rmdir(folder);
    end();
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(shapes_are_described_as_the_published_set),
        TEST(indices_count_through_the_factors_last_first),
        TEST(images_are_read_in_every_format),
        TEST(ranges_in_the_source_are_indices),
        TEST(arguments_are_checked_by_name),
        TEST(a_null_dataset_is_refused),
        TEST(infos_of_other_sizes_are_filled),
        TEST(arrays_in_memory_are_a_dataset),
        TEST(arrays_that_contradict_are_refused),
        TEST(slices_shuffles_and_splits_hold_the_same_images),
        TEST(saved_datasets_open_again),
        TEST(a_stopped_save_changes_no_file),
        TEST(files_that_are_no_dataset_are_refused),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
