/* Safetensors files: what is kept, what other tools read, what is damaged. */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "io/safetensors.h"
#include "workplace.h"

/* ---------------------------------------------------------------- safetensors */

static const float floats[6] = {1, -2, 3.5f, 0, 1e-30f, 6};
static const uint8_t bytes[3] = {1, 2, 255};
static const double real = 3.25;
static const int64_t whole[2] = {-1, INT64_MAX};
static const uint16_t halves[4] = {0x3C00, 0xC000, 0x0001, 0x7C00};

static encdiff_status fill_floats(ed_env *env, void *user, void *buffer)
{
    (void)env;
    memcpy(buffer, user, sizeof floats);
    return ENCDIFF_OK;
}

static const ed_st_item items[] = {
    {.name = "bytes \"quoted\"\n", .type = ED_ST_U8, .rank = 1, .dim = {3}, .data = bytes},
    {.name = "a.weight", .type = ED_ST_F32, .rank = 2, .dim = {2, 3}, .data = floats},
    {.name = "scalar", .type = ED_ST_F64, .data = &real},
    {.name = "filled",
     .type = ED_ST_F32,
     .rank = 1,
     .dim = {6},
     .fill = fill_floats,
     .user = (void *)(uintptr_t)floats},
    {.name = "whole", .type = ED_ST_I64, .rank = 1, .dim = {2}, .data = whole},
    {.name = "empty", .type = ED_ST_F32, .rank = 2, .dim = {0, 3}},
    {.name = "halves", .type = ED_ST_F16, .rank = 1, .dim = {4}, .data = halves},
    {.name = "brain", .type = ED_ST_BF16, .rank = 1, .dim = {4}, .data = halves},
};
static const ed_st_pair metadata[] = {{"config", "{\"a\": 1}"}, {"k\xc3\xa9y", "line\nline"}};

static void write_sample(ed_env *env, uint8_t **data, size_t *size)
{
    CHECK_EQUAL(ed_safetensors_write_memory(env, items, ED_COUNT(items), metadata, ED_COUNT(metadata), data, size),
                ENCDIFF_OK);
}

static void safetensors_keep_tensors_and_metadata(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    const char *path = in_folder(&w, "m.safetensors");
    ed_safetensors *file;
    float out[6];
    int64_t integers[2];
    CHECK_EQUAL(ed_safetensors_write(env, path, items, ED_COUNT(items), metadata, ED_COUNT(metadata)), ENCDIFF_OK);
    CHECK_EQUAL(count_files(w.folder, "tmp"), 0);
    if (!CHECK_EQUAL(ed_safetensors_open(env, path, &file), ENCDIFF_OK)) return;
    CHECK_EQUAL(ed_safetensors_count(file), ED_COUNT(items));
    for (size_t i = 0; i < ED_COUNT(items); i++) {
        const ed_st_tensor *t = ed_safetensors_find(file, items[i].name);
        if (!CHECK(t != NULL)) continue;
        CHECK(t->type == items[i].type && t->rank == items[i].rank);
        CHECK_EQUAL(t->offset % ed_st_type_size(t->type), 0);
    }
    CHECK(ed_safetensors_find(file, "absent") == NULL);
    CHECK_TEXT(ed_safetensors_metadata(file, "k\xc3\xa9y"), "line\nline");
    CHECK(ed_safetensors_metadata(file, "x") == NULL);
    static const char *const same[] = {"a.weight", "filled"};
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(ed_safetensors_read_f32(env, file, ed_safetensors_find(file, same[i]), out), ENCDIFF_OK);
        CHECK(memcmp(out, floats, sizeof floats) == 0);
    }
    CHECK_EQUAL(ed_safetensors_read_f32(env, file, ed_safetensors_find(file, "halves"), out), ENCDIFF_OK);
    CHECK(out[0] == 1 && out[1] == -2 && out[2] == 0x1p-24f && isinf(out[3]));
    CHECK_EQUAL(ed_safetensors_read_f32(env, file, ed_safetensors_find(file, "brain"), out), ENCDIFF_OK);
    CHECK(out[0] == 0.0078125f && out[1] == -2);
    CHECK_EQUAL(ed_safetensors_read_f32(env, file, ed_safetensors_find(file, "scalar"), out), ENCDIFF_OK);
    CHECK(out[0] == 3.25f);
    CHECK_EQUAL(ed_safetensors_read_i64(env, file, ed_safetensors_find(file, "whole"), integers), ENCDIFF_OK);
    CHECK(integers[0] == -1 && integers[1] == INT64_MAX);
    CHECK_EQUAL(ed_safetensors_read_i64(env, file, ed_safetensors_find(file, "scalar"), integers),
                ENCDIFF_ERROR_FORMAT);
    ed_safetensors_close(env, file);
    workplace_close(&w);
}

/* Python's own reader is the judge, where it is installed. */
static void safetensors_are_readable_by_python(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    char command[512];
    CHECK_EQUAL(ed_safetensors_write(env, in_folder(&w, "m.safetensors"), items, ED_COUNT(items), metadata, 2),
                ENCDIFF_OK);
    if (system("python3 -c 'import safetensors.numpy' 2>/dev/null") != 0) {
        test_skip("python3 has no safetensors and numpy");
    } else {
        snprintf(
            command, sizeof command,
            "python3 -c 'import sys; from safetensors import safe_open; f = safe_open(sys.argv[1], \"np\"); "
            "assert f.metadata()[\"config\"] == \"{\\\"a\\\": 1}\"; assert f.get_tensor(\"a.weight\")[0, 2] == 3.5; "
            "assert f.get_tensor(\"whole\")[1] == 2**63 - 1; assert f.get_tensor(\"empty\").shape == (0, 3); "
            "assert f.get_tensor(\"scalar\").shape == ()' '%s'",
            in_folder(&w, "m.safetensors"));
        CHECK_EQUAL(system(command), 0);
    }
    workplace_close(&w);
}

static void check_bad_safetensors(ed_env *env, const uint8_t *data, size_t size, const char *what)
{
    ed_safetensors *file = NULL;
    uint8_t *exact = malloc(size + 1);
    memcpy(exact, data, size);
    encdiff_status status = ed_safetensors_open_memory(env, "bad", exact, size, &file);
    CHECK_THAT(status == ENCDIFF_ERROR_FORMAT, "%s: status %d", what, status);
    ed_safetensors_close(env, file);
    free(exact);
}

static void truncated_safetensors_are_refused(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t *data;
    size_t size;
    char what[64];
    write_sample(env, &data, &size);
    for (size_t n = 0; n < size; n++) {
        snprintf(what, sizeof what, "%zu of %zu bytes", n, size);
        check_bad_safetensors(env, data, n, what);
    }
    uint8_t *longer = malloc(size + 1);
    memcpy(longer, data, size);
    longer[size] = 0;
    check_bad_safetensors(env, longer, size + 1, "a byte too many");
    free(longer);
    ed_free(env, data);
    workplace_close(&w);
}

static void malformed_safetensors_headers_are_refused(void)
{
    static const char *const headers[] = {
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
        "offsets\":[4,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}",
        "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"extra\":1}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_"
        "offsets\":[8,8]}}",
        "{\"__metadata__\":{\"a\":1},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"a\\u0000\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"a\\ud800\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}} x",
        " {\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
        "[]",
        "",
        "{",
        "{\"a\":{}}",
    };
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t file[512];
    for (size_t i = 0; i < ED_COUNT(headers); i++) {
        uint64_t length = strlen(headers[i]);
        memcpy(file, &length, 8);
        memcpy(file + 8, headers[i], length);
        memset(file + 8 + length, 0, 8);
        check_bad_safetensors(env, file, 16 + length, headers[i]);
    }
    uint64_t huge = 100000001;
    memcpy(file, &huge, 8);
    check_bad_safetensors(env, file, 64, "a header above the limit");
    memset(file, 0xFF, 8);
    check_bad_safetensors(env, file, 64, "a header of 2^64 - 1 bytes");
    workplace_close(&w);
}

static void escaped_names_in_safetensors_are_read(void)
{
    static const char header[] =
        "{ \"\\u0061\\u00e9\\ud83d\\ude00\\/\" : {\"shape\":[ 2 ],\"data_offsets\":[0, 8],\"dtype\":\"F32\"} }  ";
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t file[256];
    uint64_t length = sizeof header - 1;
    ed_safetensors *opened;
    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    memset(file + 8 + length, 0, 8);
    if (CHECK_EQUAL(ed_safetensors_open_memory(env, "x", file, 16 + length, &opened), ENCDIFF_OK))
        CHECK_TEXT(ed_safetensors_at(opened, 0)->name, "a\xc3\xa9\xf0\x9f\x98\x80/");
    ed_safetensors_close(env, opened);
    workplace_close(&w);
}

/* Any byte changed to any of some values: a status or a file that can be read, never a crash (run under ASan). */
static void damaged_safetensors_do_not_crash(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t *data;
    size_t size;
    int64_t *scratch = malloc(8192);
    write_sample(env, &data, &size);
    for (size_t i = 0; i < size; i++)
        for (int change = 1; change < 256; change *= 3) {
            ed_safetensors *file;
            data[i] = (uint8_t)(data[i] + change);
            if (ed_safetensors_open_memory(env, "x", data, size, &file) == ENCDIFF_OK)
                for (size_t t = 0; t < ed_safetensors_count(file); t++) {
                    const ed_st_tensor *tensor = ed_safetensors_at(file, t);
                    if (tensor->count > 1024) continue;
                    ed_safetensors_read_f32(env, file, tensor, (float *)scratch);
                    ed_safetensors_read_i64(env, file, tensor, scratch);
                }
            ed_safetensors_close(env, file);
            data[i] = (uint8_t)(data[i] - change);
        }
    free(scratch);
    ed_free(env, data);
    workplace_close(&w);
}

static encdiff_status safetensors_round_trip(ed_env *env, void *user)
{
    ed_safetensors *file;
    ED_TRY(ed_safetensors_write(env, user, items, ED_COUNT(items), metadata, ED_COUNT(metadata)));
    ED_TRY(ed_safetensors_open(env, user, &file));
    ed_safetensors_close(env, file);
    return ENCDIFF_OK;
}

static void safetensors_without_memory_leave_nothing(void)
{
    workplace w;
    workplace_open(&w);
    try_without_memory(&w, safetensors_round_trip, (void *)(uintptr_t)in_folder(&w, "m.safetensors"));
    CHECK_EQUAL(count_files(w.folder, "tmp"), 0);
    workplace_close(&w);
}

static encdiff_status fail_to_fill(ed_env *env, void *user, void *buffer)
{
    (void)user, (void)buffer;
    return ed_fail(env, ENCDIFF_ERROR_DEVICE, "no");
}

static void a_failed_write_keeps_the_old_file(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_st_item item = items[3];
    ed_safetensors *file;
    const char *path = in_folder(&w, "m.safetensors");
    CHECK_EQUAL(ed_safetensors_write(env, path, items, 1, NULL, 0), ENCDIFF_OK);
    item.fill = fail_to_fill;
    CHECK_EQUAL(ed_safetensors_write(env, path, &item, 1, NULL, 0), ENCDIFF_ERROR_DEVICE);
    CHECK_EQUAL(count_files(w.folder, "tmp"), 0);
    CHECK_EQUAL(ed_safetensors_open(env, path, &file), ENCDIFF_OK);
    ed_safetensors_close(env, file);
    CHECK_EQUAL(ed_safetensors_write(env, "/nonexistent/x", items, 1, NULL, 0), ENCDIFF_ERROR_IO);
    CHECK_EQUAL(ed_safetensors_write(env, w.folder, items, 1, NULL, 0), ENCDIFF_ERROR_IO);
    CHECK_EQUAL(ed_safetensors_open(env, in_folder(&w, "absent"), &file), ENCDIFF_ERROR_NOT_FOUND);
    CHECK_EQUAL(ed_safetensors_open(env, w.folder, &file), ENCDIFF_ERROR_IO);
    workplace_close(&w);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(safetensors_keep_tensors_and_metadata),    TEST(safetensors_are_readable_by_python),
        TEST(truncated_safetensors_are_refused),        TEST(malformed_safetensors_headers_are_refused),
        TEST(escaped_names_in_safetensors_are_read),    TEST(damaged_safetensors_do_not_crash),
        TEST(safetensors_without_memory_leave_nothing), TEST(a_failed_write_keeps_the_old_file),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
