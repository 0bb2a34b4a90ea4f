/* NumPy arrays, and archives of them. */
#define _GNU_SOURCE
#include "io/npy.h"
#include "workplace.h"

/* ---------------------------------------------------------------- npy */

static void arrays_survive_npy(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    static const int32_t values[6] = {0, 1, 2, 3, 4, 250};
    const char *path = in_folder(&w, "a.npy");
    ed_array array = {.type = ED_I32, .rank = 2, .dim = {2, 3}, .data = (void *)(uintptr_t)values}, back;
    CHECK_EQUAL(ed_array_write(env, path, &array), ENCDIFF_OK);
    static const ed_type types[] = {ED_I32, ED_U8, ED_I64, ED_F32, ED_F64};
    for (size_t t = 0; t < ED_COUNT(types); t++) {
        if (!CHECK_EQUAL(ed_array_read(env, path, NULL, (int)types[t], &back), ENCDIFF_OK)) continue;
        CHECK(back.type == types[t] && back.rank == 2 && back.dim[0] == 2 && back.dim[1] == 3 && back.count == 6);
        double last = back.type == ED_I32   ? ((int32_t *)back.data)[5]
                      : back.type == ED_U8  ? ((uint8_t *)back.data)[5]
                      : back.type == ED_I64 ? (double)((int64_t *)back.data)[5]
                      : back.type == ED_F32 ? (double)((float *)back.data)[5]
                                            : ((double *)back.data)[5];
        CHECK_NEAR(last, 250, 0, "exact");
        ed_free(env, back.data);
    }
    static const double odd[2] = {1.5, 300};
    array = (ed_array){.type = ED_F64, .rank = 1, .dim = {2}, .data = (void *)(uintptr_t)odd};
    CHECK_EQUAL(ed_array_write(env, path, &array), ENCDIFF_OK);
    CHECK_EQUAL(ed_array_read(env, path, NULL, ED_I32, &back), ENCDIFF_ERROR_FORMAT);
    CHECK_EQUAL(ed_array_read(env, path, NULL, ED_F32, &back), ENCDIFF_OK);
    ed_free(env, back.data);
    workplace_close(&w);
}

/* A file as Python writes it: `dictionary` after the magic, then `size` bytes of data. */
static size_t make_npy(uint8_t *file, int version, const char *dictionary, size_t size)
{
    size_t length = strlen(dictionary), begin = version == 1 ? 10 : 12;
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (uint8_t)version;
    file[7] = 0;
    memset(file + 8, 0, 4);
    file[8] = (uint8_t)length;
    file[9] = (uint8_t)(length >> 8);
    memcpy(file + begin, dictionary, length);
    for (size_t i = 0; i < size; i++) file[begin + length + i] = (uint8_t)i;
    return begin + length + size;
}

static void every_numpy_type_is_read(void)
{
    static const struct {
        const char *header;
        ed_type type;
        double second;
    } cases[] = {
        {"{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", ED_U8, 1},
        {"{'descr': '|i1', 'fortran_order': False, 'shape': (2,), }", ED_I32, 1},
        {"{\"descr\": \"<u2\", \"shape\": (2L,), \"fortran_order\": False}", ED_I32, 0x302},
        {"{'descr': '<i2', 'fortran_order': False, 'shape': (2,)}", ED_I32, 0x302},
        {"{'descr': '<u4', 'fortran_order': False, 'shape': (2,)}", ED_I64, 0x07060504},
        {"{'descr': '<i8', 'fortran_order': False, 'shape': (2,)}", ED_I64, 1084818905618843912.0},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (2,)}  \n", ED_F32, 4.5895e-5},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,2,1,)}", ED_F32, 1.00825e-34},
    };
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t file[256];
    for (size_t i = 0; i < ED_COUNT(cases); i++) {
        ed_array array;
        size_t size = make_npy(file, 1 + (int)(i % 3), cases[i].header, 16);
        put_file(in_folder(&w, "a.npy"), file, size);
        if (!CHECK_THAT(ed_array_read(env, w.path, NULL, ED_ARRAY_ANY, &array) == ENCDIFF_OK, "%s: %s", cases[i].header,
                        env->message))
            continue;
        CHECK_EQUAL(array.type, cases[i].type);
        ed_free(env, array.data);
        CHECK_EQUAL(ed_array_read(env, w.path, NULL, ED_F64, &array), ENCDIFF_OK);
        CHECK_NEAR(((double *)array.data)[1], cases[i].second, fabs(cases[i].second) * 1e-4, "digits written above");
        ed_free(env, array.data);
    }
    workplace_close(&w);
}

static void fortran_order_is_turned(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t file[128];
    ed_array array;
    size_t size = make_npy(file, 1, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}", 6);
    put_file(in_folder(&w, "a.npy"), file, size);
    CHECK_EQUAL(ed_array_read(env, w.path, NULL, ED_ARRAY_ANY, &array), ENCDIFF_OK);
    CHECK(array.data && memcmp(array.data, "\0\2\4\1\3\5", 6) == 0);
    ed_free(env, array.data);
    workplace_close(&w);
}

static void malformed_npy_is_refused(void)
{
    static const char *const headers[] = {
        "{'descr': '>f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': 1, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (5,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4294967296)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [1]}",
        "{'descr': '<f4', 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)",
        "",
    };
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t file[256];
    ed_array array;
    for (size_t i = 0; i < ED_COUNT(headers); i++) {
        put_file(in_folder(&w, "a.npy"), file, make_npy(file, 1, headers[i], 16));
        CHECK_THAT(ed_array_read(env, w.path, NULL, ED_ARRAY_ANY, &array) == ENCDIFF_ERROR_FORMAT, "%s", headers[i]);
        CHECK(array.data == NULL);
    }
    size_t size = make_npy(file, 2, "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}", 16);
    for (size_t n = 0; n < size; n++) {
        put_file(in_folder(&w, "a.npy"), file, n);
        CHECK_EQUAL(ed_array_read(env, w.path, NULL, ED_ARRAY_ANY, &array), ENCDIFF_ERROR_FORMAT);
    }
    workplace_close(&w);
}

/* ---------------------------------------------------------------- zip */

static void fill_pattern(uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) data[i] = (uint8_t)(i * i >> 7 ^ i);
}

enum { BIG = 200000 };

static encdiff_status write_npz(ed_env *env, const char *path, const uint8_t *data)
{
    ed_zip_writer *writer;
    ed_array array = {.type = ED_U8, .rank = 2, .dim = {BIG / 100, 100}, .data = (void *)(uintptr_t)data};
    ED_TRY(ed_zip_writer_create(env, path, &writer));
    encdiff_status status = ed_npz_add(env, writer, "stored", &array, 0);
    if (status == ENCDIFF_OK) status = ed_npz_add(env, writer, "deflated", &array, 6);
    if (status == ENCDIFF_OK) return ed_zip_writer_finish(env, writer);
    ed_zip_writer_discard(env, writer);
    return status;
}

static void npz_members_are_written_and_read(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t *data = malloc(BIG);
    ed_array array;
    fill_pattern(data, BIG);
    const char *path = in_folder(&w, "a.npz");
    CHECK_EQUAL(write_npz(env, path, data), ENCDIFF_OK);
    static const char *const names[] = {"stored", "deflated.npy"};
    for (int i = 0; i < 2; i++) {
        if (!CHECK_EQUAL(ed_array_read(env, path, names[i], ED_ARRAY_ANY, &array), ENCDIFF_OK)) continue;
        CHECK(array.count == BIG && memcmp(array.data, data, BIG) == 0);
        ed_free(env, array.data);
    }
    CHECK_EQUAL(ed_array_read(env, path, NULL, ED_ARRAY_ANY, &array), ENCDIFF_ERROR_NOT_FOUND);
    CHECK(strstr(env->message, "stored.npy, deflated.npy") != NULL);
    CHECK_EQUAL(ed_array_read(env, path, "absent", ED_ARRAY_ANY, &array), ENCDIFF_ERROR_NOT_FOUND);
    free(data);
    workplace_close(&w);
}

/* The same bytes through memory, through a temporary file and where they lie. */
static void zip_members_are_sources(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t *data = malloc(BIG), some[100];
    ed_zip *zip;
    fill_pattern(data, BIG);
    CHECK_EQUAL(write_npz(env, in_folder(&w, "a.npz"), data), ENCDIFF_OK);
    if (!CHECK_EQUAL(ed_zip_open(env, w.path, &zip), ENCDIFF_OK)) return;
    for (size_t m = 0; m < 2; m++)
        for (uint64_t limit = 0; limit <= 1 << 20; limit += 1 << 20) {
            ed_source source;
            CHECK_EQUAL(ed_zip_source(env, zip, ed_zip_at(zip, m), limit, &source), ENCDIFF_OK);
            CHECK_EQUAL(source.size, BIG + 128);
            CHECK_EQUAL(ed_source_read(env, &source, 128 + 70000, some, sizeof some), ENCDIFF_OK);
            CHECK(memcmp(some, data + 70000, sizeof some) == 0);
            CHECK_EQUAL(ed_source_read(env, &source, source.size - 99, some, sizeof some), ENCDIFF_ERROR_FORMAT);
            CHECK_EQUAL(ed_source_read(env, &source, UINT64_MAX - 9, some, sizeof some), ENCDIFF_ERROR_FORMAT);
            ed_source_close(env, &source);
        }
    CHECK_EQUAL(ed_zip_peek(env, zip, ed_zip_at(zip, 1), some, 8), ENCDIFF_OK);
    CHECK(memcmp(some, "\x93NUMPY\1\0", 8) == 0);
    ed_zip_close(env, zip);
    free(data);
    workplace_close(&w);
}

static void read_whole_zip(ed_env *env, const char *path)
{
    ed_zip *zip;
    if (ed_zip_open(env, path, &zip) != ENCDIFF_OK) return;
    for (size_t i = 0; i < ed_zip_count(zip); i++) {
        ed_array array;
        if (ed_array_read(env, path, ed_zip_at(zip, i)->name, ED_ARRAY_ANY, &array) == ENCDIFF_OK)
            ed_free(env, array.data);
    }
    ed_zip_close(env, zip);
}

static size_t small_npz(ed_env *env, workplace *w, uint8_t file[1024])
{
    static const uint8_t data[24] = {1, 2, 3};
    ed_zip_writer *writer;
    ed_array array = {.type = ED_U8, .rank = 1, .dim = {24}, .data = (void *)(uintptr_t)data};
    CHECK_EQUAL(ed_zip_writer_create(env, in_folder(w, "a.npz"), &writer), ENCDIFF_OK);
    CHECK_EQUAL(ed_npz_add(env, writer, "a", &array, 0), ENCDIFF_OK);
    CHECK_EQUAL(ed_npz_add(env, writer, "b", &array, 9), ENCDIFF_OK);
    CHECK_EQUAL(ed_zip_writer_finish(env, writer), ENCDIFF_OK);
    FILE *from = fopen(w->path, "rb");
    size_t size = from ? fread(file, 1, 1024, from) : 0;
    if (from) fclose(from);
    return size;
}

static void truncated_and_damaged_zips_do_not_crash(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t file[1024];
    ed_array array;
    size_t size = small_npz(env, &w, file);
    for (size_t n = 0; n < size; n++) {
        put_file(w.path, file, n);
        CHECK_EQUAL(ed_array_read(env, w.path, "a", ED_ARRAY_ANY, &array), ENCDIFF_ERROR_FORMAT);
    }
    for (size_t i = 0; i < size; i++)
        for (int change = 1; change < 256; change *= 5) {
            file[i] = (uint8_t)(file[i] + change);
            put_file(w.path, file, size);
            read_whole_zip(env, w.path);
            file[i] = (uint8_t)(file[i] - change);
        }
    workplace_close(&w);
}

static void damaged_content_is_noticed(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t file[1024];
    ed_array array;
    size_t size = small_npz(env, &w, file);
    file[200] ^= 1; /* within the data of "a" */
    put_file(w.path, file, size);
    CHECK_EQUAL(ed_array_read(env, w.path, "a", ED_ARRAY_ANY, &array), ENCDIFF_ERROR_FORMAT);
    CHECK(strstr(env->message, "checksum") != NULL);
    CHECK_EQUAL(ed_array_read(env, w.path, "b", ED_ARRAY_ANY, &array), ENCDIFF_OK);
    ed_free(env, array.data);
    workplace_close(&w);
}

static void npz_is_readable_by_python_and_the_other_way_round(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t *data = malloc(BIG);
    ed_array array;
    char command[700];
    fill_pattern(data, BIG);
    CHECK_EQUAL(write_npz(env, in_folder(&w, "a.npz"), data), ENCDIFF_OK);
    if (system("python3 -c 'import numpy' 2>/dev/null") != 0) {
        test_skip("python3 has no numpy");
    } else {
        snprintf(command, sizeof command,
                 "python3 -c 'import sys, zipfile, numpy as np; z = np.load(sys.argv[1]); "
                 "assert (z[\"stored\"] == z[\"deflated\"]).all() and z[\"stored\"].shape == (2000, 100); "
                 "assert zipfile.ZipFile(sys.argv[1]).testzip() is None; "
                 "np.savez_compressed(sys.argv[1], q=np.arange(6.).reshape(2, 3).T)' '%s'",
                 w.path);
        CHECK_EQUAL(system(command), 0);
        CHECK_EQUAL(ed_array_read(env, w.path, NULL, ED_I32, &array), ENCDIFF_OK);
        CHECK(array.data && array.dim[0] == 3 && ((int32_t *)array.data)[1] == 3);
        ed_free(env, array.data);
    }
    free(data);
    workplace_close(&w);
}

static encdiff_status npz_round_trip(ed_env *env, void *user)
{
    static uint8_t data[BIG];
    ed_array array;
    ED_TRY(write_npz(env, user, data));
    ED_TRY(ed_array_read(env, user, "deflated", ED_F32, &array));
    ed_free(env, array.data);
    return ENCDIFF_OK;
}

static void npz_without_memory_leaves_nothing(void)
{
    workplace w;
    workplace_open(&w);
    try_without_memory(&w, npz_round_trip, (void *)(uintptr_t)in_folder(&w, "a.npz"));
    CHECK_EQUAL(count_files(w.folder, "tmp"), 0);
    workplace_close(&w);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(arrays_survive_npy),
        TEST(every_numpy_type_is_read),
        TEST(fortran_order_is_turned),
        TEST(malformed_npy_is_refused),
        TEST(npz_members_are_written_and_read),
        TEST(zip_members_are_sources),
        TEST(truncated_and_damaged_zips_do_not_crash),
        TEST(damaged_content_is_noticed),
        TEST(npz_is_readable_by_python_and_the_other_way_round),
        TEST(npz_without_memory_leaves_nothing),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
