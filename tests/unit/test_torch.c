/* PyTorch's files: what torch.save() wrote, what it never writes, and what somebody made to do harm. */
#define _GNU_SOURCE
#include <limits.h>

#include "io/npy.h"
#include "io/pickle.h"
#include "io/tensor_file.h"
#include "io/torch.h"
#include "workplace.h"

#ifndef TORCH_FILES
#define TORCH_FILES "tests/data/torch"
#endif

/* ---------------------------------------------------------------- what torch.save() wrote */

static void check_tensor(ed_env *env, ed_torch *file, const char *name, const ed_array *wanted)
{
    const ed_st_tensor *t = ed_torch_find(file, name);
    if (!CHECK_THAT(t != NULL, "%s is missing", name)) return;
    CHECK_EQUAL(t->rank, wanted->rank);
    for (int i = 0; i < t->rank && i < wanted->rank; i++) CHECK_EQUAL(t->dim[i], wanted->dim[i]);
    if (!CHECK_EQUAL(t->count, wanted->count)) return;
    float *values = malloc((size_t)t->count * sizeof *values + 1);
    CHECK_EQUAL(ed_torch_read_f32(env, file, t, values), ENCDIFF_OK);
    CHECK_THAT(memcmp(values, wanted->data, (size_t)t->count * sizeof *values) == 0, "%s has other numbers", name);
    free(values);
}

/* Every array of expected.npz is there as a tensor, bit for bit, and nothing else. */
static void check_file(ed_env *env, const char *folder, const char *name)
{
    char path[256], arrays[256], member[256];
    ed_torch *file;
    ed_zip *zip;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(arrays, sizeof arrays, "%s/expected.npz", folder);
    if (!CHECK_THAT(ed_torch_open(env, path, &file) == ENCDIFF_OK, "%s", env->message)) return;
    if (CHECK_EQUAL(ed_zip_open(env, arrays, &zip), ENCDIFF_OK)) {
        CHECK_EQUAL(ed_torch_count(file), ed_zip_count(zip));
        for (size_t i = 0; i < ed_zip_count(zip); i++) {
            ed_array wanted;
            snprintf(member, sizeof member, "%s", ed_zip_at(zip, i)->name);
            if (!CHECK_EQUAL(ed_array_read(env, arrays, member, ED_F32, &wanted), ENCDIFF_OK)) continue;
            *strstr(member, ".npy") = 0;
            check_tensor(env, file, member, &wanted);
            ed_free(env, wanted.data);
        }
        ed_zip_close(env, zip);
    }
    ed_torch_close(env, file);
}

static void both_formats_are_read_bit_for_bit(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    check_file(env, TORCH_FILES, "zip.pth");
    check_file(env, TORCH_FILES, "legacy.pth");
    check_file(env, TORCH_FILES, "lightning.ckpt");
    workplace_close(&w);
}

static void files_that_torch_writes_now_are_read(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    const char *python = system("/usr/bin/python3 -c 'import torch' 2>/dev/null") == 0 ? "/usr/bin/python3" : "python3";
    char command[512];
    snprintf(command, sizeof command, "%s -c 'import torch, numpy' 2>/dev/null", python);
    if (system(command) != 0) {
        test_skip("python3 has no torch");
    } else {
        snprintf(command, sizeof command, "%s '%s/make_files.py' '%s'", python, TORCH_FILES, w.folder);
        CHECK_EQUAL(system(command), 0);
        check_file(env, w.folder, "zip.pth");
        check_file(env, w.folder, "legacy.pth");
        check_file(env, w.folder, "lightning.ckpt");
    }
    workplace_close(&w);
}

static void what_stands_beside_the_tensors_is_told(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_torch *file;
    int64_t step = 0;
    if (CHECK_EQUAL(ed_torch_open(env, TORCH_FILES "/lightning.ckpt", &file), ENCDIFF_OK)) {
        CHECK(ed_torch_integer(file, "global_step", &step));
        CHECK_EQUAL(step, 12345);
        CHECK(!ed_torch_integer(file, "state_dict", &step) && !ed_torch_integer(file, "absent", &step));
        CHECK(ed_torch_find(file, "callbacks.best") == NULL);
    }
    ed_torch_close(env, file);
    workplace_close(&w);
}

static void the_first_bytes_tell_the_format(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    static const float one = 1;
    static const char *const torch_files[] = {"/zip.pth", "/legacy.pth"};
    ed_st_item item = {.name = "a", .type = ED_ST_F32, .rank = 1, .dim = {1}, .data = &one};
    ed_tensor_file file;
    char path[256];
    CHECK_EQUAL(ed_safetensors_write(env, in_folder(&w, "a.pth"), &item, 1, NULL, 0), ENCDIFF_OK);
    CHECK_EQUAL(ed_tensor_file_open(env, w.path, &file), ENCDIFF_OK);
    CHECK(file.safetensors && !file.torch && ed_tensor_file_count(&file) == 1 && ed_tensor_file_find(&file, "a"));
    ed_tensor_file_close(env, &file);
    for (int i = 0; i < 2; i++) {
        float value = 0;
        snprintf(path, sizeof path, "%s%s", TORCH_FILES, torch_files[i]);
        CHECK_EQUAL(ed_tensor_file_open(env, path, &file), ENCDIFF_OK);
        CHECK(file.torch != NULL && ed_tensor_file_at(&file, 0) != NULL);
        CHECK_EQUAL(ed_tensor_file_read_f32(env, &file, ed_tensor_file_find(&file, "scalar"), &value), ENCDIFF_OK);
        CHECK(value == 2.5f);
        ed_tensor_file_close(env, &file);
    }
    put_file(in_folder(&w, "text"), "hello, world", 12);
    CHECK_EQUAL(ed_tensor_file_open(env, w.path, &file), ENCDIFF_ERROR_FORMAT);
    CHECK_EQUAL(ed_torch_open(env, w.path, &file.torch), ENCDIFF_ERROR_FORMAT);
    CHECK_EQUAL(ed_tensor_file_open(env, in_folder(&w, "absent"), &file), ENCDIFF_ERROR_NOT_FOUND);
    workplace_close(&w);
}

/* ---------------------------------------------------------------- pickles made by hand */

/* A zip with the pickle and one storage of 16 bytes under "archive/data/0". */
static const char *make_file(workplace *w, const void *pickle, size_t size, int level)
{
    static const uint8_t storage[16] = {0};
    ed_zip_writer *zip;
    const char *path = in_folder(w, "made.pth");
    CHECK_EQUAL(ed_zip_writer_create(&w->env, path, &zip), ENCDIFF_OK);
    CHECK_EQUAL(ed_zip_writer_begin(&w->env, zip, "archive/data.pkl", level), ENCDIFF_OK);
    CHECK_EQUAL(ed_zip_writer_add(&w->env, zip, pickle, size), ENCDIFF_OK);
    CHECK_EQUAL(ed_zip_writer_end(&w->env, zip), ENCDIFF_OK);
    CHECK_EQUAL(ed_zip_writer_begin(&w->env, zip, "archive/data/0", 0), ENCDIFF_OK);
    CHECK_EQUAL(ed_zip_writer_add(&w->env, zip, storage, sizeof storage), ENCDIFF_OK);
    CHECK_EQUAL(ed_zip_writer_end(&w->env, zip), ENCDIFF_OK);
    CHECK_EQUAL(ed_zip_writer_finish(&w->env, zip), ENCDIFF_OK);
    return path;
}

/* Opens to a failure of this status whose message has the words. */
static void check_refused(workplace *w, const void *pickle, size_t size, encdiff_status status, const char *words)
{
    ed_torch *file = NULL;
    encdiff_status got = ed_torch_open(&w->env, make_file(w, pickle, size, 0), &file);
    CHECK_THAT(got == status, "\"%s\": status %d, not %d: %s", words, got, status, w->env.message);
    CHECK_THAT(strstr(w->env.message, words) != NULL, "\"%s\" is not in \"%s\"", words, w->env.message);
    CHECK(strstr(w->env.message, "made.pth") != NULL);
    ed_torch_close(&w->env, file);
}

#define PUT(to, text) mempcpy(to, text, sizeof(text) - 1)
#define REFUSED(pickle, status, words) check_refused(&w, pickle, sizeof(pickle) - 1, ENCDIFF_ERROR_##status, words)

static void names_that_are_not_data_are_refused_by_name(void)
{
    workplace w;
    workplace_open(&w);
    REFUSED("\x80\x02"
            "cposix\nsystem\nX\x04\0\0\0trueq\0\x85q\1Rq\2.",
            UNSUPPORTED, "posix.system");
    REFUSED("\x80\x02}X\x01\0\0\0acos\nsystem\ns.", UNSUPPORTED, "os.system");
    REFUSED("\x80\x04\x8c\x08"
            "builtins\x8c\x04"
            "eval\x93\x8c\x03"
            "1+1\x85R.",
            UNSUPPORTED, "builtins.eval");
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
            UNSUPPORTED, "__globals__");
    REFUSED("\x80\x02"
            "ctorch.nn.modules.linear\nLinear\n)\x81}b.",
            UNSUPPORTED, "torch.nn.modules.linear.Linear");
    REFUSED("\x80\x02"
            "cnumpy.core.multiarray\n_reconstruct\n.",
            UNSUPPORTED, "_reconstruct");
    REFUSED("(S'ls'\nios\nsystem\n.", UNSUPPORTED, "opcode 0x53");
    REFUSED("\x80\x02(ios\nsystem\n.", UNSUPPORTED, "opcode 0x69");
    REFUSED("\x80\x02"
            "cpytorch_lightning.callbacks.x\nY\n)R.",
            UNSUPPORTED, "must not be called");
    REFUSED("\x80\x02"
            "cbuiltins\ndict\n)R.",
            UNSUPPORTED, "must not be called");
    REFUSED("\x80\x02"
            "ctorch\nFloatStorage\n)R.",
            UNSUPPORTED, "must not be called");
    REFUSED("\x80\x02]}b.", UNSUPPORTED, "attributes");
    workplace_close(&w);
}

static void malformed_pickles_are_refused(void)
{
    workplace w;
    workplace_open(&w);
    REFUSED("", FORMAT, "too early");
    REFUSED("\x80\x02", FORMAT, "too early");
    REFUSED("\x80\x09N.", FORMAT, "protocol");
    REFUSED("\x80\x02.", FORMAT, "one value");
    REFUSED("\x80\x02NN.", FORMAT, "one value");
    REFUSED("\x80\x02N(.", FORMAT, "one value");
    REFUSED("\x80\x02N.", FORMAT, "no dictionary");
    REFUSED("\x80\x02]h\x05.", FORMAT, "memo");
    REFUSED("\x80\x02]r\xff\xff\xff\xff.", FORMAT, "memo");
    REFUSED("\x80\x02q\0.", FORMAT, "empty stack");
    REFUSED("\x80\x02\x87.", FORMAT, "empty stack");
    REFUSED("\x80\x02(\x85.", FORMAT, "empty stack");
    REFUSED("\x80\x02N(a.", FORMAT, "empty stack");
    REFUSED("\x80\x02u.", FORMAT, "mark");
    REFUSED("\x80\x02(u.", FORMAT, "what is not there");
    REFUSED("\x80\x02](Nu.", FORMAT, "not such a container");
    REFUSED("\x80\x02}(Nu.", FORMAT, "not such a container");
    REFUSED("\x80\x02(Nd.", FORMAT, "without a value");
    REFUSED("\x80\x02X\xff\xff\xff\xff"
            "a.",
            FORMAT, "too early");
    REFUSED("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
            "a.",
            FORMAT, "too early");
    REFUSED("\x80\x02\x8b\xff\xff\xff\x7f.", FORMAT, "too early");
    REFUSED("\x80\x02"
            "cos",
            FORMAT, "too early");
    REFUSED("\x80\x02NNR.", FORMAT, "cannot be called");
    REFUSED("\x80\x02"
            "ccollections\nOrderedDict\nNR.",
            FORMAT, "cannot be called");
    REFUSED("\x80\x02"
            "ccollections\nOrderedDict\nK\1\x85R.",
            FORMAT, "no pairs");
    REFUSED("\x80\x02"
            "ccollections\nOrderedDict\n]K\1a\x85R.",
            FORMAT, "no pairs");
    REFUSED("\x80\x02"
            "ctorch\nSize\nN\x85R.",
            FORMAT, "no items");
    REFUSED("\x80\x02NQ.", FORMAT, "storage");
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_tensor_v2\n)R.",
            FORMAT, "impossible values");
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_parameter\nN\x85R.",
            FORMAT, "no tensor");
    REFUSED("\x80\x02\x8c\x01"
            "a\x93.",
            FORMAT, "empty stack");
    REFUSED("\x80\x02NN\x93.", FORMAT, "not text");
    workplace_close(&w);
}

/* A dictionary that holds itself ends at the limit of depth; names inside are never followed in circles. */
static void circles_end(void)
{
    workplace w;
    workplace_open(&w);
    REFUSED("\x80\x02}q\0X\1\0\0\0ah\0s.", FORMAT, "deeper");
    workplace_close(&w);
}

/* 10^12 paths through 12 dictionaries that each hold the one before ten times. */
static void shared_dictionaries_do_not_multiply_without_end(void)
{
    workplace w;
    workplace_open(&w);
    uint8_t pickle[4096], *p = PUT(pickle, "\x80\x02}q\0");
    for (uint8_t i = 0; i < 12; i++) {
        p = PUT(p, "0}");
        for (char c = 'a'; c < 'k'; c++) {
            p = PUT(p, "X\1\0\0\0");
            *p++ = (uint8_t)c;
            *p++ = 'h';
            *p++ = i;
            *p++ = 's';
        }
        *p++ = 'q';
        *p++ = (uint8_t)(i + 1);
    }
    *p++ = '.';
    check_refused(&w, pickle, (size_t)(p - pickle), ENCDIFF_ERROR_FORMAT, "a million entries");
    workplace_close(&w);
}

/* {"a": tensor} of a storage ("storage", FloatStorage, KEY, "cpu", numel), with operands as given. */
static size_t tensor_pickle(uint8_t *out, const char *key, uint8_t numel, const char *rest, size_t rest_size)
{
    uint8_t *p = out;
    p = PUT(p, "\x80\x02}X\1\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX");
    *p++ = (uint8_t)strlen(key);
    p = PUT(p, "\0\0\0");
    p = mempcpy(p, key, strlen(key));
    p = PUT(p, "X\3\0\0\0cpuK");
    *p++ = numel;
    p = PUT(p, "tQ");
    p = mempcpy(p, rest, rest_size);
    p = PUT(p, "\x89}tRs.");
    return (size_t)(p - out);
}

#define TENSOR(key, numel, rest) tensor_pickle(pickle, key, numel, rest, sizeof(rest) - 1)
#define BIG "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"

static void tensors_beyond_their_storage_are_refused(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t pickle[512];
    ed_torch *file = NULL;
    float values[4] = {1, 1, 1, 1};
    size_t size = TENSOR("0", 4, "K\0K\2K\2\x86K\2K\1\x86"); /* the good one */
    if (CHECK_THAT(ed_torch_open(env, make_file(&w, pickle, size, 0), &file) == ENCDIFF_OK, "%s", env->message)) {
        CHECK_EQUAL(ed_torch_read_f32(env, file, ed_torch_find(file, "a"), values), ENCDIFF_OK);
        CHECK(values[0] == 0 && values[3] == 0);
    }
    ed_torch_close(env, file);
    check_refused(&w, pickle, TENSOR("0", 4, "K\1K\2K\2\x86K\2K\1\x86"), ENCDIFF_ERROR_FORMAT, "beyond its storage");
    check_refused(&w, pickle, TENSOR("0", 4, "K\0K\2K\2\x86K\3K\1\x86"), ENCDIFF_ERROR_FORMAT, "beyond its storage");
    check_refused(&w, pickle, TENSOR("0", 4, "K\0" BIG BIG "\x86" BIG BIG "\x86"), ENCDIFF_ERROR_FORMAT,
                  "beyond its storage");
    check_refused(&w, pickle, TENSOR("0", 4, "K\0" BIG "\x85K\0\x85"), ENCDIFF_ERROR_FORMAT, "beyond its storage");
    check_refused(&w, pickle, TENSOR("0", 4, BIG "K\1\x85K\1\x85"), ENCDIFF_ERROR_FORMAT, "beyond its storage");
    check_refused(&w, pickle, TENSOR("0", 4, "K\0K\2\x85K\2K\1\x86"), ENCDIFF_ERROR_FORMAT, "impossible values");
    check_refused(&w, pickle, TENSOR("0", 4, "K\0J\xfe\xff\xff\xff\x85K\1\x85"), ENCDIFF_ERROR_FORMAT,
                  "impossible values");
    check_refused(&w, pickle, TENSOR("0", 4, "K\0K\2\x85J\xff\xff\xff\xff\x85"), ENCDIFF_ERROR_FORMAT,
                  "impossible values");
    check_refused(&w, pickle, TENSOR("0", 4, "K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1tK\1\x85"), ENCDIFF_ERROR_FORMAT,
                  "more than 8");
    check_refused(&w, pickle, TENSOR("0", 5, "K\0K\2\x85K\1\x85"), ENCDIFF_ERROR_FORMAT, "has 16 bytes, not 5 F32");
    check_refused(&w, pickle, TENSOR("0", 3, "K\0K\2\x85K\1\x85"), ENCDIFF_ERROR_FORMAT, "has 16 bytes, not 3 F32");
    check_refused(&w, pickle, TENSOR("1", 4, "K\0K\2\x85K\1\x85"), ENCDIFF_ERROR_FORMAT, "storage \"1\" is missing");
    check_refused(&w, pickle, TENSOR("../../data/0", 4, "K\0K\2\x85K\1\x85"), ENCDIFF_ERROR_FORMAT,
                  "storage \"../../data/0\" is missing");
    check_refused(&w, pickle, TENSOR("/etc/passwd", 4, "K\0K\2\x85K\1\x85"), ENCDIFF_ERROR_FORMAT, "is missing");
    workplace_close(&w);
}

static void bombs_are_refused_before_they_go_off(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    size_t size = ((size_t)64 << 20) + 1;
    uint8_t *zeros = calloc(size, 1);
    ed_torch *file = NULL;
    const char *path = make_file(&w, zeros, size, 9);
    ed_memory_init(&w.memory, &(ed_allocator){workplace_allocate, workplace_release, &w}); /* a fresh peak */
    CHECK_EQUAL(ed_torch_open(env, path, &file), ENCDIFF_ERROR_UNSUPPORTED);
    CHECK(strstr(env->message, "pickle has") != NULL);
    CHECK(atomic_load(&w.memory.peak) < 1 << 20);
    free(zeros);
    workplace_close(&w);
}

/* ---------------------------------------------------------------- mutations */

static uint8_t *read_all(const char *name, size_t *size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", TORCH_FILES, name);
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(65536);
    *size = file ? fread(data, 1, 65536, file) : 0;
    if (file) fclose(file);
    CHECK(*size > 1000);
    return data;
}

/* Open and read everything: any failure will do, but it must be one that bad data has. */
static encdiff_status try_all(ed_env *env, const char *path)
{
    ed_torch *file = NULL;
    encdiff_status status = ed_torch_open(env, path, &file);
    for (size_t i = 0; file && i < ed_torch_count(file); i++) {
        const ed_st_tensor *t = ed_torch_at(file, i);
        if (t->count > 1 << 20) continue;
        float *values = malloc((size_t)t->count * sizeof *values + 1);
        encdiff_status read = ed_torch_read_f32(env, file, t, values);
        if (status == ENCDIFF_OK) status = read;
        free(values);
    }
    ed_torch_close(env, file);
    CHECK_THAT(status == ENCDIFF_OK || status == ENCDIFF_ERROR_FORMAT || status == ENCDIFF_ERROR_UNSUPPORTED,
               "status %d: %s", status, env->message);
    return status;
}

static void truncated_files_are_refused(void)
{
    static const char *const names[] = {"zip.pth", "legacy.pth", "lightning.ckpt"};
    workplace w;
    ed_env *env = workplace_open(&w);
    for (size_t k = 0; k < ED_COUNT(names); k++) {
        size_t size;
        uint8_t *data = read_all(names[k], &size);
        for (size_t n = 0; n < size; n += 1 + n / 64) {
            put_file(in_folder(&w, "short"), data, n);
            CHECK_THAT(try_all(env, w.path) != ENCDIFF_OK, "%s: %zu of %zu bytes were taken", names[k], n, size);
        }
        free(data);
    }
    workplace_close(&w);
}

static void changed_bytes_never_crash(void)
{
    static const char *const names[] = {"zip.pth", "legacy.pth", "lightning.ckpt"};
    workplace w;
    ed_env *env = workplace_open(&w);
    const char *more = getenv("ENCDIFF_FUZZ");
    int rounds = more ? atoi(more) : 1500;
    for (size_t k = 0; k < ED_COUNT(names); k++) {
        size_t size;
        uint8_t *data = read_all(names[k], &size), *changed = malloc(size);
        for (int i = 0; i < rounds; i++) {
            memcpy(changed, data, size);
            uint32_t changes = 1 + ed_below(7, ED_RANDOM_METRIC, k, (uint64_t)i * 16, 3);
            for (uint32_t c = 0; c < changes; c++) {
                uint32_t at = ed_below(7, ED_RANDOM_METRIC, k, (uint64_t)i * 16 + 1 + 2 * c, (uint32_t)size);
                changed[at] = (uint8_t)ed_below(7, ED_RANDOM_METRIC, k, (uint64_t)i * 16 + 2 + 2 * c, 256);
            }
            put_file(in_folder(&w, "changed"), changed, size);
            try_all(env, w.path);
        }
        free(data);
        free(changed);
    }
    workplace_close(&w);
}

static int any_global(void *user, const char *module, const char *name)
{
    (void)user, (void)module;
    return *name % 3 ? 1 : -1;
}

static encdiff_status any_call(ed_env *env, void *user, ed_pickle *p, int name, const ed_py *a, ed_py **out)
{
    (void)user, (void)name, (void)a;
    return ed_pickle_new(env, p, ED_PY_LIST, out);
}

static encdiff_status any_persistent(ed_env *env, void *user, ed_pickle *p, const ed_py *id, ed_py **out)
{
    (void)user, (void)id;
    return ed_pickle_new(env, p, ED_PY_NONE, out);
}

/* Programs for the machine itself, of opcodes and small operands rather than of any bytes. */
static void random_pickles_never_crash(void)
{
    static const uint8_t alphabet[] = "(012NJKMGXUTCB]})ltdasueqrhjcRbQ.\x80\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91"
                                      "\x93\x94\x95\x85\x86\x87\0\1\2\3\n";
    const ed_pickle_host host = {"random", any_global, any_call, any_persistent, NULL};
    workplace w;
    ed_env *env = workplace_open(&w);
    int finished = 0;
    for (uint64_t i = 0; i < 60000; i++) {
        uint8_t program[64];
        ed_pickle *pickle;
        ed_py *value;
        size_t used = 0;
        for (uint64_t k = 0; k < sizeof program; k++)
            program[k] = alphabet[ed_below(9, ED_RANDOM_DATA, i, k, sizeof alphabet - 1)];
        uint8_t *exact = malloc(sizeof program);
        memcpy(exact, program, sizeof program);
        CHECK_EQUAL(ed_pickle_create(env, &host, &pickle), ENCDIFF_OK);
        finished += ed_pickle_read(env, pickle, exact, sizeof program, &used, NULL, &value) == ENCDIFF_OK;
        CHECK(used <= sizeof program);
        ed_pickle_free(env, pickle);
        free(exact);
    }
    CHECK_THAT(finished > 100, "only %d programs came to their end: the test reaches little", finished);
    workplace_close(&w);
}

static encdiff_status open_and_close(ed_env *env, void *user)
{
    ed_torch *file = NULL;
    float values[24];
    encdiff_status status = ed_torch_open(env, user, &file);
    if (status == ENCDIFF_OK) status = ed_torch_read_f32(env, file, ed_torch_find(file, "shared.transposed"), values);
    ed_torch_close(env, file);
    return status;
}

static void running_out_of_memory_leaves_nothing_behind(void)
{
    workplace w;
    workplace_open(&w);
    try_without_memory(&w, open_and_close, TORCH_FILES "/zip.pth");
    try_without_memory(&w, open_and_close, TORCH_FILES "/legacy.pth");
    workplace_close(&w);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(both_formats_are_read_bit_for_bit),
        TEST(files_that_torch_writes_now_are_read),
        TEST(what_stands_beside_the_tensors_is_told),
        TEST(the_first_bytes_tell_the_format),
        TEST(names_that_are_not_data_are_refused_by_name),
        TEST(malformed_pickles_are_refused),
        TEST(circles_end),
        TEST(shared_dictionaries_do_not_multiply_without_end),
        TEST(tensors_beyond_their_storage_are_refused),
        TEST(bombs_are_refused_before_they_go_off),
        TEST(truncated_files_are_refused),
        TEST(changed_bytes_never_crash),
        TEST(random_pickles_never_crash),
        TEST(running_out_of_memory_leaves_nothing_behind),
    };
    return test_main(argc, argv, cases, ED_COUNT(cases));
}
