/* Procedural datasets, views of datasets, and datasets in memory. */
#define _GNU_SOURCE
#include "data/data.h"
#include "sets.h"

/* ---------------------------------------------------------------- procedural */

static void shapes3d_counts_its_factors_as_the_published_file(void)
{
    static const int32_t sizes[6] = {10, 10, 10, 8, 4, 15};
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, "procedural:shapes3d", NULL);
    ed_dataset_info info = info_of(set);
    CHECK(info.size == 480000 && info.height == 64 && info.width == 64 && info.factors == 6 && info.complete);
    CHECK(memcmp(info.factor_sizes, sizes, sizeof sizes) == 0);
    CHECK_TEXT(info.factor_names[5], "orientation");
    CHECK_TEXT(info.format, "procedural");
    static const int64_t indices[] = {0, 1, 15, 60, 480, 4800, 48000, 479999, 123456};
    int32_t labels[6];
    for (size_t i = 0; i < ED_COUNT(indices); i++) {
        int64_t found;
        CHECK_EQUAL(ed_dataset_labels(env, set, 1, &indices[i], labels), ENCDIFF_OK);
        int64_t index = labels[0];
        for (int f = 1; f < 6; f++) index = index * sizes[f] + labels[f];
        CHECK_EQUAL(index, indices[i]);
        CHECK_EQUAL(ed_dataset_find(env, set, labels, &found), ENCDIFF_OK);
        CHECK_EQUAL(found, indices[i]);
    }
    labels[4] = 4;
    int64_t found;
    CHECK_EQUAL(ed_dataset_find(env, set, labels, &found), ENCDIFF_ERROR_ARGUMENT);
    uint8_t pixels[PIXELS];
    CHECK_EQUAL(ed_dataset_read(env, set, 1, (int64_t[]){480000}, pixels), ENCDIFF_ERROR_ARGUMENT);
    CHECK_EQUAL(ed_dataset_read(env, set, 1, (int64_t[]){-1}, pixels), ENCDIFF_ERROR_ARGUMENT);
    ed_dataset_free(env, set);
    workplace_close(&w);
}

/* Every geometry, with many colours. A change of the scenes changes what was learnt from them: it must be meant. */
static void shapes3d_renders_the_same_bytes_everywhere(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, "procedural:shapes3d", NULL);
    uint8_t pixels[PIXELS];
    uint64_t hash = 14695981039346656037u;
    for (int64_t i = 0; i < 480; i++) {
        int64_t index = (i * 777 + 13) % 1000 * 480 + i;
        CHECK_EQUAL(ed_dataset_read(env, set, 1, &index, pixels), ENCDIFF_OK);
        hash = hash_bytes(hash, pixels, sizeof pixels);
    }
    CHECK_THAT(hash == 0xdc02b508aa2aaeb1u, "the hash is %016llx", (unsigned long long)hash);
    ed_dataset_free(env, set);
    workplace_close(&w);
}

/* Pixels that differ by more than rounding. */
static int changed_pixels(const uint8_t *a, const uint8_t *b)
{
    int changed = 0;
    for (int i = 0; i < PIXELS; i += 3)
        changed += abs(a[i] - b[i]) + abs(a[i + 1] - b[i + 1]) + abs(a[i + 2] - b[i + 2]) > 6;
    return changed;
}

static void each_factor_changes_its_part_of_the_picture(void)
{
    static const int64_t steps[6] = {48000, 4800, 480, 60, 15, 1};
    static const int least[6] = {900, 900, 100, 60, 20, 100}, most[6] = {3000, 3000, 1400, 2500, 2500, 4096};
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, "procedural:shapes3d", NULL);
    uint8_t a[PIXELS], b[PIXELS];
    for (int64_t i = 0; i < 60; i++) {
        int f = (int)(i % 6);
        int64_t index = (i * 104729 + 5) % 230000;
        int32_t labels[6];
        CHECK_EQUAL(ed_dataset_labels(env, set, 1, &index, labels), ENCDIFF_OK);
        int64_t other = labels[f] ? index - steps[f] : index + steps[f];
        ed_dataset_read(env, set, 1, &index, a);
        ed_dataset_read(env, set, 1, &other, b);
        int changed = changed_pixels(a, b);
        CHECK_THAT(changed >= least[f] && changed <= most[f], "factor %d at %lld changes %d pixels", f,
                   (long long)index, changed);
    }
    ed_dataset_free(env, set);
    workplace_close(&w);
}

static void unknown_sources_are_refused(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    check_refused(env, "procedural:shapes4d", NULL, ENCDIFF_ERROR_NOT_FOUND, "there are: shapes3d");
    check_refused(env, in_folder(&w, "absent"), NULL, ENCDIFF_ERROR_NOT_FOUND, "absent");
    put_file(in_folder(&w, "text"), "some text", 9);
    check_refused(env, w.path, NULL, ENCDIFF_ERROR_FORMAT, "not a format that holds images");
    check_refused(env, w.path, &(ed_dataset_options){.format = "tar"}, ENCDIFF_ERROR_ARGUMENT, "tar");
    put_file(in_folder(&w, "empty"), "", 0);
    check_refused(env, w.path, NULL, ENCDIFF_ERROR_FORMAT, "nearly empty");
    check_refused(env, "procedural:shapes3d", &(ed_dataset_options){.height = -1}, ENCDIFF_ERROR_ARGUMENT, "-1");
    workplace_close(&w);
}

/* ---------------------------------------------------------------- views */

static void ranges_are_taken_from_the_source(void)
{
    static const struct {
        const char *source;
        int64_t begin, size;
    } cases[] = {{"procedural:shapes3d[5:9]", 5, 4},
                 {"procedural:shapes3d[:7]", 0, 7},
                 {"procedural:shapes3d[479990:]", 479990, 10},
                 {"procedural:shapes3d[:]", 0, 480000}};
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *all = open_set(env, "procedural:shapes3d", NULL);
    for (size_t i = 0; i < ED_COUNT(cases); i++) {
        ed_dataset *set = open_set(env, cases[i].source, NULL);
        uint8_t a[PIXELS], b[PIXELS];
        CHECK_EQUAL(info_of(set).size, cases[i].size);
        CHECK_EQUAL(ed_dataset_read(env, set, 1, (int64_t[]){cases[i].size - 1}, a), ENCDIFF_OK);
        CHECK_EQUAL(ed_dataset_read(env, all, 1, (int64_t[]){cases[i].begin + cases[i].size - 1}, b), ENCDIFF_OK);
        CHECK(memcmp(a, b, sizeof a) == 0);
        CHECK_EQUAL(ed_dataset_read(env, set, 1, &cases[i].size, a), ENCDIFF_ERROR_ARGUMENT);
        ed_dataset_free(env, set);
    }
    check_refused(env, "procedural:shapes3d[9:5]", NULL, ENCDIFF_ERROR_SHAPE, "[9:5]");
    check_refused(env, "procedural:shapes3d[0:480001]", NULL, ENCDIFF_ERROR_SHAPE, "480000");
    static const char *const malformed[] = {"[1]", "[a:b]", "[-1:5]", "[1:2:3]", "[99999999999999999999:]", "[]"};
    for (size_t i = 0; i < ED_COUNT(malformed); i++) {
        char source[80];
        snprintf(source, sizeof source, "procedural:shapes3d%s", malformed[i]);
        check_refused(env, source, NULL, ENCDIFF_ERROR_ARGUMENT, "[begin:end]");
    }
    ed_dataset_free(env, all);
    workplace_close(&w);
}

static void split_and_shuffle_are_partitions(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set = open_set(env, "procedural:shapes3d[1000:2000]", NULL), *first, *second, *mixed, *same, *none[2];
    CHECK_EQUAL(ed_dataset_split(env, set, 300, 7, &first, &second), ENCDIFF_OK);
    CHECK_EQUAL(ed_dataset_shuffle(env, set, 3, &mixed), ENCDIFF_OK);
    CHECK_EQUAL(ed_dataset_shuffle(env, set, 3, &same), ENCDIFF_OK);
    CHECK(info_of(first).size == 300 && info_of(second).size == 700 && info_of(mixed).size == 1000);
    static int seen[2][1000];
    int64_t last = -1, moved = 0;
    for (int64_t i = 0; i < 1000; i++) {
        int32_t labels[6], again[6];
        int64_t from;
        ed_dataset *part = i < 300 ? first : second;
        CHECK_EQUAL(ed_dataset_labels(env, part, 1, (int64_t[]){i < 300 ? i : i - 300}, labels), ENCDIFF_OK);
        CHECK_EQUAL(ed_dataset_find(env, set, labels, &from), ENCDIFF_OK);
        if (i == 300) last = -1;
        CHECK(from > last); /* parts keep the order */
        last = from;
        seen[0][from]++;
        CHECK_EQUAL(ed_dataset_labels(env, mixed, 1, &i, labels), ENCDIFF_OK);
        CHECK_EQUAL(ed_dataset_labels(env, same, 1, &i, again), ENCDIFF_OK);
        CHECK(memcmp(labels, again, sizeof labels) == 0);
        CHECK_EQUAL(ed_dataset_find(env, set, labels, &from), ENCDIFF_OK);
        moved += from != i;
        seen[1][from]++;
    }
    for (int i = 0; i < 1000; i++) CHECK(seen[0][i] == 1 && seen[1][i] == 1);
    CHECK(moved > 900);
    CHECK_EQUAL(ed_dataset_split(env, set, 1000, 7, &none[0], &none[1]), ENCDIFF_ERROR_ARGUMENT);
    ed_dataset_free(env, set); /* views hold what they need */
    uint8_t pixels[PIXELS];
    CHECK_EQUAL(ed_dataset_read(env, first, 1, (int64_t[]){0}, pixels), ENCDIFF_OK);
    ed_dataset_free(env, first);
    ed_dataset_free(env, second);
    ed_dataset_free(env, mixed);
    ed_dataset_free(env, same);
    workplace_close(&w);
}

/* ---------------------------------------------------------------- memory */

static void memory_formats_hold_the_same_images(void)
{
    enum { N = 3, H = 40, W = 33, COUNT = N * H * W * 3 };
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t *u8 = malloc(COUNT), *back = malloc(COUNT);
    float *nhwc = malloc(COUNT * 4), *nchw = malloc(COUNT * 4), *floats = malloc(COUNT * 4);
    for (int i = 0; i < COUNT; i++) u8[i] = (uint8_t)(i * 7 % 251);
    ed_pixels_to_f32(u8, COUNT, nhwc);
    for (int i = 0; i < N; i++) ed_pixels_separate(nhwc + i * H * W * 3, H * W, nchw + i * H * W * 3);
    ed_dataset_arrays arrays[3] = {{.u8 = u8}, {.f32 = nhwc}, {.f32 = nchw, .planar = true}};
    for (int a = 0; a < 3; a++) {
        ed_dataset *set;
        arrays[a].n = N, arrays[a].height = H, arrays[a].width = W;
        if (!CHECK_EQUAL(ed_dataset_from_arrays(env, &arrays[a], &set), ENCDIFF_OK)) continue;
        CHECK_EQUAL(info_of(set).exact, a > 0);
        CHECK_EQUAL(ed_dataset_read(env, set, N, (int64_t[]){0, 1, 2}, back), ENCDIFF_OK);
        CHECK(memcmp(back, u8, COUNT) == 0);
        CHECK_EQUAL(ed_dataset_read_f32(env, set, N, (int64_t[]){0, 1, 2}, floats), ENCDIFF_OK);
        CHECK(memcmp(floats, nhwc, COUNT * 4) == 0);
        CHECK_EQUAL(ed_dataset_labels(env, set, 1, (int64_t[]){0}, (int32_t[]){0}), ENCDIFF_ERROR_UNSUPPORTED);
        ed_dataset_free(env, set);
    }
    nchw[2 * H * W * 3 + 5] = NAN;
    ed_dataset *set;
    CHECK_EQUAL(ed_dataset_from_arrays(env, &arrays[2], &set), ENCDIFF_OK);
    CHECK_EQUAL(ed_dataset_read(env, set, 2, (int64_t[]){0, 2}, back), ENCDIFF_ERROR_NUMERIC);
    CHECK(strstr(env->message, "image 2") != NULL);
    ed_dataset_free(env, set);
    arrays[0].n = 0;
    CHECK_EQUAL(ed_dataset_from_arrays(env, &arrays[0], &set), ENCDIFF_ERROR_SHAPE);
    free(u8), free(back), free(nhwc), free(nchw), free(floats);
    workplace_close(&w);
}

static void labels_in_memory_are_checked_and_found(void)
{
    static const uint8_t pixels[6 * 3];
    static const int32_t labels[12] = {0, 0, 0, 1, 1, 0, 1, 1, 2, 0, 2, 1}, wrong[12] = {0, 0, 0, 9};
    static const int32_t sizes[2] = {3, 2};
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_dataset *set;
    ed_dataset_arrays arrays = {.u8 = pixels, .n = 6, .height = 1, .width = 1, .factors = 2, .labels = labels};
    if (CHECK_EQUAL(ed_dataset_from_arrays(env, &arrays, &set), ENCDIFF_OK)) {
        int64_t index;
        ed_dataset_info info = info_of(set);
        CHECK(info.complete && info.factor_sizes[0] == 3 && info.factor_sizes[1] == 2);
        CHECK_TEXT(info.factor_names[1], "factor 1");
        CHECK_EQUAL(ed_dataset_find(env, set, (int32_t[]){2, 1}, &index), ENCDIFF_OK);
        CHECK_EQUAL(index, 5);
        ed_dataset_free(env, set);
    }
    arrays.labels = wrong;
    arrays.factor_sizes = sizes;
    CHECK_EQUAL(ed_dataset_from_arrays(env, &arrays, &set), ENCDIFF_ERROR_ARGUMENT);
    arrays.factor_sizes = NULL;
    if (CHECK_EQUAL(ed_dataset_from_arrays(env, &arrays, &set), ENCDIFF_OK)) {
        int64_t index;
        CHECK(!info_of(set).complete);
        CHECK_EQUAL(ed_dataset_find(env, set, (int32_t[]){0, 9}, &index), ENCDIFF_OK);
        CHECK_EQUAL(index, 1);
        CHECK_EQUAL(ed_dataset_find(env, set, (int32_t[]){0, 5}, &index), ENCDIFF_ERROR_NOT_FOUND);
        ed_dataset_free(env, set);
    }
    workplace_close(&w);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(shapes3d_counts_its_factors_as_the_published_file),
        TEST(shapes3d_renders_the_same_bytes_everywhere),
        TEST(each_factor_changes_its_part_of_the_picture),
        TEST(unknown_sources_are_refused),
        TEST(ranges_are_taken_from_the_source),
        TEST(split_and_shuffle_are_partitions),
        TEST(memory_formats_hold_the_same_images),
        TEST(labels_in_memory_are_checked_and_found),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
