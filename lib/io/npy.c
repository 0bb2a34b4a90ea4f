/* Reading and writing whole arrays, with conversion of the element type. */
#include <math.h>

#include "io/npy.h"
#include "io/npy_header.h"

/* ---------------------------------------------------------------- conversion */

/* An element as an integer where the file has one, else as a double. */
typedef struct number {
    bool whole;
    int64_t integer;
    double real;
} number;

static number from_integer(int64_t value) { return (number){.whole = true, .integer = value, .real = (double)value}; }

static uint64_t load(const uint8_t *p, int size)
{
    uint64_t bits = 0;
    memcpy(&bits, p, (size_t)size);
    return bits;
}

static double load_real(const uint8_t *p, int size)
{
    float f;
    double d;
    if (size == 2) return (double)ed_f32_from_f16((uint16_t)load(p, 2));
    if (size == 4) return memcpy(&f, p, 4), (double)f;
    return memcpy(&d, p, 8), d;
}

static number element(const ed_npy *npy, const uint8_t *p)
{
    uint64_t bits = load(p, npy->size);
    int unused = 64 - 8 * npy->size;
    switch (npy->kind) {
    case 'b': return from_integer(bits != 0);
    case 'i': return from_integer((int64_t)(bits << unused) >> unused);
    case 'u':
        if (bits > INT64_MAX) return (number){.real = (double)bits};
        return from_integer((int64_t)bits);
    default: break;
    }
    return (number){.real = load_real(p, npy->size)};
}

/* Into an integer of [low, high]; a float must be one. */
static bool to_integer(number n, int64_t low, int64_t high, int64_t *out)
{
    if (!n.whole) {
        if (!(n.real == floor(n.real)) || fabs(n.real) >= 0x1p63) return false;
        n.integer = (int64_t)n.real;
    }
    *out = n.integer;
    return n.integer >= low && n.integer <= high;
}

static bool store(number n, ed_type type, void *to)
{
    int64_t integer = 0;
    float f = (float)n.real;
    switch (type) {
    case ED_F64: memcpy(to, &n.real, 8); return true;
    case ED_F32:
        if (n.whole) f = (float)n.integer;
        memcpy(to, &f, 4);
        return true;
    case ED_U8:
        if (!to_integer(n, 0, 255, &integer)) return false;
        *(uint8_t *)to = (uint8_t)integer;
        return true;
    case ED_I32: {
        if (!to_integer(n, INT32_MIN, INT32_MAX, &integer)) return false;
        int32_t narrow = (int32_t)integer;
        memcpy(to, &narrow, 4);
        return true;
    }
    case ED_I64:
        if (!to_integer(n, INT64_MIN, INT64_MAX, &integer)) return false;
        memcpy(to, &integer, 8);
        return true;
    case ED_BF16: break;
    }
    return false;
}

static ed_type natural_type(const ed_npy *npy)
{
    if (npy->kind == 'f') return npy->size == 8 ? ED_F64 : ED_F32;
    if (npy->kind == 'b' || (npy->kind == 'u' && npy->size == 1)) return ED_U8;
    return npy->size == 8 || (npy->kind == 'u' && npy->size == 4) ? ED_I64 : ED_I32;
}

static bool is_same(const ed_npy *npy, ed_type type)
{
    return npy->kind != 'b' && natural_type(npy) == type && (size_t)npy->size == ed_type_size(type) &&
           !(npy->kind == 'u' && npy->size == 8);
}

/* Position in the file, in elements, of element `index` of the row-major array. */
static int64_t fortran_position(const ed_npy *npy, int64_t index)
{
    int64_t at[ED_NPY_MAX_RANK], position = 0;
    for (int i = npy->rank - 1; i >= 0; i--) {
        at[i] = index % npy->dim[i];
        index /= npy->dim[i];
    }
    for (int i = npy->rank - 1; i >= 0; i--) position = position * npy->dim[i] + at[i];
    return position;
}

/* `bytes` is the array's data as the file has it. */
static encdiff_status convert(ed_env *env, const char *name, const ed_npy *npy, const uint8_t *bytes, ed_array *out)
{
    size_t size = ed_type_size(out->type);
    uint8_t *to = out->data;
    bool turned = npy->fortran && npy->rank > 1;
    for (int64_t i = 0; i < npy->count; i++, to += size) {
        int64_t at = turned ? fortran_position(npy, i) : i;
        number n = element(npy, bytes + (size_t)at * (size_t)npy->size);
        if (!store(n, out->type, to))
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: element %lld, %g, cannot be kept as %s", name, (long long)i,
                           n.real, ed_type_name(out->type));
    }
    return ENCDIFF_OK;
}

static encdiff_status read_elements(ed_env *env, const ed_source *source, const ed_npy *npy, ed_array *out)
{
    if (is_same(npy, out->type) && (!npy->fortran || npy->rank < 2))
        return ed_source_read(env, source, npy->offset, out->data, (size_t)npy->bytes);
    uint8_t *bytes = ed_alloc_raw(env, (size_t)npy->bytes + 1);
    if (!bytes) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_source_read(env, source, npy->offset, bytes, (size_t)npy->bytes);
    if (status == ENCDIFF_OK) status = convert(env, source->name, npy, bytes, out);
    ed_free(env, bytes);
    return status;
}

encdiff_status ed_npy_read_f64(ed_env *env, const ed_source *source, const ed_npy *npy, int64_t first, int64_t count,
                               double *out)
{
    uint8_t bytes[8192];
    int64_t room = (int64_t)sizeof bytes / npy->size;
    for (int64_t done = 0, n; done < count; done += n) {
        n = ED_MIN(room, count - done);
        ED_TRY(ed_source_read(env, source, npy->offset + (uint64_t)(first + done) * (uint64_t)npy->size, bytes,
                              (size_t)n * (size_t)npy->size));
        for (int64_t i = 0; i < n; i++) out[done + i] = element(npy, bytes + i * npy->size).real;
    }
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- reading */

static encdiff_status read_array(ed_env *env, const ed_source *source, int type, ed_array *out)
{
    ed_npy npy;
    ED_TRY(ed_npy_parse_source(env, source, &npy));
    *out = (ed_array){
        .type = type == ED_ARRAY_ANY ? natural_type(&npy) : (ed_type)type, .rank = npy.rank, .count = npy.count};
    memcpy(out->dim, npy.dim, sizeof out->dim);
    if (!(out->data = ed_alloc(env, (size_t)npy.count, ed_type_size(out->type)))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = read_elements(env, source, &npy, out);
    if (status == ENCDIFF_OK) return ENCDIFF_OK;
    ed_free(env, out->data);
    out->data = NULL;
    return status;
}

const ed_zip_member *ed_npz_find(const ed_zip *zip, const char *name)
{
    for (size_t i = ed_zip_count(zip); i-- > 0;) { /* the last of several, as ed_zip_find() */
        const ed_zip_member *member = ed_zip_at(zip, i);
        size_t n = strlen(name);
        if (strncmp(member->name, name, n) == 0 && (!member->name[n] || strcmp(member->name + n, ".npy") == 0))
            return member;
    }
    return NULL;
}

static encdiff_status choose_member(ed_env *env, const ed_zip *zip, const char *name, const ed_zip_member **out)
{
    ed_text names = {0};
    *out = name ? ed_npz_find(zip, name) : ed_zip_count(zip) == 1 ? ed_zip_at(zip, 0) : NULL;
    if (*out) return ENCDIFF_OK;
    encdiff_status status = ed_text_add(env, &names, "%s", "");
    for (size_t i = 0; i < ed_zip_count(zip) && status == ENCDIFF_OK && names.length < 500; i++)
        status = ed_text_add(env, &names, i ? ", %s" : "%s", ed_zip_at(zip, i)->name);
    if (status == ENCDIFF_OK)
        status = ed_fail(env, ENCDIFF_ERROR_NOT_FOUND, "%s: %s%s, it has: %s", ed_zip_path(zip),
                         name ? "no array " : "which array to read must be said", name ? name : "", names.data);
    ed_text_free(env, &names);
    return status;
}

static encdiff_status read_npz(ed_env *env, const char *path, const char *name, int type, ed_array *out)
{
    ed_zip *zip;
    const ed_zip_member *member;
    ED_TRY(ed_zip_open(env, path, &zip));
    encdiff_status status = choose_member(env, zip, name, &member);
    if (status == ENCDIFF_OK) {
        uint8_t *bytes = ed_alloc_raw(env, (size_t)member->size + 1);
        ed_source source = {0};
        status = bytes ? ed_zip_read(env, zip, member, bytes) : ENCDIFF_ERROR_OUT_OF_MEMORY;
        if (status == ENCDIFF_OK) status = ed_source_from_memory(env, path, bytes, (size_t)member->size, &source);
        if (status == ENCDIFF_OK) status = read_array(env, &source, type, out);
        ed_source_close(env, &source);
        ed_free(env, bytes);
    }
    ed_zip_close(env, zip);
    return status;
}

encdiff_status ed_array_read(ed_env *env, const char *path, const char *member, int type, ed_array *out)
{
    ed_source source;
    char magic[2] = "";
    *out = (ed_array){0};
    if (type == ED_BF16) return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "NumPy has no bf16");
    ED_TRY(ed_source_open(env, path, &source));
    encdiff_status status = source.size < 2 ? ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: not a NumPy array", path)
                                            : ed_source_read(env, &source, 0, magic, 2);
    if (status == ENCDIFF_OK && memcmp(magic, "PK", 2) != 0)
        status = read_array(env, &source, type, out);
    else if (status == ENCDIFF_OK)
        status = read_npz(env, path, member, type, out);
    ed_source_close(env, &source);
    return status;
}

/* ---------------------------------------------------------------- writing */

static encdiff_status format_header(ed_env *env, ed_type type, int rank, const int64_t *dim,
                                    char header[ED_NPY_FORMAT_SIZE], size_t *length)
{
    *length = ed_npy_format(type, rank, dim, header);
    for (int i = 0; i < rank && *length; i++)
        if (dim[i] < 0) *length = 0;
    if (*length) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_SHAPE, "an array of type %s and rank %d cannot be written as .npy",
                   ed_type_name(type), rank);
}

static encdiff_status array_bytes(ed_env *env, const ed_array *array, size_t *bytes)
{
    *bytes = ed_type_size(array->type);
    for (int i = 0; i < array->rank; i++)
        if (!ed_mul(*bytes, (size_t)array->dim[i], bytes))
            return ed_fail(env, ENCDIFF_ERROR_SHAPE, "an array's size overflows");
    return ENCDIFF_OK;
}

static encdiff_status write_array(ed_env *env, const ed_array *array, ed_sink *sink)
{
    char header[ED_NPY_FORMAT_SIZE];
    size_t length, bytes;
    ED_TRY(format_header(env, array->type, array->rank, array->dim, header, &length));
    ED_TRY(array_bytes(env, array, &bytes));
    ED_TRY(ed_sink_write(env, sink, header, length));
    return ed_sink_write(env, sink, array->data, bytes);
}

encdiff_status ed_array_write(ed_env *env, const char *path, const ed_array *array)
{
    ed_sink sink;
    ED_TRY(ed_sink_open(env, path, &sink));
    encdiff_status status = write_array(env, array, &sink);
    if (status == ENCDIFF_OK) return ed_sink_commit(env, &sink);
    ed_sink_discard(env, &sink);
    return status;
}

encdiff_status ed_array_write_memory(ed_env *env, const ed_array *array, uint8_t **data, size_t *size)
{
    ed_sink sink;
    ed_sink_to_memory(&sink);
    encdiff_status status = write_array(env, array, &sink);
    if (status == ENCDIFF_OK)
        ed_sink_take(&sink, data, size);
    else
        ed_sink_discard(env, &sink);
    return status;
}

encdiff_status ed_npz_begin(ed_env *env, ed_zip_writer *writer, const char *name, ed_type type, int rank,
                            const int64_t *dim, int level)
{
    char header[ED_NPY_FORMAT_SIZE];
    size_t length;
    ED_TRY(format_header(env, type, rank, dim, header, &length));
    char *member = ed_format(env, "%s.npy", name);
    if (!member) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ed_zip_writer_begin(env, writer, member, level);
    ed_free(env, member);
    return status == ENCDIFF_OK ? ed_zip_writer_add(env, writer, header, length) : status;
}

encdiff_status ed_npz_add(ed_env *env, ed_zip_writer *writer, const char *name, const ed_array *array, int level)
{
    size_t bytes;
    ED_TRY(ed_npz_begin(env, writer, name, array->type, array->rank, array->dim, level));
    ED_TRY(array_bytes(env, array, &bytes));
    ED_TRY(ed_zip_writer_add(env, writer, array->data, bytes));
    return ed_zip_writer_end(env, writer);
}
