/* Pictures: decoding, resizing, grids. Goldens are Pillow's. */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "io/grid.h"
#include "io/image.h"
#include "io/npy.h"
#include "io/pixels.h"
#include "io/resize.h"
#include "workplace.h"

#ifndef PILLOW
#define PILLOW "tests/data/pillow"
#endif

/* ---------------------------------------------------------------- pictures */

static int largest_difference(const uint8_t *a, const uint8_t *b, size_t count)
{
    int largest = 0;
    for (size_t i = 0; i < count; i++) largest = ED_MAX(largest, abs(a[i] - b[i]));
    return largest;
}

static const char *const pictures[] = {"rgb.png",    "grey.png", "bits.png",        "palette.png", "alpha.png",
                                       "grey16.png", "rgb.jpg",  "progressive.jpg", "grey.jpg",    "cmyk.jpg"};

static void pictures_decode_as_pillow_does(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    char path[256];
    for (size_t i = 0; i < ED_COUNT(pictures); i++) {
        ed_image image, size;
        ed_array golden;
        snprintf(path, sizeof path, PILLOW "/%s", pictures[i]);
        if (!CHECK_EQUAL(ed_array_read(env, PILLOW "/goldens.npz", pictures[i], ED_U8, &golden), ENCDIFF_OK)) continue;
        if (CHECK_THAT(ed_image_read(env, path, &image) == ENCDIFF_OK, "%s", env->message)) {
            CHECK(image.height == golden.dim[0] && image.width == golden.dim[1]);
            /* libjpeg's versions differ in the last bits of chroma upsampling */
            int allowed = ed_ends_with(path, ".jpg") ? 3 : 0;
            int found = largest_difference(image.rgb, golden.data, (size_t)golden.count);
            CHECK_THAT(found <= allowed, "%s differs by %d", pictures[i], found);
            CHECK_EQUAL(ed_image_read_size(env, path, &size), ENCDIFF_OK);
            CHECK(size.height == image.height && size.width == image.width && !size.rgb);
            ed_free(env, image.rgb);
        }
        ed_free(env, golden.data);
    }
    workplace_close(&w);
}

static void resizing_equals_pillow(void)
{
    static const char *const filters[] = {"box", "bilinear", "bicubic", "lanczos"};
    static const int sizes[][2] = {{16, 16}, {7, 5}, {29, 11}, {11, 23}, {40, 52}, {1, 1}, {29, 23}};
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_image image;
    char name[64];
    uint8_t out[40 * 52 * 3];
    if (!CHECK_EQUAL(ed_image_read(env, PILLOW "/rgb.png", &image), ENCDIFF_OK)) return;
    ed_window window = {.rgb = image.rgb, .stride = (size_t)image.width, .height = image.height, .width = image.width};
    for (int f = 0; f < 4; f++)
        for (size_t s = 0; s < ED_COUNT(sizes); s++) {
            ed_array golden;
            snprintf(name, sizeof name, "%s_%dx%d", filters[f], sizes[s][0], sizes[s][1]);
            if (!CHECK_EQUAL(ed_array_read(env, PILLOW "/goldens.npz", name, ED_U8, &golden), ENCDIFF_OK)) continue;
            CHECK_EQUAL(ed_resize(env, &window, (ed_filter)f, sizes[s][0], sizes[s][1], out), ENCDIFF_OK);
            int found = largest_difference(out, golden.data, (size_t)golden.count);
            CHECK_THAT(found == 0, "%s differs by %d", name, found);
            ed_free(env, golden.data);
        }
    ed_free(env, image.rgb);
    workplace_close(&w);
}

/* Resizing a window reads nothing around it. */
static void windows_resize_as_if_cut_out(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_image image;
    uint8_t cut[10 * 8 * 3], a[10 * 8 * 3], b[10 * 8 * 3];
    if (!CHECK_EQUAL(ed_image_read(env, PILLOW "/rgb.png", &image), ENCDIFF_OK)) return;
    for (int y = 0; y < 10; y++) memcpy(cut + y * 24, image.rgb + ((y + 4) * image.width + 7) * 3, 24);
    ed_window window = {image.rgb, (size_t)image.width, 4, 7, 10, 8}, alone = {cut, 8, 0, 0, 10, 8};
    static const int sizes[][2] = {{5, 6}, {10, 4}, {4, 8}, {10, 8}};
    for (size_t i = 0; i < ED_COUNT(sizes); i++) {
        CHECK_EQUAL(ed_resize(env, &window, ED_FILTER_BICUBIC, sizes[i][0], sizes[i][1], a), ENCDIFF_OK);
        CHECK_EQUAL(ed_resize(env, &alone, ED_FILTER_BICUBIC, sizes[i][0], sizes[i][1], b), ENCDIFF_OK);
        CHECK(memcmp(a, b, (size_t)(sizes[i][0] * sizes[i][1] * 3)) == 0);
    }
    ed_window crop = ed_crop_centre(image.rgb, 29, 23, 10, 10);
    CHECK(crop.height == 23 && crop.width == 23 && crop.top == 3 && crop.left == 0);
    crop = ed_crop_centre(image.rgb, 29, 23, 40, 10);
    CHECK(crop.height == 29 && crop.width == 7 && crop.top == 0 && crop.left == 8);
    ed_free(env, image.rgb);
    workplace_close(&w);
}

static void truncated_and_damaged_pictures_do_not_crash(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    char path[256], *data;
    size_t size;
    for (size_t i = 0; i < ED_COUNT(pictures); i++) {
        ed_image image;
        snprintf(path, sizeof path, PILLOW "/%s", pictures[i]);
        if (!CHECK_EQUAL(ed_read_file(env, path, 1 << 20, &data, &size), ENCDIFF_OK)) continue;
        for (size_t n = 0; n + 2 < size; n += 1 + n / 64) {
            encdiff_status status = ed_image_decode(env, "x", (uint8_t *)data, n, &image);
            CHECK_THAT(status == ENCDIFF_ERROR_FORMAT, "%s cut to %zu bytes: %d", path, n, status);
            ed_free(env, image.rgb);
        }
        for (size_t at = 0; at < size; at += 1 + at / 128) {
            data[at] = (char)(data[at] ^ 0x55);
            ed_image_decode(env, "x", (uint8_t *)data, size, &image);
            ed_free(env, image.rgb);
            data[at] = (char)(data[at] ^ 0x55);
        }
        ed_free(env, data);
    }
    workplace_close(&w);
}

/* A header may claim any size: 2^31 - 1 pixels a side in a file of 100 bytes. */
static void absurd_picture_sizes_are_refused_before_memory_is_taken(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t *data;
    size_t size, peak = atomic_load(&w.memory.peak);
    ed_image image;
    static const uint8_t pixel[3] = {1, 2, 3};
    CHECK_EQUAL(ed_png_encode(env, pixel, 1, 1, 9, &data, &size), ENCDIFF_OK);
    peak = atomic_load(&w.memory.peak);
    static const uint8_t header[] = {0x7F, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 8,
                                     2,    0,    0,    0,    0x8D, 0x5B, 0x5C, 0x3E};
    memcpy(data + 16, header, sizeof header);
    CHECK_EQUAL(ed_image_decode(env, "x", data, size, &image), ENCDIFF_ERROR_FORMAT);
    CHECK(atomic_load(&w.memory.peak) < peak + (1 << 20));
    CHECK_EQUAL(ed_image_decode(env, "x", (const uint8_t *)"GIF89a..", 8, &image), ENCDIFF_ERROR_FORMAT);
    ed_free(env, data);
    workplace_close(&w);
}

static encdiff_status picture_round_trip(ed_env *env, void *user)
{
    ed_image image;
    uint8_t small[16 * 16 * 3];
    ED_TRY(ed_image_read(env, PILLOW "/palette.png", &image));
    ed_window window = {image.rgb, (size_t)image.width, 0, 0, image.height, image.width};
    encdiff_status status = ed_resize(env, &window, ED_FILTER_BICUBIC, 16, 16, small);
    if (status == ENCDIFF_OK) status = ed_png_write(env, user, small, 16, 16, 6);
    ed_free(env, image.rgb);
    if (status != ENCDIFF_OK) return status;
    ED_TRY(ed_image_read(env, PILLOW "/cmyk.jpg", &image));
    ed_free(env, image.rgb);
    ED_TRY(ed_image_read(env, user, &image));
    status = memcmp(image.rgb, small, sizeof small) ? ENCDIFF_ERROR_INTERNAL : ENCDIFF_OK;
    ed_free(env, image.rgb);
    return status;
}

static void pictures_without_memory_leave_nothing(void)
{
    workplace w;
    workplace_open(&w);
    try_without_memory(&w, picture_round_trip, (void *)(uintptr_t)in_folder(&w, "x.png"));
    CHECK_EQUAL(count_files(w.folder, "tmp"), 0);
    workplace_close(&w);
}

/* ---------------------------------------------------------------- pixels and grids */

static void pixels_are_rounded_and_clamped(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    float in[256 + 6], back[256];
    uint8_t out[256 + 6], all[256];
    for (int i = 0; i < 256; i++) all[i] = (uint8_t)i;
    ed_pixels_to_f32(all, 256, in);
    CHECK(in[0] == -1 && in[255] == 1);
    memcpy(back, in, sizeof back);
    in[256] = -7;
    in[257] = 9;
    in[258] = INFINITY;
    in[259] = -INFINITY;
    in[260] = 0;                 /* 127.5 */
    in[261] = 0.5f / 127.5f - 1; /* 0.5 */
    CHECK_EQUAL(ed_pixels_to_u8(env, in, 1, 262, 0, out), ENCDIFF_OK);
    CHECK(memcmp(out, all, 256) == 0);
    CHECK(out[256] == 0 && out[257] == 255 && out[258] == 255 && out[259] == 0 && out[260] == 128);
    in[3 * 7 + 2] = NAN;
    CHECK_EQUAL(ed_pixels_to_u8(env, in, 12, 3, 100, out), ENCDIFF_ERROR_NUMERIC);
    CHECK_TEXT(env->message, "image 107 has pixels that are NaN");
    float planes[6] = {1, 2, 3, 4, 5, 6}, mixed[6], again[6];
    ed_pixels_interleave(planes, 2, mixed);
    CHECK(mixed[0] == 1 && mixed[1] == 3 && mixed[2] == 5 && mixed[3] == 2);
    ed_pixels_separate(mixed, 2, again);
    CHECK(memcmp(planes, again, sizeof planes) == 0);
    workplace_close(&w);
}

static void grids_place_every_image(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    uint8_t images[5][4 * 3 * 3];
    ed_image grid;
    for (int i = 0; i < 5; i++) memset(images[i], 10 * (i + 1), sizeof images[i]);
    static const char *const columns[] = {"a", NULL, "long label"}, *const rows[] = {"row 1", "row 2"};
    ed_grid_options options = {.columns = 3, .scale = 2, .gap = 1, .column_labels = columns, .row_labels = rows};
    CHECK_EQUAL(ed_grid_make(env, images[0], 5, 4, 3, &options, &grid), ENCDIFF_OK);
    int left = grid.width - 3 * 7, top = grid.height - 2 * 9;
    for (int i = 0; i < 5; i++) {
        int y = top + i / 3 * 9, x = left + i % 3 * 7;
        CHECK_EQUAL(grid.rgb[(y * grid.width + x) * 3], 10 * (i + 1));
        CHECK_EQUAL(grid.rgb[((y + 7) * grid.width + x + 5) * 3], 10 * (i + 1));
        CHECK_EQUAL(grid.rgb[((y + 8) * grid.width + x) * 3], 255);
    }
    ed_free(env, grid.rgb);
    CHECK_EQUAL(ed_grid_write(env, in_folder(&w, "g.png"), images[0], 5, 4, 3, NULL), ENCDIFF_OK);
    CHECK_EQUAL(ed_image_read(env, w.path, &grid), ENCDIFF_OK);
    CHECK(grid.width == 3 * 5 + 2 && grid.height == 2 * 6 + 2);
    ed_free(env, grid.rgb);
    CHECK_EQUAL(ed_grid_make(env, images[0], 0, 4, 3, NULL, &grid), ENCDIFF_ERROR_SHAPE);
    options.scale = 64;
    CHECK_EQUAL(ed_grid_make(env, images[0], 5, 4000, 3, &options, &grid), ENCDIFF_ERROR_SHAPE);
    workplace_close(&w);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(pictures_decode_as_pillow_does),
        TEST(resizing_equals_pillow),
        TEST(windows_resize_as_if_cut_out),
        TEST(truncated_and_damaged_pictures_do_not_crash),
        TEST(absurd_picture_sizes_are_refused_before_memory_is_taken),
        TEST(pictures_without_memory_leave_nothing),
        TEST(pixels_are_rounded_and_clamped),
        TEST(grids_place_every_image),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
