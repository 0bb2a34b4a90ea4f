/* tensor: shapes, types, the two layouts of an image. */
#include "tensor/tensor.h"
#include "test.h"

static void shapes_count_and_print(void)
{
    char text[64];
    ed_shape s = ED_SHAPE4(2, 3, 5, 7), none = {0};
    CHECK_EQUAL(ed_shape_count(&s), 210);
    CHECK_EQUAL(ed_shape_last(&s), 7);
    CHECK_EQUAL(ed_shape_rows(&s), 30);
    CHECK_EQUAL(ed_shape_count(&none), 1);
    CHECK_TEXT(ed_shape_text(&s, text), "[2, 3, 5, 7]");
    ed_shape wide = ED_SHAPE4(INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX);
    CHECK(strlen(ed_shape_text(&wide, text)) < sizeof text);
    ed_shape other = ED_SHAPE4(2, 3, 5, 8), shorter = ED_SHAPE3(2, 3, 5);
    CHECK(ed_shape_equal(&s, &s) && !ed_shape_equal(&s, &other) && !ed_shape_equal(&s, &shorter));
}

static void impossible_shapes_are_refused(void)
{
    ed_memory memory;
    ed_env with_memory = {.memory = &memory}, *env = &with_memory;
    ed_memory_init(&memory, NULL);
    ed_shape good = ED_SHAPE2(3, 0), negative = ED_SHAPE2(3, -1), huge = ED_SHAPE3(1 << 30, 1 << 30, 1 << 10);
    CHECK_EQUAL(ed_shape_check(env, &good, ED_F32, "a"), ENCDIFF_OK);
    CHECK_EQUAL(ed_shape_check(env, &negative, ED_F32, "latents"), ENCDIFF_ERROR_SHAPE);
    CHECK(strstr(env->message, "latents") && strstr(env->message, "[3, -1]"));
    CHECK_EQUAL(ed_shape_check(env, &huge, ED_F32, "a"), ENCDIFF_ERROR_SHAPE);
}

static void types_have_sizes_and_names(void)
{
    static const size_t sizes[] = {4, 2, 8, 4, 8, 1};
    for (int type = ED_F32; type <= ED_U8; type++) CHECK_EQUAL(ed_type_size((ed_type)type), sizes[type]);
    CHECK_TEXT(ed_type_name(ED_BF16), "bf16");
    CHECK_TEXT(ed_type_name((ed_type)99), "unknown");
}

static void layouts_convert_both_ways(void)
{
    enum { N = 2, C = 3, H = 4, W = 5, COUNT = N * C * H * W };
    float nchw[COUNT], nhwc[COUNT], back[COUNT];
    for (int i = 0; i < COUNT; i++) nchw[i] = (float)i;
    ed_nchw_to_nhwc(nchw, nhwc, N, C, H, W);
    CHECK_EQUAL(nhwc[((1 * H + 2) * W + 3) * C + 2], nchw[((1 * C + 2) * H + 2) * W + 3]);
    ed_nhwc_to_nchw(nhwc, back, N, C, H, W);
    CHECK(memcmp(back, nchw, sizeof back) == 0);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(shapes_count_and_print),
        TEST(impossible_shapes_are_refused),
        TEST(types_have_sizes_and_names),
        TEST(layouts_convert_both_ways),
    };
    return test_main(argc, argv, cases, ED_COUNT(cases));
}
