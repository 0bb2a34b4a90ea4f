/* Datasets in files and folders: what was saved, what other tools wrote, what is damaged, and no memory for it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/stat.h>

#include <hdf5.h>

#include "data/data.h"
#include "data/loader.h"
#include "io/image.h"
#include "io/npy.h"
#include "io/resize.h"
#include "sets.h"

/* ---------------------------------------------------------------- files */

enum { SAVED = 130 }; /* two blocks and a bit */

static void check_same(ed_env *env, const char *path, const char *source, int factors)
{
    ed_dataset *a = open_set(env, path, NULL), *b = open_set(env, source, NULL);
    if (!a || !b) return;
    ed_dataset_info info = info_of(a);
    CHECK(info.size == SAVED && info.height == 64 && info.width == 64);
    CHECK_EQUAL(info.factors, factors);
    uint8_t *pixels = malloc(2 * 16 * PIXELS);
    for (int64_t first = 0; first < SAVED; first += 16) {
        int64_t indices[16];
        int32_t labels[2][16 * 6];
        /* here and there, with repeats */
        for (int64_t i = 0; i < 16; i++) indices[i] = ((first + i / 2) * 37) % SAVED;
        CHECK_EQUAL(ed_dataset_read(env, a, 16, indices, pixels), ENCDIFF_OK);
        CHECK_EQUAL(ed_dataset_read(env, b, 16, indices, pixels + 16 * PIXELS), ENCDIFF_OK);
        CHECK(memcmp(pixels, pixels + 16 * PIXELS, 16 * PIXELS) == 0);
        if (!factors) continue;
        CHECK_EQUAL(ed_dataset_labels(env, a, 16, indices, labels[0]), ENCDIFF_OK);
        CHECK_EQUAL(ed_dataset_labels(env, b, 16, indices, labels[1]), ENCDIFF_OK);
        CHECK(memcmp(labels[0], labels[1], sizeof labels[0]) == 0);
    }
    free(pixels);
    ed_dataset_free(env, a);
    ed_dataset_free(env, b);
}

static int count_progress(void *user, int64_t done, int64_t total)
{
    int64_t *calls = user;
    CHECK(done > 0 && done <= total && total == SAVED);
    return ++*calls == 2 && total < 0;
}

static int stop_at_once(void *user, int64_t done, int64_t total) { return (void)user, (void)done, (void)total, 1; }

static void saved_sets_are_what_they_were(void)
{
    static const char *const names[] = {"a.h5", "a.npz"};
    workplace w;
    ed_env *env = workplace_open(&w);
    for (int i = 0; i < 4; i++) {
        ed_dataset *set = open_set(env, saved_source, NULL);
        int64_t calls = 0;
        const char *path = in_folder(&w, names[i % 2]);
        CHECK_EQUAL(ed_dataset_save(env, set, path, i / 2 * 4, count_progress, &calls), ENCDIFF_OK);
        CHECK_EQUAL(calls, 3);
        CHECK_EQUAL(count_files(w.folder, "tmp"), 0);
        check_same(env, path, saved_source, 6);
        ed_dataset *back = open_set(env, path, NULL);
        CHECK_TEXT(info_of(back).factor_names[3], "scale"); /* though not all of its values occur */
        CHECK_EQUAL(info_of(back).factor_sizes[0], 10);
        ed_dataset_free(env, back);
        ed_dataset_free(env, set);
    }
    workplace_close(&w);
}

static void a_stopped_save_keeps_the_old_file(void)
{
    static const char *const names[] = {"a.h5", "a.npz"};
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, saved_source, NULL);
    for (int i = 0; i < 2; i++) {
        const char *path = in_folder(&w, names[i]);
        put_file(path, "old", 3);
        CHECK_EQUAL(ed_dataset_save(env, set, path, -1, stop_at_once, NULL), ENCDIFF_CANCELLED);
        struct stat info;
        CHECK(stat(path, &info) == 0 && info.st_size == 3);
        CHECK_EQUAL(count_files(w.folder, "tmp"), 0);
    }
    CHECK_EQUAL(ed_dataset_save(env, set, "/nonexistent/a.h5", -1, NULL, NULL), ENCDIFF_ERROR_IO);
    CHECK_EQUAL(ed_dataset_save(env, set, in_folder(&w, "a.zip"), -1, NULL, NULL), ENCDIFF_ERROR_ARGUMENT);
    ed_dataset_free(env, set);
    workplace_close(&w);
}

static void truncated_h5_and_npz_are_refused(void)
{
    static const char *const names[] = {"a.h5", "a.npz"};
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, "procedural:shapes3d[0:4]", NULL);
    for (int i = 0; i < 2; i++) {
        char *data;
        size_t size;
        CHECK_EQUAL(ed_dataset_save(env, set, in_folder(&w, names[i]), 4, NULL, NULL), ENCDIFF_OK);
        if (!CHECK_EQUAL(ed_read_file(env, w.path, 1 << 24, &data, &size), ENCDIFF_OK)) continue;
        for (size_t n = 0; n < size; n += 1 + n / 40) {
            ed_dataset *cut = NULL;
            put_file(w.path, data, n);
            encdiff_status status = ed_dataset_open(env, w.path, NULL, &cut);
            CHECK_THAT(status == ENCDIFF_ERROR_FORMAT, "%s cut to %zu of %zu bytes: %d", names[i], n, size, status);
            ed_dataset_free(env, cut);
        }
        ed_free(env, data);
    }
    ed_dataset_free(env, set);
    workplace_close(&w);
}

/* ---------------------------------------------------------------- foreign HDF5 files */

static void put_h5(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dim, const hsize_t *chunk,
                   const void *data)
{
    hid_t space = H5Screate_simple(rank, dim, NULL), properties = H5Pcreate(H5P_DATASET_CREATE);
    if (chunk) {
        H5Pset_chunk(properties, rank, chunk);
        H5Pset_shuffle(properties);
        H5Pset_deflate(properties, 1);
    }
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    if (data) CHECK(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(set);
    H5Pclose(properties);
    H5Sclose(space);
}

static uint8_t *read_saved(ed_env *env)
{
    uint8_t *pixels = malloc(SAVED * PIXELS);
    int64_t indices[SAVED];
    ed_dataset *set = open_set(env, saved_source, NULL);
    for (int64_t i = 0; i < SAVED; i++) indices[i] = i;
    CHECK_EQUAL(ed_dataset_read(env, set, SAVED, indices, pixels), ENCDIFF_OK);
    ed_dataset_free(env, set);
    return pixels;
}

/* As h5py chunks by itself: an image is scattered over many chunks, which hold pieces of many images. */
static void scattered_chunks_read_right(void)
{
    static const hsize_t dim[4] = {SAVED, 64, 64, 3}, chunk[4] = {65, 16, 16, 1};
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t *pixels = read_saved(env);
    hid_t file = H5Fcreate(in_folder(&w, "a.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    put_h5(file, "pictures", H5T_NATIVE_UINT8, 4, dim, chunk, pixels);
    H5Fclose(file);
    check_same(env, w.path, saved_source, 0);
    free(pixels);
    workplace_close(&w);
}

static void other_label_types_become_classes(void)
{
    static const hsize_t dim[4] = {6, 2, 2, 3}, rows[2] = {6, 2}, row[1] = {6};
    static const uint8_t pixels[6 * 12];
    static const int16_t integers[12] = {-5, 100, 7, 100, -5, 300, 7, 300, 9, 100, 9, 300};
    static const float single[6] = {0.5f, 0.25f, 0.5f, 0.75f, 0.5f, 0.25f};
    workplace w;
    ed_env *env = workplace_open(&w);
    int32_t labels[12];
    hid_t file = H5Fcreate(in_folder(&w, "a.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    put_h5(file, "images", H5T_NATIVE_UINT8, 4, dim, NULL, pixels);
    put_h5(file, "labels", H5T_NATIVE_SHORT, 2, rows, NULL, integers);
    H5Fclose(file);
    ed_dataset *set = open_set(env, w.path, NULL);
    CHECK_EQUAL(ed_dataset_labels(env, set, 6, (int64_t[]){0, 1, 2, 3, 4, 5}, labels), ENCDIFF_OK);
    static const int32_t wanted[12] = {0, 0, 1, 0, 0, 1, 1, 1, 2, 0, 2, 1};
    CHECK(memcmp(labels, wanted, sizeof wanted) == 0);
    CHECK(info_of(set).complete && info_of(set).factor_sizes[0] == 3);
    ed_dataset_free(env, set);
    file = H5Fcreate(w.path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    put_h5(file, "images", H5T_NATIVE_UINT8, 4, dim, NULL, pixels);
    put_h5(file, "labels", H5T_NATIVE_FLOAT, 1, row, NULL, single);
    H5Fclose(file);
    set = open_set(env, w.path, NULL);
    CHECK(info_of(set).factors == 1 && info_of(set).factor_sizes[0] == 3);
    ed_dataset_free(env, set);
    workplace_close(&w);
}

static void unsuitable_h5_files_are_refused(void)
{
    static const hsize_t good[4] = {2, 2, 2, 3}, grey[4] = {2, 2, 2, 1}, flat[3] = {2, 2, 3},
                         huge[4] = {1u << 30, 64, 64, 3};
    static const hsize_t chunk[4] = {1, 64, 64, 3}, three[2] = {3, 1}, two[2] = {2, 1};
    static const uint8_t pixels[24];
    static const double values[3] = {0, NAN, 1};
    workplace w;
    ed_env *env = workplace_open(&w);
    for (int i = 0; i < 7; i++) {
        hid_t file = H5Fcreate(in_folder(&w, "a.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        if (i == 0) put_h5(file, "images", H5T_NATIVE_UINT8, 4, grey, NULL, pixels);
        if (i == 1) put_h5(file, "images", H5T_NATIVE_UINT8, 3, flat, NULL, pixels);
        if (i == 2) put_h5(file, "images", H5T_NATIVE_SCHAR, 4, good, NULL, pixels);
        if (i == 3) put_h5(file, "images", H5T_NATIVE_UINT8, 4, huge, chunk, NULL);
        if (i >= 4 && i < 6) put_h5(file, "images", H5T_NATIVE_UINT8, 4, good, NULL, pixels);
        if (i == 4) put_h5(file, "labels", H5T_NATIVE_DOUBLE, 2, three, NULL, values);
        if (i == 5) put_h5(file, "labels", H5T_NATIVE_DOUBLE, 2, two, NULL, values);
        if (i == 6) H5Lcreate_external("/etc/other.h5", "images", file, "images", H5P_DEFAULT, H5P_DEFAULT);
        H5Fclose(file);
        check_refused(env, w.path, NULL, ENCDIFF_ERROR_FORMAT,
                      i == 3   ? "never written"
                      : i == 4 ? "labels are not"
                      : i == 5 ? "not a number"
                      : i == 6 ? "no images"
                               : "u8 [n][height][width][3]");
    }
    workplace_close(&w);
}

/* The host's HDF5 error printing is left as it was. */
static void the_hosts_error_handler_is_kept(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    H5E_auto2_t before, after;
    void *data;
    H5Eget_auto2(H5E_DEFAULT, &before, &data);
    put_file(in_folder(&w, "a.h5"), "\x89HDF\r\n\x1a\n and nothing", 20);
    check_refused(env, w.path, NULL, ENCDIFF_ERROR_FORMAT, "cannot be opened");
    H5Eget_auto2(H5E_DEFAULT, &after, &data);
    CHECK(before == after);
    workplace_close(&w);
}

typedef struct worker {
    workplace *place;
    ed_dataset *set;
    uint64_t hash;
    encdiff_status status;
} worker;

static void *read_in_thread(void *argument)
{
    worker *job = argument;
    ed_env env;
    uint8_t *pixels = malloc(8 * PIXELS);
    ed_env_child(&env, &job->place->env);
    job->hash = 14695981039346656037u;
    for (int64_t i = 0; i < 40 && job->status == ENCDIFF_OK; i++) {
        int64_t indices[8];
        for (int64_t k = 0; k < 8; k++) indices[k] = (i * 61 + k * 29) % SAVED;
        job->status = ed_dataset_read(&env, job->set, 8, indices, pixels);
        job->hash = hash_bytes(job->hash, pixels, 8 * PIXELS);
    }
    free(pixels);
    return NULL;
}

static void threads_read_one_set_at_once(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, saved_source, NULL);
    CHECK_EQUAL(ed_dataset_save(env, set, in_folder(&w, "a.h5"), 1, NULL, NULL), ENCDIFF_OK);
    ed_dataset *stored = open_set(env, w.path, NULL);
    worker jobs[4] = {{&w, set, 0, 0}, {&w, set, 0, 0}, {&w, stored, 0, 0}, {&w, stored, 0, 0}};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK_EQUAL(pthread_create(&threads[i], NULL, read_in_thread, &jobs[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++) CHECK(jobs[i].status == ENCDIFF_OK && jobs[i].hash == jobs[0].hash);
    ed_dataset_free(env, set);
    ed_dataset_free(env, stored);
    workplace_close(&w);
}

/* ---------------------------------------------------------------- arrays */

static void arrays_of_images_are_told_apart_by_type_and_shape(void)
{
    enum { N = 2, H = 5, W = 4, COUNT = N * H * W * 3 };
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t u8[COUNT], back[COUNT];
    float nhwc[COUNT], nchw[COUNT], floats[COUNT];
    for (int i = 0; i < COUNT; i++) u8[i] = (uint8_t)(i * 5);
    ed_pixels_to_f32(u8, COUNT, nhwc);
    for (int i = 0; i < N; i++) ed_pixels_separate(nhwc + i * H * W * 3, H * W, nchw + i * H * W * 3);
    ed_array arrays[] = {{ED_U8, 4, {N, H, W, 3}, COUNT, u8},
                         {ED_F32, 4, {N, H, W, 3}, COUNT, nhwc},
                         {ED_F32, 4, {N, 3, H, W}, COUNT, nchw}};
    for (int a = 0; a < 3; a++) {
        CHECK_EQUAL(ed_array_write(env, in_folder(&w, "a.npy"), &arrays[a]), ENCDIFF_OK);
        ed_dataset *set = open_set(env, w.path, NULL);
        if (!set) continue;
        ed_dataset_info info = info_of(set);
        CHECK(info.size == N && info.height == H && info.width == W && info.exact == (a > 0));
        CHECK_EQUAL(ed_dataset_read(env, set, N, (int64_t[]){0, 1}, back), ENCDIFF_OK);
        CHECK(memcmp(back, u8, COUNT) == 0);
        CHECK_EQUAL(ed_dataset_read_f32(env, set, N, (int64_t[]){0, 1}, floats), ENCDIFF_OK);
        CHECK(memcmp(floats, nhwc, sizeof floats) == 0);
        ed_dataset_free(env, set);
    }
    ed_array wrong[] = {{ED_U8, 3, {N * H, W, 3}, COUNT, u8},
                        {ED_F64, 4, {1, 2, 2, 3}, 12, nhwc},
                        {ED_U8, 4, {0, H, W, 3}, 0, u8},
                        {ED_F32, 4, {N, H, 3, W}, COUNT, nhwc}};
    for (size_t a = 0; a < ED_COUNT(wrong); a++) {
        CHECK_EQUAL(ed_array_write(env, in_folder(&w, "a.npy"), &wrong[a]), ENCDIFF_OK);
        check_refused(env, w.path, NULL, ENCDIFF_ERROR_FORMAT, "expected images");
    }
    nhwc[7] = 200;
    CHECK_EQUAL(ed_array_write(env, w.path, &arrays[1]), ENCDIFF_OK);
    check_refused(env, w.path, NULL, ENCDIFF_ERROR_FORMAT, "[-1, 1]");
    nhwc[7] = NAN;
    CHECK_EQUAL(ed_array_write(env, w.path, &arrays[1]), ENCDIFF_OK);
    ed_dataset *set = open_set(env, w.path, NULL);
    CHECK_EQUAL(ed_dataset_read(env, set, 1, (int64_t[]){0}, back), ENCDIFF_ERROR_NUMERIC);
    CHECK_EQUAL(ed_dataset_read(env, set, 1, (int64_t[]){1}, back), ENCDIFF_OK);
    ed_dataset_free(env, set);
    workplace_close(&w);
}

/* ---------------------------------------------------------------- folders */

static void put_picture(ed_env *env, workplace *w, const char *name, uint8_t value, int height, int width)
{
    uint8_t *rgb = malloc((size_t)(height * width * 3));
    memset(rgb, value, (size_t)(height * width * 3));
    CHECK_EQUAL(ed_png_write(env, in_folder(w, name), rgb, height, width, 1), ENCDIFF_OK);
    free(rgb);
}

static void folders_are_read_in_the_order_of_their_paths(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    CHECK_EQUAL(mkdir(in_folder(&w, "b"), 0700), 0);
    CHECK_EQUAL(symlink(".", in_folder(&w, "b/loop")), 0);
    put_picture(env, &w, "c.png", 30, 8, 8);
    put_picture(env, &w, "a.PNG", 10, 8, 8);
    put_picture(env, &w, "b/x.png", 20, 8, 8);
    put_picture(env, &w, ".hidden.png", 99, 8, 8);
    put_file(in_folder(&w, "notes.txt"), "x", 1);
    for (uint64_t cache = 1; cache < 1000000; cache *= 700) { /* none, some, all */
        ed_dataset *set = open_set(env, w.folder, &(ed_dataset_options){.cache_bytes = cache});
        uint8_t pixels[4][192];
        if (!set) break;
        CHECK_EQUAL(info_of(set).size, 3);
        CHECK_TEXT(info_of(set).format, "folder");
        for (int i = 0; i < 2; i++) {
            CHECK_EQUAL(ed_dataset_read(env, set, 4, (int64_t[]){2, 0, 1, 2}, pixels[0]), ENCDIFF_OK);
            CHECK(pixels[0][0] == 30 && pixels[1][191] == 10 && pixels[2][5] == 20 && pixels[3][0] == 30);
        }
        ed_dataset_free(env, set);
    }
    workplace_close(&w);
}

static void folders_of_several_sizes_need_one(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    put_picture(env, &w, "a.png", 10, 8, 8);
    put_picture(env, &w, "b.png", 20, 8, 12);
    check_refused(env, w.folder, NULL, ENCDIFF_ERROR_SHAPE, "12 x 8");
    ed_dataset *set = open_set(env, w.folder, &(ed_dataset_options){.height = 6, .crop = "centre"});
    uint8_t pixels[2 * 6 * 6 * 3];
    CHECK_EQUAL(ed_dataset_read(env, set, 2, (int64_t[]){0, 1}, pixels), ENCDIFF_OK);
    CHECK(pixels[0] == 10 && pixels[107] == 10 && pixels[108] == 20 && pixels[215] == 20);
    ed_dataset_free(env, set);
    put_file(in_folder(&w, "b.png"), "\x89PNG\r\n\x1a\n....", 12);
    set = open_set(env, w.folder, &(ed_dataset_options){.height = 6});
    CHECK_EQUAL(ed_dataset_read(env, set, 2, (int64_t[]){0, 1}, pixels), ENCDIFF_ERROR_FORMAT);
    CHECK(strstr(env->message, "b.png") != NULL);
    ed_dataset_free(env, set);
    workplace_close(&w);
    workplace_open(&w);
    check_refused(env, w.folder, NULL, ENCDIFF_ERROR_FORMAT, "no .png");
    workplace_close(&w);
}

static void resizing_is_pillows(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *whole = open_set(env, "procedural:shapes3d", NULL),
               *small = open_set(env, "procedural:shapes3d",
                                 &(ed_dataset_options){.height = 32, .width = 24, .crop = "centre"});
    uint8_t full[PIXELS], got[32 * 24 * 3], wanted[32 * 24 * 3];
    int64_t index = 77777;
    CHECK_EQUAL(ed_dataset_read(env, whole, 1, &index, full), ENCDIFF_OK);
    CHECK_EQUAL(ed_dataset_read(env, small, 1, &index, got), ENCDIFF_OK);
    ed_window window = {full, 64, 0, 8, 64, 48};
    CHECK_EQUAL(ed_resize(env, &window, ED_FILTER_BICUBIC, 32, 24, wanted), ENCDIFF_OK);
    CHECK(memcmp(got, wanted, sizeof got) == 0);
    CHECK(info_of(small).height == 32 && info_of(small).width == 24 && info_of(small).factors == 6);
    ed_dataset_free(env, whole);
    ed_dataset_free(env, small);
    workplace_close(&w);
}

/* ---------------------------------------------------------------- out of memory */

static encdiff_status open_and_load(ed_env *env, void *user)
{
    ed_dataset *set, *first = NULL, *second = NULL, *mixed = NULL;
    ed_loader *loader = NULL;
    uint8_t pixels[PIXELS];
    ED_TRY(ed_dataset_open(env, user, NULL, &set));
    encdiff_status status = ed_dataset_split(env, set, 1, 3, &first, &second);
    if (status == ENCDIFF_OK) status = ed_dataset_shuffle(env, second, 1, &mixed);
    if (status == ENCDIFF_OK) status = ed_loader_create(env, mixed, &(ed_loader_options){.batch = 2}, &loader);
    if (status == ENCDIFF_OK) status = ed_dataset_read(env, mixed, 1, (int64_t[]){0}, pixels);
    ed_loader_free(env, loader);
    ed_dataset_free(env, mixed);
    ed_dataset_free(env, first);
    ed_dataset_free(env, second);
    ed_dataset_free(env, set);
    return status;
}

static encdiff_status save_both(ed_env *env, void *user)
{
    workplace *w = user;
    ed_dataset *set;
    ED_TRY(ed_dataset_open(env, "procedural:shapes3d[0:3]", NULL, &set));
    encdiff_status status = ed_dataset_save(env, set, in_folder(w, "s.h5"), 4, NULL, NULL);
    if (status == ENCDIFF_OK) status = ed_dataset_save(env, set, in_folder(w, "s.npz"), 4, NULL, NULL);
    ed_dataset_free(env, set);
    return status;
}

static void datasets_without_memory_leave_nothing(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    char source[200];
    try_without_memory(&w, save_both, &w);
    CHECK_EQUAL(count_files(w.folder, "tmp"), 0);
    try_without_memory(&w, open_and_load, (void *)(uintptr_t)in_folder(&w, "s.h5"));
    try_without_memory(&w, open_and_load, (void *)(uintptr_t)in_folder(&w, "s.npz"));
    snprintf(source, sizeof source, "%s/pictures", w.folder);
    CHECK_EQUAL(mkdir(source, 0700), 0);
    put_picture(env, &w, "pictures/a.png", 1, 64, 64);
    put_picture(env, &w, "pictures/b.png", 2, 64, 64);
    try_without_memory(&w, open_and_load, source);
    snprintf(source, sizeof source, "procedural:shapes3d[3:8]");
    try_without_memory(&w, open_and_load, source);
    workplace_close(&w);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(saved_sets_are_what_they_were),
        TEST(a_stopped_save_keeps_the_old_file),
        TEST(truncated_h5_and_npz_are_refused),
        TEST(scattered_chunks_read_right),
        TEST(other_label_types_become_classes),
        TEST(unsuitable_h5_files_are_refused),
        TEST(the_hosts_error_handler_is_kept),
        TEST(threads_read_one_set_at_once),
        TEST(arrays_of_images_are_told_apart_by_type_and_shape),
        TEST(folders_are_read_in_the_order_of_their_paths),
        TEST(folders_of_several_sizes_need_one),
        TEST(resizing_is_pillows),
        TEST(datasets_without_memory_leave_nothing),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
