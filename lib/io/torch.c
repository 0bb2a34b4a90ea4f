/* Tensors of torch.save()'s files: which of Python's names are known, what they make, and where the elements lie. */
#include <stdlib.h>

#include "io/torch_archive.h"

#define DEPTH_LIMIT 16
#define VISIT_LIMIT ((size_t)1 << 20)

/* A view of a storage, as the pickle builds it. */
typedef struct view {
    const ed_torch_storage *storage;
    int rank;
    int64_t dim[ED_ST_MAX_RANK], stride[ED_ST_MAX_RANK], offset;
} view;

typedef struct tensor {
    ed_st_tensor info; /* first: the public pointer is this one */
    const view *view;
    const ed_torch_place *place;
} tensor;

struct ed_torch {
    char *path;
    ed_torch_archive archive;
    view **views;
    size_t view_count, view_capacity;
    tensor *tensors;
    char **names;
    size_t count, capacity, name_capacity, visited;
    const ed_torch_place *kept; /* whose bytes are in `bytes` */
    void *bytes;
};

/* ---------------------------------------------------------------- names of Python's that mean something */

typedef enum known {
    ORDERED_DICT,
    DEFAULT_DICT,
    COUNTER,
    SET,
    TUPLE, /* torch.Size */
    REBUILD_TENSOR,
    REBUILD_PARAMETER,
    INERT,   /* may stand as a value or key, never be called */
    STORAGE, /* + its ed_st_type */
} known;

static const struct {
    const char *module, *name;
    int meaning;
} globals[] = {
    {"collections", "OrderedDict", ORDERED_DICT},
    {"collections", "defaultdict", DEFAULT_DICT},
    {"collections", "Counter", COUNTER},
    {"__builtin__", "set", SET},
    {"builtins", "set", SET},
    {"__builtin__", "dict", INERT}, /* what a defaultdict makes */
    {"builtins", "dict", INERT},
    {"torch", "Size", TUPLE},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR},
    {"torch._utils", "_rebuild_tensor", REBUILD_TENSOR},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER},
    {"torch", "FloatStorage", STORAGE + ED_ST_F32},
    {"torch", "HalfStorage", STORAGE + ED_ST_F16},
    {"torch", "BFloat16Storage", STORAGE + ED_ST_BF16},
    {"torch", "DoubleStorage", STORAGE + ED_ST_F64},
    {"torch", "LongStorage", STORAGE + ED_ST_I64},
    {"torch", "IntStorage", STORAGE + ED_ST_I32},
    {"torch", "ShortStorage", STORAGE + ED_ST_I16},
    {"torch", "CharStorage", STORAGE + ED_ST_I8},
    {"torch", "ByteStorage", STORAGE + ED_ST_U8},
    {"torch", "BoolStorage", STORAGE + ED_ST_BOOL},
    {"torch", "float32", INERT},
    {"torch", "float16", INERT},
    {"torch", "bfloat16", INERT},
    {"torch", "float64", INERT},
};

/* Checkpoints of Lightning before 1.5 have the classes of callbacks as keys: names that nobody calls. */
static bool is_callback(const char *module)
{
    static const char *const roots[] = {"pytorch_lightning.callbacks.", "lightning.pytorch.callbacks."};
    for (size_t i = 0; i < ED_COUNT(roots); i++)
        if (strncmp(module, roots[i], strlen(roots[i])) == 0) return true;
    return false;
}

static int meaning_of(void *user, const char *module, const char *name)
{
    (void)user;
    for (size_t i = 0; i < ED_COUNT(globals); i++)
        if (strcmp(globals[i].module, module) == 0 && strcmp(globals[i].name, name) == 0) return globals[i].meaning;
    return is_callback(module) ? INERT : -1;
}

/* ---------------------------------------------------------------- what is built */

static encdiff_status malformed(ed_env *env, const ed_torch *file, const char *what)
{
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %s", file->path, what);
}

static encdiff_status copy_items(ed_env *env, const ed_torch *file, ed_pickle *p, const ed_py *from, ed_py *to)
{
    if (from->kind != ED_PY_LIST && from->kind != ED_PY_TUPLE && from->kind != ED_PY_SET && from->kind != ED_PY_DICT)
        return malformed(env, file, "a container is made from what has no items");
    for (size_t i = 0; i < from->count; i++) ED_TRY(ed_pickle_append(env, p, to, from->items[i]));
    return ENCDIFF_OK;
}

/* A dictionary from another one, or from pairs. */
static encdiff_status copy_pairs(ed_env *env, const ed_torch *file, ed_pickle *p, const ed_py *from, ed_py *to)
{
    if (from->kind == ED_PY_DICT) return copy_items(env, file, p, from, to);
    if (from->kind != ED_PY_LIST && from->kind != ED_PY_TUPLE)
        return malformed(env, file, "a dictionary is made from what has no pairs");
    for (size_t i = 0; i < from->count; i++) {
        const ed_py *pair = from->items[i];
        if ((pair->kind != ED_PY_LIST && pair->kind != ED_PY_TUPLE) || pair->count != 2)
            return malformed(env, file, "a dictionary is made from what has no pairs");
        ED_TRY(copy_items(env, file, p, pair, to));
    }
    return ENCDIFF_OK;
}

static encdiff_status make_dict(ed_env *env, const ed_torch *file, ed_pickle *p, int name, const ed_py *a, ed_py **out)
{
    size_t at = name == DEFAULT_DICT && a->count ? 1 : 0; /* the factory, which is a name */
    ED_TRY(ed_pickle_new(env, p, ED_PY_DICT, out));
    if (a->count > at + 1) return malformed(env, file, "a dictionary is made from more than one value");
    return a->count > at ? copy_pairs(env, file, p, a->items[at], *out) : ENCDIFF_OK;
}

static encdiff_status make_sequence(ed_env *env, const ed_torch *file, ed_pickle *p, ed_py_kind kind, const ed_py *a,
                                    ed_py **out)
{
    ED_TRY(ed_pickle_new(env, p, kind, out));
    if (a->count > 1) return malformed(env, file, "a sequence is made from more than one value");
    return a->count ? copy_items(env, file, p, a->items[0], *out) : ENCDIFF_OK;
}

enum { IS_STORAGE, IS_TENSOR };

static bool is(const ed_py *v, int tag) { return v->kind == ED_PY_OBJECT && v->tag == tag; }

/* Whole numbers from 0 on. */
static bool read_sizes(const ed_py *from, int *rank, int64_t *to)
{
    if ((from->kind != ED_PY_TUPLE && from->kind != ED_PY_LIST) || from->count > ED_ST_MAX_RANK) return false;
    *rank = (int)from->count;
    for (int i = 0; i < *rank; i++) {
        if (from->items[i]->kind != ED_PY_INT || from->items[i]->integer < 0) return false;
        to[i] = from->items[i]->integer;
    }
    return true;
}

/* The last element lies within the storage, and the sizes multiply without overflow. */
static bool fits(const view *v)
{
    int64_t last = v->offset, count = 1, bytes;
    bool empty = false;
    for (int i = 0; i < v->rank; i++) empty |= v->dim[i] == 0;
    for (int i = 0; i < v->rank; i++) {
        int64_t step;
        if (__builtin_mul_overflow(count, ED_MAX(v->dim[i], 1), &count)) return false;
        if (empty) continue;
        if (__builtin_mul_overflow(v->dim[i] - 1, v->stride[i], &step) || __builtin_add_overflow(last, step, &last))
            return false;
    }
    return !__builtin_mul_overflow(count, 8, &bytes) && (empty || last < v->storage->numel);
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks); without the last two the older one. */
static encdiff_status make_tensor(ed_env *env, ed_torch *file, ed_pickle *p, const ed_py *a, ed_py **out)
{
    int strides = 0;
    view v = {0};
    if (a->count < 4 || !is(a->items[0], IS_STORAGE) || a->items[1]->kind != ED_PY_INT || a->items[1]->integer < 0 ||
        !read_sizes(a->items[2], &v.rank, v.dim) || !read_sizes(a->items[3], &strides, v.stride) || strides != v.rank)
        return malformed(env, file, "a tensor is described by impossible values, or has more than 8 dimensions");
    v.storage = a->items[0]->object;
    v.offset = a->items[1]->integer;
    if (!fits(&v)) return malformed(env, file, "a tensor reaches beyond its storage");
    ED_TRY(ed_reserve(env, &file->views, &file->view_capacity, file->view_count + 1, sizeof *file->views));
    view *kept = ed_alloc(env, 1, sizeof *kept);
    if (!kept) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *kept = v;
    file->views[file->view_count++] = kept;
    ED_TRY(ed_pickle_new(env, p, ED_PY_OBJECT, out));
    (*out)->object = kept;
    (*out)->tag = IS_TENSOR;
    return ENCDIFF_OK;
}

static encdiff_status call(ed_env *env, void *user, ed_pickle *p, int name, const ed_py *a, ed_py **out)
{
    ed_torch *file = user;
    switch (name) {
    case ORDERED_DICT:
    case DEFAULT_DICT:
    case COUNTER: return make_dict(env, file, p, name, a, out);
    case SET: return make_sequence(env, file, p, ED_PY_SET, a, out);
    case TUPLE: return make_sequence(env, file, p, ED_PY_TUPLE, a, out);
    case REBUILD_TENSOR: return make_tensor(env, file, p, a, out);
    case REBUILD_PARAMETER:
        if (!a->count || !is(a->items[0], IS_TENSOR)) return malformed(env, file, "a parameter is made from no tensor");
        *out = a->items[0];
        return ENCDIFF_OK;
    default: return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: it calls what must not be called", file->path);
    }
}

/* (key, offset, size) of a view, which files before 0.4 have. */
static bool read_view(const ed_py *from, ed_torch_storage *s)
{
    if (from->kind == ED_PY_NONE) return true;
    if (from->kind != ED_PY_TUPLE || from->count != 3 || from->items[1]->kind != ED_PY_INT ||
        from->items[2]->kind != ED_PY_INT || from->items[1]->integer < 0 || from->items[2]->integer < 0)
        return false;
    s->view = true;
    s->offset = from->items[1]->integer;
    s->numel = from->items[2]->integer;
    return true;
}

/* ("storage", type, key, location, numel), in the older format with a view behind. */
static encdiff_status persistent(ed_env *env, void *user, ed_pickle *p, const ed_py *id, ed_py **out)
{
    ed_torch *file = user;
    ed_torch_archive *a = &file->archive;
    ed_torch_storage s = {0};
    bool good = id->kind == ED_PY_TUPLE && id->count >= 5 && ed_py_is_text(id->items[0], "storage") &&
                id->items[1]->kind == ED_PY_NAME && id->items[1]->integer >= STORAGE &&
                id->items[2]->kind == ED_PY_TEXT && strlen(id->items[2]->text) == id->items[2]->size &&
                id->items[4]->kind == ED_PY_INT && id->items[4]->integer >= 0;
    if (good) {
        s.type = (ed_st_type)(id->items[1]->integer - STORAGE);
        s.key = id->items[2]->text;
        s.numel = id->items[4]->integer;
    }
    if (!good || (id->count > 5 && !read_view(id->items[5], &s)))
        return malformed(env, file, "a storage is described by impossible values");
    ED_TRY(ed_reserve(env, &a->storages, &a->storage_capacity, a->storage_count + 1, sizeof *a->storages));
    ed_torch_storage *kept = ed_alloc(env, 1, sizeof *kept);
    if (!kept) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    *kept = s;
    a->storages[a->storage_count++] = kept;
    ED_TRY(ed_pickle_new(env, p, ED_PY_OBJECT, out));
    (*out)->object = kept;
    (*out)->tag = IS_STORAGE;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- the list of tensors */

static encdiff_status add_tensor(ed_env *env, ed_torch *file, const char *name, const view *v)
{
    tensor t = {.view = v, .info = {.type = v->storage->type, .rank = v->rank, .count = 1}};
    for (int i = 0; i < v->rank; i++) t.info.count *= t.info.dim[i] = v->dim[i];
    t.info.bytes = (uint64_t)t.info.count * ed_st_type_size(t.info.type);
    t.place = ed_torch_archive_find(&file->archive, v->storage->key);
    if (!t.place)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: tensor %.100s: storage \"%.60s\" is missing", file->path, name,
                       v->storage->key);
    uint64_t has = t.place->bytes / ed_st_type_size(t.info.type), offset = (uint64_t)v->storage->offset,
             needs = (uint64_t)v->storage->numel;
    if (offset > has || (v->storage->view ? needs > has - offset
                                          : needs * ed_st_type_size(t.info.type) != t.place->bytes || needs != has))
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: tensor %.100s: storage \"%.60s\" has %llu bytes, not %lld %s",
                       file->path, name, v->storage->key, (unsigned long long)t.place->bytes,
                       (long long)v->storage->numel, ed_st_type_name(t.info.type));
    ED_TRY(ed_reserve(env, &file->tensors, &file->capacity, file->count + 1, sizeof *file->tensors));
    ED_TRY(ed_reserve(env, &file->names, &file->name_capacity, file->count + 1, sizeof *file->names));
    char *copy = ed_strdup(env, name);
    if (!copy) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    t.info.name = file->names[file->count] = copy;
    file->tensors[file->count++] = t;
    return ENCDIFF_OK;
}

/* Tensors under text keys, depth first; circles end at the depth limit, and what is shared again and again at the
 * limit of visits. */
static encdiff_status list_tensors(ed_env *env, ed_torch *file, const ed_py *dict, const char *prefix, int depth)
{
    if (depth > DEPTH_LIMIT) return malformed(env, file, "its dictionaries are nested deeper than 16");
    for (size_t i = 0; i + 1 < dict->count; i += 2) {
        const ed_py *key = dict->items[i], *value = dict->items[i + 1];
        if (++file->visited > VISIT_LIMIT) return malformed(env, file, "it has more than a million entries");
        if (key->kind != ED_PY_TEXT || (value->kind != ED_PY_DICT && !is(value, IS_TENSOR))) continue;
        if (strlen(key->text) != key->size || key->size > 1000 || strlen(prefix) > 4000)
            return malformed(env, file, "a name has zeros inside or is longer than 1000 bytes");
        char *name = ed_format(env, "%s%s%s", prefix, *prefix ? "." : "", key->text);
        if (!name) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        encdiff_status status = is(value, IS_TENSOR) ? add_tensor(env, file, name, value->object)
                                                     : list_tensors(env, file, value, name, depth + 1);
        ed_free(env, name);
        ED_TRY(status);
    }
    return ENCDIFF_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const tensor *)a)->info.name, ((const tensor *)b)->info.name);
}

static encdiff_status index_tensors(ed_env *env, ed_torch *file)
{
    const ed_py *root = file->archive.root, *state = ed_py_get(root, "state_dict");
    if (root->kind != ED_PY_DICT) return malformed(env, file, "it holds no dictionary of tensors");
    ED_TRY(list_tensors(env, file, state && state->kind == ED_PY_DICT ? state : root, "", 0));
    if (file->count) qsort(file->tensors, file->count, sizeof *file->tensors, compare_names);
    for (size_t i = 1; i < file->count; i++)
        if (compare_names(&file->tensors[i - 1], &file->tensors[i]) == 0)
            return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: tensor %.100s is there twice", file->path,
                           file->tensors[i].info.name);
    return ENCDIFF_OK;
}

void ed_torch_close(ed_env *env, ed_torch *file)
{
    if (!file) return;
    for (size_t i = 0; i < file->count; i++) ed_free(env, file->names[i]);
    for (size_t i = 0; i < file->view_count; i++) ed_free(env, file->views[i]);
    ed_free(env, file->names);
    ed_free(env, file->tensors);
    ed_free(env, file->views);
    ed_free(env, file->bytes);
    ed_torch_archive_close(env, &file->archive);
    ed_free(env, file->path);
    ed_free(env, file);
}

encdiff_status ed_torch_open(ed_env *env, const char *path, ed_torch **out)
{
    *out = NULL;
    ed_torch *file = ed_alloc(env, 1, sizeof *file);
    if (!file) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_pickle_host host = {path, meaning_of, call, persistent, file};
    encdiff_status status = (file->path = ed_strdup(env, path)) ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK) status = ed_torch_archive_open(env, file->path, &host, &file->archive);
    if (status == ENCDIFF_OK) status = index_tensors(env, file);
    if (status == ENCDIFF_OK)
        *out = file;
    else
        ed_torch_close(env, file);
    return status;
}

size_t ed_torch_count(const ed_torch *file) { return file->count; }
const ed_st_tensor *ed_torch_at(const ed_torch *file, size_t index) { return &file->tensors[index].info; }

const ed_st_tensor *ed_torch_find(const ed_torch *file, const char *name)
{
    tensor wanted = {.info.name = name};
    if (!file->count) return NULL;
    const tensor *found = bsearch(&wanted, file->tensors, file->count, sizeof wanted, compare_names);
    return found ? &found->info : NULL;
}

bool ed_torch_integer(const ed_torch *file, const char *key, int64_t *out)
{
    const ed_py *v = ed_py_get(file->archive.root, key);
    if (!v || v->kind != ED_PY_INT) return false;
    *out = v->integer;
    return true;
}

/* ---------------------------------------------------------------- reading */

/* The storage's bytes; the last one asked for stays, since tensors that share one lie together. */
static encdiff_status keep(ed_env *env, ed_torch *file, const ed_torch_place *place)
{
    if (file->kept == place) return ENCDIFF_OK;
    ed_free(env, file->bytes);
    file->kept = NULL;
    file->bytes = place->bytes < SIZE_MAX ? ed_alloc_raw(env, (size_t)place->bytes + 1) : NULL;
    if (!file->bytes)
        return ed_fail(env, ENCDIFF_ERROR_OUT_OF_MEMORY, "%s: no memory for a storage of %llu bytes", file->path,
                       (unsigned long long)place->bytes);
    encdiff_status status = ed_torch_archive_read(env, &file->archive, place, file->bytes);
    if (status == ENCDIFF_OK) file->kept = place;
    return status;
}

/* Innermost runs that lie together are converted together; `index` counts through the outer dimensions. */
static bool gather(const view *v, const uint8_t *bytes, ed_st_type type, int64_t count, float *out)
{
    int64_t index[ED_ST_MAX_RANK] = {0}, run = 1;
    int outer = v->rank;
    size_t size = ed_st_type_size(type);
    while (outer > 0 && (v->stride[outer - 1] == run || v->dim[outer - 1] == 1)) run *= v->dim[--outer];
    for (int64_t done = 0; done < count; done += run) {
        int64_t at = v->storage->offset + v->offset;
        for (int i = 0; i < outer; i++) at += index[i] * v->stride[i];
        if (!ed_st_to_f32(type, bytes + (size_t)at * size, (size_t)run, out + done)) return false;
        for (int i = outer - 1; i >= 0 && ++index[i] == v->dim[i]; i--) index[i] = 0;
    }
    return true;
}

encdiff_status ed_torch_read_f32(ed_env *env, ed_torch *file, const ed_st_tensor *info, float *out)
{
    const tensor *t = (const tensor *)(const void *)info;
    if (!info->count) return ENCDIFF_OK;
    ED_TRY(keep(env, file, t->place));
    if (gather(t->view, file->bytes, info->type, info->count, out)) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: tensor %s of type %s cannot be read as f32", file->path, info->name,
                   ed_st_type_name(info->type));
}
