/* JSON trees and the typed reading of configurations. */
#define _GNU_SOURCE
#include "base/json.h"
#include "workplace.h"

static ed_json *parse(ed_env *env, const char *text)
{
    ed_json *json = NULL;
    CHECK_EQUAL(ed_json_parse(env, "t", text, strlen(text), &json), ENCDIFF_OK);
    return json;
}

static void check_print(ed_env *env, const ed_json *json, bool pretty, const char *wanted)
{
    ed_text text = {0};
    CHECK_EQUAL(ed_json_print(env, json, pretty, &text), ENCDIFF_OK);
    CHECK_TEXT(text.data, wanted);
    ed_text_free(env, &text);
}

static void texts_survive_parsing_and_printing(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    static const char text[] = "{\"a\":[1,-2.5,1e-06,9007199254740991,-0],\"b\":{\"c\":\"q\xc3\xa9\\n\\\"\\\\\\u0001\"}"
                               ",\"d\":true,\"e\":null,\"f\":[]}";
    ed_json *json = parse(env, text);
    check_print(env, json, false, text);
    ed_json *copy = ed_json_copy(env, json);
    check_print(env, copy, false, text);
    ed_json_free(env, copy);
    ed_json_free(env, json);
    json = parse(env, "{\"a\":{\"b\":[1,2],\"c\":[[1],2]},\"d\":{}}");
    check_print(env, json, true,
                "{\n  \"a\": {\n    \"b\": [1, 2],\n    \"c\": [\n      [1],\n      2\n    ]\n  },\n  \"d\": {}\n}");
    ed_json_free(env, json);
    workplace_close(&w);
}

static void every_double_survives_printing(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    for (uint64_t i = 0; i < 20000; i++) {
        uint32_t words[4];
        double value, again;
        ed_philox(1, ED_RANDOM_DATA, 0, i, words);
        memcpy(&value, words, sizeof value);
        if (i % 4 == 0) value = (double)(words[0] % 1000) / 1000; /* what configurations have */
        if (!isfinite(value)) continue;
        ed_json number = {.kind = ED_JSON_NUMBER, .number = value};
        ed_text text = {0};
        CHECK_EQUAL(ed_json_print(env, &number, false, &text), ENCDIFF_OK);
        ed_json *parsed = parse(env, text.data);
        again = parsed ? parsed->number : 0;
        CHECK_THAT(memcmp(&value, &again, sizeof value) == 0, "%.17g became %s and %.17g", value, text.data, again);
        ed_json_free(env, parsed);
        ed_text_free(env, &text);
    }
    workplace_close(&w);
}

static void malformed_texts_are_refused_with_their_place(void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"a\":1,}", "t:1:8: not JSON: unexpected \"}\""},
        {"{\n\"a\":1\n} x", "t:3:3: not JSON: unexpected \"x\""},
        {"", "t:1:1: not JSON: the text ends too early"},
        {"[1e999]", "t: a number is beyond the range of a double"},
        {"{\"a\":{\"q\":[{\"b\":1,\"b\":2}]}}", "t: the key \"a.q[0].b\" occurs twice"},
        {"nul", "t:1:1: not JSON: unexpected \"nul\""},
    };
    workplace w;
    ed_env *env = workplace_open(&w);
    for (size_t i = 0; i < ED_COUNT(cases); i++) {
        ed_json *json;
        CHECK_EQUAL(ed_json_parse(env, "t", cases[i].text, strlen(cases[i].text), &json), ENCDIFF_ERROR_FORMAT);
        CHECK(json == NULL);
        CHECK_TEXT(env->message, cases[i].message);
    }
    workplace_close(&w);
}

/* A prefix of a text is no text, wherever it ends, and does not crash. */
static void truncated_texts_are_refused(void)
{
    static const char text[] =
        "{\"unet\": {\"channel_mult\": [1, 2, -4.5e3], \"x\": \"a\\u00e9\\n\", \"y\": true}, \"z\": null}";
    workplace w;
    ed_env *env = workplace_open(&w);
    for (size_t n = 0; n < strlen(text); n++) {
        ed_json *json;
        char *exact = malloc(n + 1); /* so that reading beyond the end is seen */
        memcpy(exact, text, n);
        CHECK_EQUAL(ed_json_parse(env, "t", exact, n, &json), ENCDIFF_ERROR_FORMAT);
        free(exact);
    }
    workplace_close(&w);
}

static void wrong_values_name_path_and_expectation(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_json *json = parse(
                env, "{\"unet\":{\"model_channels\":\"x\",\"mult\":[1,2,2],\"rate\":0.5,\"kind\":\"vq\",\"on\":true,"
                     "\"big\":9007199254740993}}"),
            *unet;
    int64_t integer = 7, list[4];
    int count = 0, choice = -1, small = 3;
    double number = 1;
    bool on = false;
    const char *text = "default";
    static const char *const kinds[] = {"kl", "vq"};
    CHECK_EQUAL(ed_json_group(env, json, "unet", &unet), ENCDIFF_OK);
    CHECK_EQUAL(ed_json_int(env, unet, "model_channels", 8, 2048, &integer), ENCDIFF_ERROR_CONFIG);
    CHECK_TEXT(env->message, "unet.model_channels: expected an integer in [8, 2048], got \"x\"");
    CHECK_EQUAL(integer, 7);
    CHECK_EQUAL(ed_json_int(env, unet, "big", 0, INT64_MAX, &integer), ENCDIFF_ERROR_CONFIG);
    CHECK_EQUAL(ed_json_int(env, unet, "rate", 0, 9, &integer), ENCDIFF_ERROR_CONFIG);
    CHECK_EQUAL(ed_json_ints(env, unet, "mult", 1, 8, 1, 4, list, &count), ENCDIFF_OK);
    CHECK(count == 3 && list[0] == 1 && list[2] == 2);
    CHECK_EQUAL(ed_json_ints(env, unet, "mult", 1, 8, 1, 2, list, &count), ENCDIFF_ERROR_CONFIG);
    CHECK_TEXT(env->message, "unet.mult: expected a list of 1 to 2 integers in [1, 8], got [1,2,2]");
    CHECK_EQUAL(ed_json_float(env, unet, "rate", 0, 0.25, &number), ENCDIFF_ERROR_CONFIG);
    CHECK_TEXT(env->message, "unet.rate: expected a number in [0, 0.25], got 0.5");
    CHECK_EQUAL(ed_json_float(env, unet, "rate", 0, 1, &number), ENCDIFF_OK);
    CHECK_NEAR(number, 0.5, 0, "exact");
    CHECK_EQUAL(ed_json_enum(env, unet, "kind", kinds, 2, &choice), ENCDIFF_OK);
    CHECK_EQUAL(choice, 1);
    CHECK_EQUAL(ed_json_enum(env, unet, "kind", kinds, 1, &choice), ENCDIFF_ERROR_CONFIG);
    CHECK_TEXT(env->message, "unet.kind: expected one of \"kl\", got \"vq\"");
    CHECK_EQUAL(ed_json_bool(env, unet, "on", &on), ENCDIFF_OK);
    CHECK(on);
    CHECK_EQUAL(ed_json_bool(env, unet, "rate", &on), ENCDIFF_ERROR_CONFIG);
    CHECK_EQUAL(ed_json_string(env, unet, "rate", &text), ENCDIFF_ERROR_CONFIG);
    CHECK_EQUAL(ed_json_string(env, unet, "absent", &text), ENCDIFF_OK);
    CHECK_TEXT(text, "default");
    CHECK_EQUAL(ed_json_int32(env, NULL, "absent", 0, 9, &small), ENCDIFF_OK);
    CHECK_EQUAL(small, 3);
    CHECK_EQUAL(ed_json_require(env, unet, "depth"), ENCDIFF_ERROR_CONFIG);
    CHECK_TEXT(env->message, "unet.depth: is missing");
    ed_json_free(env, json);
    workplace_close(&w);
}

static void unknown_keys_are_found_and_the_nearest_offered(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_json *json = parse(env, "{\"unet\":{\"model_chanels\":64},\"extra\":1}"), *unet;
    int value = 0;
    CHECK_EQUAL(ed_json_group(env, json, "unet", &unet), ENCDIFF_OK);
    CHECK_EQUAL(ed_json_int32(env, unet, "model_channels", 1, 99, &value), ENCDIFF_OK);
    CHECK_EQUAL(ed_json_int32(env, unet, "heads", 1, 99, &value), ENCDIFF_OK);
    CHECK_EQUAL(ed_json_check_known(env, json), ENCDIFF_ERROR_CONFIG);
    CHECK_TEXT(env->message, "unet.model_chanels: unknown key; did you mean \"model_channels\"?; known here: "
                             "model_channels, heads");
    CHECK_EQUAL(ed_json_int32(env, unet, "model_chanels", 1, 99, &value), ENCDIFF_OK);
    CHECK_EQUAL(ed_json_check_known(env, json), ENCDIFF_ERROR_CONFIG);
    CHECK_TEXT(env->message, "extra: unknown key; known here: unet");
    ed_json_free(env, json);
    workplace_close(&w);
}

static void assignments_and_merges_change_a_tree(void)
{
    workplace w;
    ed_env *env = workplace_open(&w);
    ed_json *base = parse(env, "{\"a\":{\"b\":1,\"c\":[1,2]},\"d\":2}"),
            *changes = parse(env, "{\"a\":{\"c\":[3],\"e\":null},\"f\":{}}");
    CHECK_EQUAL(ed_json_merge(env, base, changes), ENCDIFF_OK);
    check_print(env, base, false, "{\"a\":{\"b\":1,\"c\":[3],\"e\":null},\"d\":2,\"f\":{}}");
    CHECK_EQUAL(ed_json_assign(env, base, "a.b=[1,2]"), ENCDIFF_OK);
    CHECK_EQUAL(ed_json_assign(env, base, "f.g.h=plain text=1"), ENCDIFF_OK);
    CHECK_EQUAL(ed_json_assign(env, base, "d=-3e2"), ENCDIFF_OK);
    check_print(env, base, false,
                "{\"a\":{\"b\":[1,2],\"c\":[3],\"e\":null},\"d\":-300,\"f\":{\"g\":{\"h\":\"plain text=1\"}}}");
    static const char *const bad[] = {"", "=1", "a", "a..b=1", "a.=1", ".a=1", "d.x=1"};
    for (size_t i = 0; i < ED_COUNT(bad); i++) CHECK_EQUAL(ed_json_assign(env, base, bad[i]), ENCDIFF_ERROR_CONFIG);
    ed_json_free(env, base);
    ed_json_free(env, changes);
    workplace_close(&w);
}

static encdiff_status use_everything(ed_env *env, void *user)
{
    ed_json *json, *changes = NULL;
    ed_text text = {0};
    (void)user;
    ED_TRY(ed_json_parse(env, "t", "{\"a\":{\"b\":[1,\"x\"]}}", 19, &json));
    encdiff_status status = ed_json_assign(env, json, "a.c.d=2");
    if (status == ENCDIFF_OK && !(changes = ed_json_copy(env, json))) status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK) status = ed_json_merge(env, json, changes);
    if (status == ENCDIFF_OK) status = ed_json_print(env, json, true, &text);
    ed_json *group;
    int64_t value = 0;
    if (status == ENCDIFF_OK) status = ed_json_group(env, json, "a", &group);
    if (status == ENCDIFF_OK) status = ed_json_int(env, group, "z", 0, 1, &value);
    ed_text_free(env, &text);
    ed_json_free(env, changes);
    ed_json_free(env, json);
    return status;
}

static void running_out_of_memory_leaves_nothing(void)
{
    workplace w;
    workplace_open(&w);
    try_without_memory(&w, use_everything, NULL);
    workplace_close(&w);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        TEST(texts_survive_parsing_and_printing),           TEST(every_double_survives_printing),
        TEST(malformed_texts_are_refused_with_their_place), TEST(truncated_texts_are_refused),
        TEST(wrong_values_name_path_and_expectation),       TEST(unknown_keys_are_found_and_the_nearest_offered),
        TEST(assignments_and_merges_change_a_tree),         TEST(running_out_of_memory_leaves_nothing),
    };
    return test_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
