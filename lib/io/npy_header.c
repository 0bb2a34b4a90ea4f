/* The header of an .npy file: a Python dictionary of three known keys, read and written. */
#include <stdio.h>

#include "io/npy.h"
#include "io/npy_header.h"

typedef struct cursor {
    const char *at, *end;
} cursor;

static bool take(cursor *c, char what)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t')) c->at++;
    if (c->at >= c->end || *c->at != what) return false;
    c->at++;
    return true;
}

static bool parse_string(cursor *c, char *out, size_t size)
{
    char quote = take(c, '\'') ? '\'' : take(c, '"') ? '"' : 0;
    size_t n = 0;
    if (!quote) return false;
    while (c->at < c->end && *c->at != quote) {
        if (n + 1 >= size || *c->at == '\\') return false;
        out[n++] = *c->at++;
    }
    out[n] = 0;
    return take(c, quote);
}

static bool parse_word(cursor *c, const char *word)
{
    size_t n = strlen(word);
    take(c, 0); /* skips spaces */
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n) != 0) return false;
    c->at += n;
    return true;
}

static bool parse_int(cursor *c, int64_t *out)
{
    uint64_t value = 0;
    take(c, 0);
    if (c->at >= c->end || *c->at < '0' || *c->at > '9') return false;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
        value = value * 10 + (uint64_t)(*c->at++ - '0');
        if (value > (uint64_t)INT64_MAX / 16) return false;
    }
    if (c->at < c->end && *c->at == 'L') c->at++; /* Python 2 */
    *out = (int64_t)value;
    return true;
}

static bool parse_shape(cursor *c, ed_npy *out)
{
    if (!take(c, '(')) return false;
    out->rank = 0;
    while (!take(c, ')')) {
        if (out->rank == ED_NPY_MAX_RANK || !parse_int(c, &out->dim[out->rank++])) return false;
        if (take(c, ',')) continue;
        return take(c, ')');
    }
    return true;
}

static bool parse_type(const char *text, ed_npy *out)
{
    static const char *const known[] = {"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"};
    char order = *text;
    if (order != '<' && order != '|' && order != '=') return false;
    for (size_t i = 0; i < ED_COUNT(known); i++) {
        if (strcmp(text + 1, known[i]) != 0) continue;
        out->kind = known[i][0];
        out->size = known[i][1] - '0';
        return true;
    }
    return false;
}

static encdiff_status parse_dictionary(ed_env *env, const char *name, cursor c, ed_npy *out)
{
    enum { TYPE = 1, ORDER = 2, SHAPE = 4 };
    int seen = 0;
    bool good = take(&c, '{');
    while (good && !take(&c, '}')) {
        char key[16], type[32];
        good = parse_string(&c, key, sizeof key) && take(&c, ':');
        if (!good) break;
        if (strcmp(key, "descr") == 0) {
            seen |= TYPE;
            bool simple = parse_string(&c, type, sizeof type);
            if (!simple || !parse_type(type, out))
                return ed_fail(env, ENCDIFF_ERROR_FORMAT,
                               "%s: elements are not little-endian booleans, integers or floats, but %s", name,
                               simple ? type : "records");
        } else if (strcmp(key, "fortran_order") == 0) {
            seen |= ORDER;
            out->fortran = parse_word(&c, "True");
            good = out->fortran || parse_word(&c, "False");
        } else {
            seen |= SHAPE;
            good = strcmp(key, "shape") == 0 && parse_shape(&c, out);
        }
        if (good && !take(&c, ',')) good = take(&c, '}') && (c.at--, true);
    }
    if (!good || seen != (TYPE | ORDER | SHAPE))
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: the header of the array is malformed", name);
    return ENCDIFF_OK;
}

static encdiff_status check_size(ed_env *env, const char *name, uint64_t total, ed_npy *out)
{
    size_t bytes = (size_t)out->size;
    bool fits = true, empty = false;
    for (int i = 0; i < out->rank; i++) {
        if (out->dim[i] == 0)
            empty = true;
        else
            fits = fits && ed_mul(bytes, (size_t)out->dim[i], &bytes);
    }
    if (empty) bytes = 0, fits = true;
    if (!fits || bytes > total - out->offset)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: truncated: its shape needs more bytes than the %llu there are",
                       name, (unsigned long long)(total - out->offset));
    out->bytes = bytes;
    out->count = (int64_t)(bytes / (size_t)out->size);
    return ENCDIFF_OK;
}

encdiff_status ed_npy_parse(ed_env *env, const char *name, const uint8_t *head, size_t size, uint64_t total,
                            ed_npy *out)
{
    *out = (ed_npy){0};
    if (size < 10 || memcmp(head, "\x93NUMPY", 6) != 0)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: not a NumPy array", name);
    if (head[6] < 1 || head[6] > 3)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: a NumPy array of the unknown version %d", name, head[6]);
    size_t begin = head[6] == 1 ? 10 : 12, length = head[8] | (size_t)head[9] << 8;
    if (size < begin) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: truncated in the header", name);
    if (head[6] > 1) length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    if (length > ED_NPY_HEADER_LIMIT - begin)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: a header of %zu bytes", name, length);
    if (length > size - begin || begin + length > total)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: truncated in the header", name);
    const char *text = (const char *)head + begin;
    ED_TRY(parse_dictionary(env, name, (cursor){text, text + length}, out));
    out->offset = begin + length;
    return check_size(env, name, total, out);
}

encdiff_status ed_npy_parse_source(ed_env *env, const ed_source *source, ed_npy *out)
{
    size_t size = (size_t)ED_MIN(source->size, (uint64_t)ED_NPY_HEADER_LIMIT);
    uint8_t *head = ed_alloc(env, size + 1, 1);
    if (!head) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_source_read(env, source, 0, head, size);
    if (status == ENCDIFF_OK) status = ed_npy_parse(env, source->name, head, size, source->size, out);
    ed_free(env, head);
    return status;
}

const char *ed_npy_text(const ed_npy *npy, char text[192])
{
    const char *kind = npy->kind == 'b' ? "bool" : npy->kind == 'u' ? "uint" : npy->kind == 'i' ? "int" : "float";
    size_t at = (size_t)snprintf(text, 192, "%s%d [", kind, 8 * npy->size);
    for (int i = 0; i < npy->rank; i++)
        at += (size_t)snprintf(text + at, 192 - at, i ? ", %lld" : "%lld", (long long)npy->dim[i]);
    snprintf(text + at, 192 - at, "]");
    return text;
}

size_t ed_npy_format(ed_type type, int rank, const int64_t *dim, char out[ED_NPY_FORMAT_SIZE])
{
    static const char *const names[] = {
        [ED_F32] = "<f4", [ED_F64] = "<f8", [ED_I32] = "<i4", [ED_I64] = "<i8", [ED_U8] = "|u1", [ED_BF16] = NULL};
    size_t at = 10;
    if (rank < 0 || rank > ED_NPY_MAX_RANK || (unsigned)type >= ED_COUNT(names) || !names[type]) return 0;
    memcpy(out, "\x93NUMPY\1\0", 8);
    at += (size_t)snprintf(out + at, ED_NPY_FORMAT_SIZE - at, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                           names[type]);
    for (int i = 0; i < rank; i++)
        at += (size_t)snprintf(out + at, ED_NPY_FORMAT_SIZE - at, i ? ", %lld" : "%lld", (long long)dim[i]);
    at += (size_t)snprintf(out + at, ED_NPY_FORMAT_SIZE - at, rank == 1 ? ",), }" : "), }");
    while ((at + 1) % 64) out[at++] = ' ';
    out[at++] = '\n';
    out[8] = (char)((at - 10) & 0xFF);
    out[9] = (char)((at - 10) >> 8);
    return at;
}
