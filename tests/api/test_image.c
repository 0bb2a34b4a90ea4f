/* Image views and their conversion, arrays in files, pictures. */
#include <sys/stat.h>

#include "api.h"

static encdiff_context *context;
static counted_memory memory;

static void begin(void) { context = open_context(&memory, 1); }
static void end(void) { close_context(context, &memory); }

/* ---------------------------------------------------------------- views */

static void views_tell_their_bytes(void)
{
    encdiff_image_view view = {.format = ENCDIFF_IMAGE_U8_NHWC, .n = 2, .height = 3, .width = 5};
    CHECK_EQUAL(encdiff_image_view_bytes(&view), 2 * 3 * 5 * 3);
    view.format = ENCDIFF_IMAGE_F32_NCHW;
    CHECK_EQUAL(encdiff_image_view_bytes(&view), 2 * 3 * 5 * 3 * 4);
    CHECK_EQUAL(encdiff_image_view_bytes(NULL), 0);
    encdiff_image_view bad[] = {view, view, view, view, view, view};
    bad[0].n = 0;
    bad[1].height = -3;
    bad[2].width = 0;
    bad[3].format = 0;
    bad[4].format = 4;
    bad[5].n = bad[5].height = bad[5].width = INT32_MAX;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK_EQUAL(encdiff_image_view_bytes(&bad[i]), 0);
}

/* Every format to every other and back: no byte is lost. */
static void conversions_are_exact(void)
{
    enum { W = 4, H = 6, COUNT = 2 * W * H * 3 };
    uint8_t bytes[COUNT], again[COUNT];
    float between[COUNT], further[COUNT];
    begin();
    for (int i = 0; i < COUNT; i++) bytes[i] = (uint8_t)(i < 256 ? i : i * 7);
    for (int a = ENCDIFF_IMAGE_U8_NHWC; a <= ENCDIFF_IMAGE_F32_NCHW; a++)
        for (int b = ENCDIFF_IMAGE_U8_NHWC; b <= ENCDIFF_IMAGE_F32_NCHW; b++) {
            encdiff_image_view first = {bytes, ENCDIFF_IMAGE_U8_NHWC, 2, H, W}, second = {between, a, 2, H, W},
                               third = {further, b, 2, H, W}, last = {again, ENCDIFF_IMAGE_U8_NHWC, 2, H, W};
            memset(again, 0, sizeof again);
            OK(context, encdiff_image_convert(context, &first, &second));
            OK(context, encdiff_image_convert(context, &second, &third));
            OK(context, encdiff_image_convert(context, &third, &last));
            CHECK_THAT(memcmp(bytes, again, sizeof bytes) == 0, "format %d to %d", a, b);
        }
    encdiff_image_view u8 = {bytes, ENCDIFF_IMAGE_U8_NHWC, 2, H, W},
                       planar = {further, ENCDIFF_IMAGE_F32_NCHW, 2, H, W};
    OK(context, encdiff_image_convert(context, &u8, &planar));
    CHECK_NEAR(further[0], -1, 0, "0 is -1");
    CHECK_NEAR(further[1 * W * H + 2], bytes[2 * 3 + 1] / 127.5 - 1, 1e-6, "[1][0][2] is pixel 2's green");
    end();
}

static void bytes_are_rounded_and_clamped(void)
{
    float pixels[12] = {-7, -1, -1 + 0.49f / 127.5f, -1 + 0.51f / 127.5f, 0, 1, 1.5f, 100, 0.999f, 0.5f, -0.5f, 1e30f};
    static const int wanted[12] = {0, 0, 0, 1, 128, 255, 255, 255, 255, 191, 64, 255};
    uint8_t bytes[12];
    encdiff_image_view source = {pixels, ENCDIFF_IMAGE_F32_NHWC, 1, 2, 2},
                       target = {bytes, ENCDIFF_IMAGE_U8_NHWC, 1, 2, 2};
    begin();
    OK(context, encdiff_image_convert(context, &source, &target));
    for (int i = 0; i < 12; i++) CHECK_NEAR(bytes[i], wanted[i], pixels[i] == 0 ? 1 : 0, "127.5 is either");
    pixels[5] = NAN;
    FAILS(context, encdiff_image_convert(context, &source, &target), ENCDIFF_ERROR_NUMERIC, "0");
    target.width = 3;
    FAILS(context, encdiff_image_convert(context, &source, &target), ENCDIFF_ERROR_SHAPE, "2x3");
    FAILS(context, encdiff_image_convert(context, NULL, &target), ENCDIFF_ERROR_ARGUMENT, "source");
    FAILS(context, encdiff_image_convert(context, &source, NULL), ENCDIFF_ERROR_ARGUMENT, "target");
    CHECK_EQUAL(encdiff_image_convert(NULL, &source, &target), ENCDIFF_ERROR_ARGUMENT);
    end();
}

/* ---------------------------------------------------------------- arrays */

static void arrays_survive_files(void)
{
    static const struct {
        encdiff_type type;
        int32_t rank;
        int64_t shape[8];
        size_t size;
    } cases[] = {
        {ENCDIFF_TYPE_U8, 1, {24}, 1},
        {ENCDIFF_TYPE_I32, 2, {4, 6}, 4},
        {ENCDIFF_TYPE_I64, 3, {2, 3, 4}, 8},
        {ENCDIFF_TYPE_F32, 4, {1, 2, 3, 4}, 4},
        {ENCDIFF_TYPE_F64, 8, {2, 1, 3, 1, 4, 1, 1, 1}, 8},
        {ENCDIFF_TYPE_F32, 0, {0}, 4},
        {ENCDIFF_TYPE_F32, 2, {0, 5}, 4},
    };
    const char *path = temporary("array.npy");
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[24 * 8];
        encdiff_array array = {.data = bytes, .type = cases[i].type, .rank = cases[i].rank}, read;
        size_t count = 1;
        memcpy(array.shape, cases[i].shape, sizeof array.shape);
        for (int32_t d = 0; d < array.rank; d++) count *= (size_t)array.shape[d];
        for (size_t k = 0; k < sizeof bytes; k++) bytes[k] = (uint8_t)(k % 50); /* no NaN in any type */
        if (!OK(context, encdiff_array_write(context, path, &array))) continue;
        if (!OK(context, encdiff_array_read(context, path, NULL, ENCDIFF_TYPE_ANY, &read))) continue;
        CHECK_EQUAL(read.type, array.type);
        CHECK_EQUAL(read.rank, array.rank);
        CHECK(memcmp(read.shape, array.shape, (size_t)array.rank * sizeof *read.shape) == 0);
        CHECK(count == 0 || memcmp(read.data, bytes, count * cases[i].size) == 0);
        encdiff_context_release(context, read.data);
    }
    unlink(path);
    end();
}

static void arrays_are_converted_where_nothing_is_lost(void)
{
    const char *path = temporary("integers.npy");
    int64_t values[4] = {-3, 0, 255, 70000};
    encdiff_array array = {.data = values, .type = ENCDIFF_TYPE_I64, .rank = 1, .shape = {4}}, read;
    begin();
    OK(context, encdiff_array_write(context, path, &array));
    if (OK(context, encdiff_array_read(context, path, NULL, ENCDIFF_TYPE_F32, &read))) {
        const float *floats = read.data;
        CHECK(floats[0] == -3 && floats[3] == 70000);
        encdiff_context_release(context, read.data);
    }
    if (OK(context, encdiff_array_read(context, path, NULL, ENCDIFF_TYPE_I32, &read))) {
        const int32_t *integers = read.data;
        CHECK(integers[0] == -3 && integers[3] == 70000);
        encdiff_context_release(context, read.data);
    }
    FAILS(context, encdiff_array_read(context, path, NULL, ENCDIFF_TYPE_U8, &read), ENCDIFF_ERROR_FORMAT, path);
    CHECK(!read.data);
    values[0] = INT64_C(1) << 40;
    OK(context, encdiff_array_write(context, path, &array));
    FAILS(context, encdiff_array_read(context, path, NULL, ENCDIFF_TYPE_I32, &read), ENCDIFF_ERROR_FORMAT, path);
    unlink(path);
    end();
}

static void arrays_that_cannot_be_are_refused(void)
{
    const char *path = temporary("bad.npy");
    float value = 0;
    encdiff_array array = {.data = &value, .type = ENCDIFF_TYPE_F32, .rank = 1, .shape = {1}}, bad, read;
    begin();
    FAILS(context, encdiff_array_read(context, path, NULL, ENCDIFF_TYPE_ANY, &read), ENCDIFF_ERROR_NOT_FOUND, path);
    FAILS(context, encdiff_array_read(context, NULL, NULL, ENCDIFF_TYPE_ANY, &read), ENCDIFF_ERROR_ARGUMENT, "path");
    FAILS(context, encdiff_array_read(context, path, NULL, ENCDIFF_TYPE_ANY, NULL), ENCDIFF_ERROR_ARGUMENT, "array");
    FAILS(context, encdiff_array_read(context, path, NULL, (encdiff_type)9, &read), ENCDIFF_ERROR_ARGUMENT, "type");
    FAILS(context, encdiff_array_write(context, "/nonexistent/a.npy", &array), ENCDIFF_ERROR_IO, "/nonexistent/a.npy");
    FAILS(context, encdiff_array_write(context, path, NULL), ENCDIFF_ERROR_ARGUMENT, "array");
    bad = array;
    bad.rank = 9;
    FAILS(context, encdiff_array_write(context, path, &bad), ENCDIFF_ERROR_SHAPE, "9");
    bad = array;
    bad.shape[0] = -1;
    FAILS(context, encdiff_array_write(context, path, &bad), ENCDIFF_ERROR_SHAPE, "-1");
    bad = array;
    bad.rank = 3;
    bad.shape[0] = bad.shape[1] = bad.shape[2] = INT64_MAX / 2;
    FAILS(context, encdiff_array_write(context, path, &bad), ENCDIFF_ERROR_SHAPE, "");
    bad = array;
    bad.type = ENCDIFF_TYPE_ANY;
    FAILS(context, encdiff_array_write(context, path, &bad), ENCDIFF_ERROR_ARGUMENT, "type");
    OK(context, encdiff_array_write(context, path, &array));
    CHECK_EQUAL(truncate(path, 100), 0);
    FAILS(context, encdiff_array_read(context, path, NULL, ENCDIFF_TYPE_ANY, &read), ENCDIFF_ERROR_FORMAT, path);
    unlink(path);
    end();
}

/* ---------------------------------------------------------------- pictures */

/* A grid that is written is a picture that can be opened, with every pixel where it belongs. */
static void grids_are_pictures(void)
{
    enum { N = 5, W = 6, H = 4, COLUMNS = 3, ROWS = 2, GAP = 1 };
    const char *path = temporary("grid.png");
    uint8_t pixels[N * W * H * 3], picture[(ROWS * (H + GAP) + GAP) * (COLUMNS * (W + GAP) + GAP) * 3];
    encdiff_image_view images = {pixels, ENCDIFF_IMAGE_U8_NHWC, N, H, W}, whole;
    encdiff_grid_options options;
    encdiff_dataset *data = NULL;
    encdiff_dataset_info info = {.struct_size = sizeof info};
    begin();
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 5 + 3);
    encdiff_grid_options_init(&options, sizeof options);
    options.columns = COLUMNS;
    options.gap = GAP;
    OK(context, encdiff_image_write_grid(context, path, &images, &options));
    if (OK(context, encdiff_dataset_open(context, path, NULL, &data))) {
        OK(context, encdiff_dataset_get_info(data, &info));
        CHECK_EQUAL(info.size, 1);
        CHECK(info.width >= COLUMNS * W + (COLUMNS - 1) * GAP && info.height >= ROWS * H + (ROWS - 1) * GAP);
        whole = (encdiff_image_view){picture, ENCDIFF_IMAGE_U8_NHWC, 1, info.height, info.width};
        if (CHECK(encdiff_image_view_bytes(&whole) <= sizeof picture)) {
            int left = (info.width - (COLUMNS * W + (COLUMNS - 1) * GAP)) / 2,
                top = (info.height - (ROWS * H + (ROWS - 1) * GAP)) / 2;
            OK(context, encdiff_dataset_read(data, NULL, &whole));
            for (int i = 0; i < N; i++)
                for (int y = 0; y < H; y++) {
                    int py = top + i / COLUMNS * (H + GAP) + y, px = left + i % COLUMNS * (W + GAP);
                    CHECK_THAT(memcmp(picture + (py * info.width + px) * 3, pixels + (i * H + y) * W * 3, W * 3) == 0,
                               "row %d of image %d", y, i);
                }
        }
    }
    encdiff_dataset_free(data);
    unlink(path);
    end();
}

static void pictures_that_cannot_be_written_leave_nothing(void)
{
    const char *path = temporary("none.png");
    static float pixels[PIXELS];
    encdiff_image_view image = view_f32(pixels, 1);
    encdiff_grid_options options;
    static const char *const labels[] = {"a label", "\xe2\x84\xab \xff"};
    struct stat status;
    begin();
    pixels[7] = NAN;
    FAILS(context, encdiff_image_write_grid(context, path, &image, NULL), ENCDIFF_ERROR_NUMERIC, "NaN");
    CHECK(stat(path, &status) != 0);
    pixels[7] = 0;
    FAILS(context, encdiff_image_write_grid(context, "/nonexistent/g.png", &image, NULL), ENCDIFF_ERROR_IO,
          "/nonexistent/g.png");
    FAILS(context, encdiff_image_write_grid(context, NULL, &image, NULL), ENCDIFF_ERROR_ARGUMENT, "path");
    FAILS(context, encdiff_image_write_grid(context, path, NULL, NULL), ENCDIFF_ERROR_ARGUMENT, "images");
    for (int i = 0; i < 4; i++) {
        encdiff_grid_options_init(&options, sizeof options);
        if (i == 0) options.columns = -1;
        if (i == 1) options.scale = 100000;
        if (i == 2) options.gap = -2;
        if (i == 3) options.struct_size = 1;
        FAILS(context, encdiff_image_write_grid(context, path, &image, &options), ENCDIFF_ERROR_ARGUMENT, "");
    }
    encdiff_grid_options_init(&options, sizeof options);
    options.columns = 1;
    options.column_labels = labels; /* also text that is no UTF-8 */
    options.row_labels = labels + 1;
    OK(context, encdiff_image_write_grid(context, path, &image, &options));
    CHECK(stat(path, &status) == 0 && status.st_size > 0);
    unlink(path);
    end();
}

/* ---------------------------------------------------------------- pictures of numbers */

typedef struct picture {
    uint8_t *rgb; /* [height][width][3] */
    int height, width;
} picture;

static picture read_picture(const char *path)
{
    encdiff_dataset *data = NULL;
    encdiff_dataset_info info = {.struct_size = sizeof info};
    picture p = {0};
    if (!OK(context, encdiff_dataset_open(context, path, NULL, &data))) return p;
    OK(context, encdiff_dataset_get_info(data, &info));
    encdiff_image_view whole = {NULL, ENCDIFF_IMAGE_U8_NHWC, 1, info.height, info.width};
    p = (picture){malloc(encdiff_image_view_bytes(&whole)), info.height, info.width};
    whole.data = p.rgb;
    OK(context, encdiff_dataset_read(data, NULL, &whole));
    encdiff_dataset_free(data);
    return p;
}

/* Brightness of the runs of one colour, 16 pixels or longer and not white, in a row of the picture; how many. */
static int runs_of(const picture *p, int y, int brightness[8])
{
    const uint8_t *row = p->rgb + (size_t)y * (size_t)p->width * 3;
    int count = 0;
    for (int x = 0, from = 0; x <= p->width; x++) {
        if (x < p->width && memcmp(row + 3 * x, row + 3 * from, 3) == 0) continue;
        int light = row[3 * from] + row[3 * from + 1] + row[3 * from + 2];
        if (x - from >= 16 && light < 3 * 255 && count < 8) brightness[count++] = light;
        from = x;
    }
    return count;
}

/* Rows of the picture with a run for each column, darker from left to right, as the values grow. */
static int rows_that_darken(const picture *p, int columns)
{
    int rows = 0, light[8];
    for (int y = 0; y < p->height; y++) {
        bool darkens = runs_of(p, y, light) == columns;
        for (int c = 1; darkens && c < columns; c++) darkens = light[c] < light[c - 1];
        rows += darkens;
    }
    return rows;
}

static void matrices_are_darker_where_numbers_are_larger(void)
{
    const char *path = temporary("matrix.png");
    static const double rising[3] = {0.1, 0.5, 0.9}, falling[3] = {0.9, 0.5, 0.1};
    static const char *const names[3] = {"floor", "wall", "a longer label"}, *const one[1] = {NULL};
    encdiff_matrix_options options;
    begin();
    OK(context, encdiff_image_write_matrix(context, path, rising, 1, 3, NULL));
    picture plain = read_picture(path);
    CHECK(rows_that_darken(&plain, 3) >= 4);
    OK(context, encdiff_image_write_matrix(context, path, falling, 1, 3, NULL));
    picture other = read_picture(path);
    CHECK_EQUAL(rows_that_darken(&other, 3), 0);
    encdiff_matrix_options_init(&options, sizeof options);
    options.title = "importance";
    options.row_title = "concept";
    options.column_title = "factor";
    options.row_labels = one;
    options.column_labels = names;
    options.low = -1;
    options.high = 1;
    options.digits = -1;
    OK(context, encdiff_image_write_matrix(context, path, rising, 1, 3, &options));
    picture labelled = read_picture(path);
    CHECK(rows_that_darken(&labelled, 3) >= 4);
    CHECK(labelled.height > plain.height && labelled.width > plain.width);
    free(plain.rgb);
    free(other.rgb);
    free(labelled.rgb);
    unlink(path);
    end();
}

static void matrices_that_cannot_be_drawn_leave_nothing(void)
{
    const char *path = temporary("none.png");
    double values[2] = {0, NAN};
    encdiff_matrix_options options;
    struct stat status;
    begin();
    FAILS(context, encdiff_image_write_matrix(context, path, values, 1, 2, NULL), ENCDIFF_ERROR_NUMERIC, "number 1");
    values[1] = INFINITY;
    FAILS(context, encdiff_image_write_matrix(context, path, values, 2, 1, NULL), ENCDIFF_ERROR_NUMERIC, "row 1");
    values[1] = 1;
    FAILS(context, encdiff_image_write_matrix(context, path, values, INT32_MAX, INT32_MAX, NULL), ENCDIFF_ERROR_SHAPE,
          "2147483647");
    FAILS(context, encdiff_image_write_matrix(context, path, values, 0, 2, NULL), ENCDIFF_ERROR_ARGUMENT, "rows");
    FAILS(context, encdiff_image_write_matrix(context, path, NULL, 1, 2, NULL), ENCDIFF_ERROR_ARGUMENT, "values");
    FAILS(context, encdiff_image_write_matrix(context, NULL, values, 1, 2, NULL), ENCDIFF_ERROR_ARGUMENT, "path");
    for (int i = 0; i < 4; i++) {
        encdiff_matrix_options_init(&options, sizeof options);
        if (i == 0) options.high = -1;
        if (i == 1) options.low = NAN;
        if (i == 2) options.digits = 7;
        if (i == 3) options.struct_size = 1;
        FAILS(context, encdiff_image_write_matrix(context, path, values, 1, 2, &options), ENCDIFF_ERROR_ARGUMENT, "");
    }
    CHECK(stat(path, &status) != 0);
    FAILS(context, encdiff_image_write_matrix(context, "/nonexistent/m.png", values, 1, 2, NULL), ENCDIFF_ERROR_IO,
          "/nonexistent/m.png");
    CHECK_EQUAL(encdiff_image_write_matrix(NULL, path, values, 1, 2, NULL), ENCDIFF_ERROR_ARGUMENT);
    end();
}

/* Where the reddest and the bluest pixels are, on average, above the legend. */
static void find_colour(const picture *p, int red, double *x, double *y)
{
    double count = 0;
    *x = *y = 0;
    for (int r = 0; r < p->height - 48; r++)
        for (int c = 0; c < p->width; c++) {
            const uint8_t *at = p->rgb + ((size_t)r * (size_t)p->width + (size_t)c) * 3;
            if ((red ? at[0] - at[2] : at[2] - at[0]) < 60) continue;
            *x += c;
            *y += r;
            count++;
        }
    CHECK(count > 8);
    *x /= count;
    *y /= count;
}

static void points_are_drawn_right_and_up_in_their_colours(void)
{
    const char *path = temporary("points.png");
    static const float points[] = {0, 0, 1, 0.1f, 10, 9, 9, 9.5f};
    static const int32_t classes[] = {0, 0, 4, 4}, counts[] = {5};
    encdiff_scatter s = {.struct_size = sizeof s,
                         .points = points,
                         .classes = classes,
                         .class_counts = counts,
                         .panels = 1,
                         .n = 4,
                         .size = 200};
    double blue_x, blue_y, red_x, red_y;
    begin();
    OK(context, encdiff_image_write_scatter(context, path, &s));
    picture p = read_picture(path);
    find_colour(&p, 0, &blue_x, &blue_y);
    find_colour(&p, 1, &red_x, &red_y);
    CHECK(red_x > blue_x + 100 && red_y < blue_y - 100);
    free(p.rgb);
    unlink(path);
    end();
}

static void points_that_cannot_be_drawn_leave_nothing(void)
{
    const char *path = temporary("none.png");
    float points[] = {0, 0, 1, 1};
    int32_t classes[] = {0, 1}, counts[] = {2};
    const encdiff_scatter good = {
        .struct_size = sizeof good, .points = points, .classes = classes, .class_counts = counts, .panels = 1, .n = 2};
    struct stat status;
    begin();
    encdiff_scatter s = good;
    points[3] = NAN;
    FAILS(context, encdiff_image_write_scatter(context, path, &s), ENCDIFF_ERROR_NUMERIC, "point 1");
    points[3] = 1;
    for (int32_t bad = -1; bad <= 2; bad += 3) {
        classes[1] = bad;
        FAILS(context, encdiff_image_write_scatter(context, path, &s), ENCDIFF_ERROR_ARGUMENT, "class");
    }
    classes[1] = 1;
    for (int i = 0; i < 3; i++) {
        s = good;
        if (i == 0) s.panels = 0;
        if (i == 1) s.n = -1;
        if (i == 2) s.size = 1 << 20;
        FAILS(context, encdiff_image_write_scatter(context, path, &s), ENCDIFF_ERROR_SHAPE, path);
    }
    for (int i = 0; i < 3; i++) {
        s = good;
        if (i == 0) s.points = NULL;
        if (i == 1) s.columns = -1;
        if (i == 2) s.struct_size = 3;
        FAILS(context, encdiff_image_write_scatter(context, path, &s), ENCDIFF_ERROR_ARGUMENT, "");
    }
    CHECK(stat(path, &status) != 0);
    FAILS(context, encdiff_image_write_scatter(context, "/nonexistent/s.png", &good), ENCDIFF_ERROR_IO,
          "/nonexistent/s.png");
    FAILS(context, encdiff_image_write_scatter(context, path, NULL), ENCDIFF_ERROR_ARGUMENT, "scatter");
    CHECK_EQUAL(encdiff_image_write_scatter(NULL, path, &good), ENCDIFF_ERROR_ARGUMENT);
    end();
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(views_tell_their_bytes),
        TEST(conversions_are_exact),
        TEST(bytes_are_rounded_and_clamped),
        TEST(arrays_survive_files),
        TEST(arrays_are_converted_where_nothing_is_lost),
        TEST(arrays_that_cannot_be_are_refused),
        TEST(grids_are_pictures),
        TEST(pictures_that_cannot_be_written_leave_nothing),
        TEST(matrices_are_darker_where_numbers_are_larger),
        TEST(matrices_that_cannot_be_drawn_leave_nothing),
        TEST(points_are_drawn_right_and_up_in_their_colours),
        TEST(points_that_cannot_be_drawn_leave_nothing),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
