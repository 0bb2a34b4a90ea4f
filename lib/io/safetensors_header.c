/* The JSON of a safetensors header: one object of objects with three known keys each, so a small parser does. */
#include "io/safetensors_header.h"

typedef struct cursor {
    char *start, *at, *end;
} cursor;

static encdiff_status unexpected(ed_env *env, const cursor *c, const char *expected)
{
    if (c->at >= c->end) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "the header ends where %s should be", expected);
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "byte %zu of the header should be %s", (size_t)(c->at - c->start),
                   expected);
}

static void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r')) c->at++;
}

static bool take(cursor *c, char what)
{
    skip_space(c);
    if (c->at >= c->end || *c->at != what) return false;
    c->at++;
    return true;
}

static encdiff_status expect(ed_env *env, cursor *c, char what)
{
    char text[] = {'\'', what, '\'', 0};
    return take(c, what) ? ENCDIFF_OK : unexpected(env, c, text);
}

/* ---------------------------------------------------------------- strings */

static bool hex4(cursor *c, uint32_t *code)
{
    if (c->end - c->at < 4) return false;
    *code = 0;
    for (int i = 0; i < 4; i++) {
        char h = *c->at++;
        int digit = h >= '0' && h <= '9'   ? h - '0'
                    : h >= 'a' && h <= 'f' ? h - 'a' + 10
                    : h >= 'A' && h <= 'F' ? h - 'A' + 10
                                           : -1;
        if (digit < 0) return false;
        *code = *code << 4 | (uint32_t)digit;
    }
    return true;
}

static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xC0 | code >> 6);
        *to++ = (char)(0x80 | (code & 63));
    } else if (code < 0x10000) {
        *to++ = (char)(0xE0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 63));
        *to++ = (char)(0x80 | (code & 63));
    } else {
        *to++ = (char)(0xF0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 63));
        *to++ = (char)(0x80 | (code >> 6 & 63));
        *to++ = (char)(0x80 | (code & 63));
    }
    return to;
}

/* After "\u". An escape is never shorter than its UTF-8, so the text can be changed in place. */
static bool unescape_unicode(cursor *c, char **to)
{
    uint32_t code, low;
    if (!hex4(c, &code) || code == 0 || (code >= 0xDC00 && code < 0xE000)) return false;
    if (code >= 0xD800 && code < 0xDC00) {
        if (c->end - c->at < 2 || c->at[0] != '\\' || c->at[1] != 'u') return false;
        c->at += 2;
        if (!hex4(c, &low) || low < 0xDC00 || low >= 0xE000) return false;
        code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00));
    }
    *to = put_utf8(*to, code);
    return true;
}

static bool unescape(cursor *c, char **to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (c->at >= c->end) return false;
    char kind = *c->at++;
    if (kind == 'u') return unescape_unicode(c, to);
    const char *found = kind ? strchr(from, kind) : NULL;
    if (!found) return false;
    *(*to)++ = into[found - from];
    return true;
}

/* A string; its text is in place and ends where the quote was. */
static encdiff_status parse_string(ed_env *env, cursor *c, const char **out)
{
    if (!take(c, '"')) return unexpected(env, c, "a string");
    char *to = c->at;
    *out = to;
    while (c->at < c->end) {
        char byte = *c->at++;
        if (byte == '"') {
            *to = 0;
            return ENCDIFF_OK;
        }
        if ((unsigned char)byte < ' ' || (byte == '\\' && !unescape(c, &to))) {
            c->at--;
            return unexpected(env, c, "part of a string");
        }
        if (byte != '\\') *to++ = byte;
    }
    return unexpected(env, c, "the end of a string");
}

/* ---------------------------------------------------------------- numbers and lists */

static encdiff_status parse_u64(ed_env *env, cursor *c, uint64_t *out)
{
    skip_space(c);
    if (c->at >= c->end || *c->at < '0' || *c->at > '9') return unexpected(env, c, "an integer");
    uint64_t value = 0;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
        uint64_t digit = (uint64_t)(*c->at++ - '0');
        if (value > (UINT64_MAX - digit) / 10) return unexpected(env, c, "an integer below 2^64");
        value = value * 10 + digit;
    }
    *out = value;
    return ENCDIFF_OK;
}

static encdiff_status parse_list(ed_env *env, cursor *c, int capacity, uint64_t *values, int *count)
{
    *count = 0;
    ED_TRY(expect(env, c, '['));
    if (take(c, ']')) return ENCDIFF_OK;
    do {
        if (*count == capacity) return unexpected(env, c, "the end of a list (it has too many numbers)");
        ED_TRY(parse_u64(env, c, &values[(*count)++]));
    } while (take(c, ','));
    return expect(env, c, ']');
}

/* ---------------------------------------------------------------- entries */

static encdiff_status parse_type(ed_env *env, cursor *c, ed_st_tensor *tensor)
{
    const char *name;
    ED_TRY(parse_string(env, c, &name));
    for (int type = 0; type < ED_ST_TYPES; type++)
        if (strcmp(name, ed_st_type_name((ed_st_type)type)) == 0) {
            tensor->type = (ed_st_type)type;
            return ENCDIFF_OK;
        }
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "tensor \"%s\" has the unknown type \"%.20s\"", tensor->name, name);
}

static encdiff_status parse_shape(ed_env *env, cursor *c, ed_st_tensor *tensor)
{
    uint64_t dims[ED_ST_MAX_RANK];
    ED_TRY(parse_list(env, c, ED_ST_MAX_RANK, dims, &tensor->rank));
    for (int i = 0; i < tensor->rank; i++) {
        if (dims[i] > INT64_MAX) return unexpected(env, c, "a dimension below 2^63");
        tensor->dim[i] = (int64_t)dims[i];
    }
    return ENCDIFF_OK;
}

static encdiff_status parse_offsets(ed_env *env, cursor *c, ed_st_tensor *tensor)
{
    uint64_t offsets[2];
    int count;
    ED_TRY(parse_list(env, c, 2, offsets, &count));
    if (count != 2 || offsets[1] < offsets[0])
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "tensor \"%s\": data_offsets are not a begin and an end",
                       tensor->name);
    tensor->offset = offsets[0];
    tensor->bytes = offsets[1] - offsets[0];
    return ENCDIFF_OK;
}

/* Elements times size must be the bytes that the offsets span. */
static encdiff_status check_size(ed_env *env, ed_st_tensor *tensor)
{
    size_t bytes = ed_st_type_size(tensor->type);
    bool fits = true, empty = false;
    for (int i = 0; i < tensor->rank; i++) {
        if (tensor->dim[i] == 0)
            empty = true;
        else
            fits = fits && ed_mul(bytes, (size_t)tensor->dim[i], &bytes);
    }
    if (empty) bytes = 0, fits = true;
    if (!fits || bytes != tensor->bytes)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "tensor \"%s\": its shape does not match its %llu bytes",
                       tensor->name, (unsigned long long)tensor->bytes);
    tensor->count = (int64_t)(bytes / ed_st_type_size(tensor->type));
    return ENCDIFF_OK;
}

static encdiff_status parse_tensor(ed_env *env, cursor *c, ed_st_tensor *tensor)
{
    enum { TYPE = 1, SHAPE = 2, OFFSETS = 4 };
    int seen = 0;
    ED_TRY(expect(env, c, '{'));
    do {
        const char *key;
        ED_TRY(parse_string(env, c, &key));
        ED_TRY(expect(env, c, ':'));
        int field = !strcmp(key, "dtype")          ? TYPE
                    : !strcmp(key, "shape")        ? SHAPE
                    : !strcmp(key, "data_offsets") ? OFFSETS
                                                   : 0;
        if (!field || (seen & field))
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "tensor \"%s\": the key \"%.20s\" is %s", tensor->name, key,
                           field ? "there twice" : "unknown");
        seen |= field;
        ED_TRY(field == TYPE    ? parse_type(env, c, tensor)
               : field == SHAPE ? parse_shape(env, c, tensor)
                                : parse_offsets(env, c, tensor));
    } while (take(c, ','));
    ED_TRY(expect(env, c, '}'));
    if (seen != (TYPE | SHAPE | OFFSETS))
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "tensor \"%s\" lacks dtype, shape or data_offsets", tensor->name);
    return check_size(env, tensor);
}

static encdiff_status parse_metadata(ed_env *env, cursor *c, ed_st_header *out)
{
    ED_TRY(expect(env, c, '{'));
    if (take(c, '}')) return ENCDIFF_OK;
    do {
        ed_st_pair pair;
        ED_TRY(parse_string(env, c, &pair.key));
        ED_TRY(expect(env, c, ':'));
        ED_TRY(parse_string(env, c, &pair.value));
        ED_TRY(ed_reserve(env, &out->pairs, &out->pair_capacity, out->pair_count + 1, sizeof pair));
        out->pairs[out->pair_count++] = pair;
    } while (take(c, ','));
    return expect(env, c, '}');
}

static encdiff_status parse_entry(ed_env *env, cursor *c, ed_st_header *out, bool *metadata_seen)
{
    ed_st_tensor tensor = {0};
    ED_TRY(parse_string(env, c, &tensor.name));
    ED_TRY(expect(env, c, ':'));
    if (strcmp(tensor.name, "__metadata__") == 0) {
        if (*metadata_seen) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "__metadata__ is there twice");
        *metadata_seen = true;
        return parse_metadata(env, c, out);
    }
    ED_TRY(parse_tensor(env, c, &tensor));
    ED_TRY(ed_reserve(env, &out->tensors, &out->capacity, out->count + 1, sizeof tensor));
    out->tensors[out->count++] = tensor;
    return ENCDIFF_OK;
}

encdiff_status ed_st_header_parse(ed_env *env, char *text, size_t length, ed_st_header *out)
{
    cursor c = {text, text, text + length};
    bool metadata_seen = false;
    *out = (ed_st_header){0};
    if (length == 0 || *text != '{') return unexpected(env, &c, "'{'");
    c.at++;
    if (!take(&c, '}')) {
        do ED_TRY(parse_entry(env, &c, out, &metadata_seen));
        while (take(&c, ','));
        ED_TRY(expect(env, &c, '}'));
    }
    skip_space(&c);
    return c.at == c.end ? ENCDIFF_OK : unexpected(env, &c, "the end");
}
