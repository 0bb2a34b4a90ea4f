/*
 * The machine: a stack of values, a stack of marks, a memo. Nothing recurses, and what it takes is bounded by the bytes
 * that it has read: each opcode makes at most one value, and the memo grows by one at a time.
 */
#include "io/pickle.h"

#define VALUE_LIMIT ((size_t)2 << 20) /* a checkpoint of 10,000 tensors has about 300,000 */
#define BLOCK_VALUES 512

typedef struct block {
    struct block *next;
    size_t used;
    ed_py values[BLOCK_VALUES];
} block;

typedef struct values {
    ed_py **items;
    size_t count, capacity;
} values;

struct ed_pickle {
    ed_pickle_host host;
    block *blocks;
    size_t value_count;
    char **texts; /* copies of texts, which the file does not terminate */
    size_t text_count, text_capacity;
};

/* Reading of one pickle. */
typedef struct machine {
    ed_env *env;
    ed_pickle *pickle;
    const uint8_t *data;
    size_t size, at;
    values stack, memo;
    size_t *marks; /* heights of the stack */
    size_t mark_count, mark_capacity;
    bool truncated, done;
} machine;

/* ---------------------------------------------------------------- values */

encdiff_status ed_pickle_create(ed_env *env, const ed_pickle_host *host, ed_pickle **out)
{
    *out = ed_alloc(env, 1, sizeof **out);
    if (!*out) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    (*out)->host = *host;
    return ENCDIFF_OK;
}

static bool has_items(const ed_py *v) { return v->kind >= ED_PY_LIST && v->kind <= ED_PY_DICT; }

void ed_pickle_free(ed_env *env, ed_pickle *p)
{
    if (!p) return;
    while (p->blocks) {
        block *next = p->blocks->next;
        for (size_t i = 0; i < p->blocks->used; i++)
            if (has_items(&p->blocks->values[i])) ed_free(env, p->blocks->values[i].items);
        ed_free(env, p->blocks);
        p->blocks = next;
    }
    for (size_t i = 0; i < p->text_count; i++) ed_free(env, p->texts[i]);
    ed_free(env, p->texts);
    ed_free(env, p);
}

encdiff_status ed_pickle_new(ed_env *env, ed_pickle *p, ed_py_kind kind, ed_py **out)
{
    if (p->value_count++ >= VALUE_LIMIT)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: more than %zu values", p->host.name, VALUE_LIMIT);
    if (!p->blocks || p->blocks->used == BLOCK_VALUES) {
        block *fresh = ed_alloc(env, 1, sizeof *fresh);
        if (!fresh) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        fresh->next = p->blocks;
        p->blocks = fresh;
    }
    *out = &p->blocks->values[p->blocks->used++];
    (*out)->kind = kind;
    return ENCDIFF_OK;
}

encdiff_status ed_pickle_append(ed_env *env, ed_pickle *p, ed_py *to, ed_py *item)
{
    (void)p;
    ED_TRY(ed_reserve(env, &to->items, &to->capacity, to->count + 1, sizeof(ed_py *)));
    to->items[to->count++] = item;
    return ENCDIFF_OK;
}

bool ed_py_is_text(const ed_py *v, const char *text)
{
    return v && v->kind == ED_PY_TEXT && v->size == strlen(text) && memcmp(v->text, text, v->size) == 0;
}

const ed_py *ed_py_get(const ed_py *dict, const char *key)
{
    const ed_py *found = NULL;
    if (!dict || dict->kind != ED_PY_DICT) return NULL;
    for (size_t i = 0; i + 1 < dict->count; i += 2)
        if (ed_py_is_text(dict->items[i], key)) found = dict->items[i + 1];
    return found;
}

/* ---------------------------------------------------------------- stack, marks, memo */

static encdiff_status malformed(machine *m, const char *what)
{
    return ed_fail(m->env, ENCDIFF_ERROR_FORMAT, "%s: the pickle is malformed: %s (byte %zu)", m->pickle->host.name,
                   what, m->at);
}

static encdiff_status push(machine *m, ed_py *v)
{
    ED_TRY(ed_reserve(m->env, &m->stack.items, &m->stack.capacity, m->stack.count + 1, sizeof(ed_py *)));
    m->stack.items[m->stack.count++] = v;
    return ENCDIFF_OK;
}

static encdiff_status push_new(machine *m, ed_py_kind kind, ed_py **out)
{
    ED_TRY(ed_pickle_new(m->env, m->pickle, kind, out));
    return push(m, *out);
}

/* Values above the last mark are out of reach of opcodes that take a fixed number. */
static size_t reachable(const machine *m) { return m->stack.count - (m->mark_count ? m->marks[m->mark_count - 1] : 0); }

static encdiff_status pop(machine *m, ed_py **out)
{
    if (!reachable(m)) return malformed(m, "it takes from an empty stack");
    *out = m->stack.items[--m->stack.count];
    return ENCDIFF_OK;
}

static encdiff_status top(machine *m, ed_py **out)
{
    if (!reachable(m)) return malformed(m, "it looks at an empty stack");
    *out = m->stack.items[m->stack.count - 1];
    return ENCDIFF_OK;
}

static encdiff_status push_mark(machine *m)
{
    ED_TRY(ed_reserve(m->env, &m->marks, &m->mark_capacity, m->mark_count + 1, sizeof *m->marks));
    m->marks[m->mark_count++] = m->stack.count;
    return ENCDIFF_OK;
}

static encdiff_status pop_mark(machine *m, size_t *height)
{
    if (!m->mark_count) return malformed(m, "a mark is missing");
    *height = m->marks[--m->mark_count];
    return ENCDIFF_OK;
}

/* Move the values from `height` on into `to`. */
static encdiff_status collect(machine *m, size_t height, ed_py *to)
{
    for (size_t i = height; i < m->stack.count; i++) ED_TRY(ed_pickle_append(m->env, m->pickle, to, m->stack.items[i]));
    m->stack.count = height;
    return ENCDIFF_OK;
}

static encdiff_status memo_put(machine *m, uint64_t index)
{
    ed_py *v = NULL;
    ED_TRY(top(m, &v));
    if (index > m->memo.count) return malformed(m, "its memo has a gap");
    if (index == m->memo.count) {
        ED_TRY(ed_reserve(m->env, &m->memo.items, &m->memo.capacity, m->memo.count + 1, sizeof(ed_py *)));
        m->memo.count++;
    }
    m->memo.items[index] = v;
    return ENCDIFF_OK;
}

static encdiff_status memo_get(machine *m, uint64_t index)
{
    if (index >= m->memo.count) return malformed(m, "it asks the memo for what is not there");
    return push(m, m->memo.items[index]);
}

/* ---------------------------------------------------------------- operands */

static encdiff_status take(machine *m, uint64_t size, const uint8_t **out)
{
    if (size > m->size - m->at) {
        m->truncated = true;
        return malformed(m, "it ends too early");
    }
    *out = m->data + m->at;
    m->at += (size_t)size;
    return ENCDIFF_OK;
}

/* A little-endian number of `bytes` bytes. */
static encdiff_status take_number(machine *m, int bytes, uint64_t *out)
{
    const uint8_t *p = NULL;
    ED_TRY(take(m, (uint64_t)bytes, &p));
    *out = 0;
    for (int i = 0; i < bytes; i++) *out |= (uint64_t)p[i] << 8 * i;
    return ENCDIFF_OK;
}

/* A line without its end. */
static encdiff_status take_line(machine *m, const char **text, size_t *size)
{
    const uint8_t *from = m->data + m->at, *end = memchr(from, '\n', m->size - m->at);
    if (!end) {
        m->truncated = true;
        return malformed(m, "it ends too early");
    }
    *text = (const char *)from;
    *size = (size_t)(end - from);
    m->at += *size + 1;
    return ENCDIFF_OK;
}

static encdiff_status copy_text(machine *m, const void *text, size_t size, const char **out)
{
    ed_pickle *p = m->pickle;
    ED_TRY(ed_reserve(m->env, &p->texts, &p->text_capacity, p->text_count + 1, sizeof *p->texts));
    char *copy = ed_alloc_raw(m->env, size + 1);
    if (!copy) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    memcpy(copy, text, size);
    copy[size] = 0;
    p->texts[p->text_count++] = copy;
    *out = copy;
    return ENCDIFF_OK;
}

static encdiff_status push_text(machine *m, ed_py_kind kind, int length_bytes)
{
    uint64_t size = 0;
    const uint8_t *bytes = NULL;
    ed_py *v = NULL;
    ED_TRY(take_number(m, length_bytes, &size));
    ED_TRY(take(m, size, &bytes));
    ED_TRY(push_new(m, ED_PY_NONE, &v));
    ED_TRY(copy_text(m, bytes, (size_t)size, &v->text));
    v->kind = kind;
    v->size = (size_t)size;
    return ENCDIFF_OK;
}

static encdiff_status push_int(machine *m, int bytes)
{
    uint64_t number = 0;
    ed_py *v = NULL;
    ED_TRY(take_number(m, bytes, &number));
    ED_TRY(push_new(m, ED_PY_INT, &v));
    v->integer = bytes == 4 ? (int64_t)(int32_t)(uint32_t)number : (int64_t)number;
    return ENCDIFF_OK;
}

/* Two's complement of any length; what does not fit 64 bits is kept as bytes. */
static encdiff_status push_long(machine *m, int length_bytes)
{
    uint64_t size = 0, number = 0;
    const uint8_t *bytes = NULL;
    ed_py *v = NULL;
    ED_TRY(take_number(m, length_bytes, &size));
    ED_TRY(take(m, size, &bytes));
    ED_TRY(push_new(m, ED_PY_INT, &v));
    if (size > 8) {
        ED_TRY(copy_text(m, bytes, (size_t)size, &v->text));
        v->kind = ED_PY_BYTES;
        v->size = (size_t)size;
        return ENCDIFF_OK;
    }
    for (uint64_t i = 0; i < 8; i++)
        number |= (uint64_t)(i < size ? bytes[i] : size && bytes[size - 1] & 0x80 ? 0xFF : 0) << 8 * i;
    v->integer = (int64_t)number;
    return ENCDIFF_OK;
}

static encdiff_status push_float(machine *m)
{
    const uint8_t *p = NULL;
    uint64_t bits = 0;
    ed_py *v = NULL;
    ED_TRY(take(m, 8, &p));
    for (int i = 0; i < 8; i++) bits = bits << 8 | p[i]; /* the one big-endian operand */
    ED_TRY(push_new(m, ED_PY_FLOAT, &v));
    memcpy(&v->real, &bits, sizeof bits);
    return ENCDIFF_OK;
}

static encdiff_status push_bool(machine *m, bool value)
{
    ed_py *v = NULL;
    ED_TRY(push_new(m, ED_PY_BOOL, &v));
    v->integer = value;
    return ENCDIFF_OK;
}

/* ---------------------------------------------------------------- containers */

static encdiff_status make_marked(machine *m, ed_py_kind kind)
{
    size_t height = 0;
    ed_py *v = NULL;
    ED_TRY(pop_mark(m, &height));
    ED_TRY(ed_pickle_new(m->env, m->pickle, kind, &v));
    ED_TRY(collect(m, height, v));
    if (kind == ED_PY_DICT && v->count % 2) return malformed(m, "a dictionary has a key without a value");
    return push(m, v);
}

static encdiff_status make_tuple(machine *m, size_t count)
{
    ed_py *v = NULL;
    if (reachable(m) < count) return malformed(m, "it takes from an empty stack");
    ED_TRY(ed_pickle_new(m->env, m->pickle, ED_PY_TUPLE, &v));
    ED_TRY(collect(m, m->stack.count - count, v));
    return push(m, v);
}

/* Append what is above `height` to the container below, which must be of the kind. */
static encdiff_status extend(machine *m, size_t height, ed_py_kind kind)
{
    if (height < 1 || (m->mark_count && height <= m->marks[m->mark_count - 1]))
        return malformed(m, "it fills what is not there");
    ed_py *to = m->stack.items[height - 1];
    if (to->kind != kind || (kind == ED_PY_DICT && (m->stack.count - height) % 2))
        return malformed(m, "it fills a value that is not such a container");
    return collect(m, height, to);
}

static encdiff_status extend_marked(machine *m, ed_py_kind kind)
{
    size_t height = 0;
    ED_TRY(pop_mark(m, &height));
    return extend(m, height, kind);
}

static encdiff_status extend_by(machine *m, size_t count, ed_py_kind kind)
{
    if (reachable(m) < count + 1) return malformed(m, "it takes from an empty stack");
    return extend(m, m->stack.count - count, kind);
}

/* ---------------------------------------------------------------- names and what is made with them */

static encdiff_status push_name(machine *m, const char *module, const char *name)
{
    const ed_pickle_host *host = &m->pickle->host;
    ed_py *v = NULL;
    int known = host->global(host->user, module, name);
    if (known < 0)
        return ed_fail(m->env, ENCDIFF_ERROR_UNSUPPORTED,
                       "%s: it names %.100s.%.100s, which is refused: only tensors and plain containers are read",
                       host->name, module, name);
    ED_TRY(push_new(m, ED_PY_NAME, &v));
    v->integer = known;
    return ENCDIFF_OK;
}

static encdiff_status global(machine *m)
{
    const char *module = NULL, *name = NULL;
    size_t module_size = 0, name_size = 0;
    ED_TRY(take_line(m, &module, &module_size));
    ED_TRY(take_line(m, &name, &name_size));
    ED_TRY(copy_text(m, module, module_size, &module));
    ED_TRY(copy_text(m, name, name_size, &name));
    return push_name(m, module, name);
}

static encdiff_status stack_global(machine *m)
{
    ed_py *module = NULL, *name = NULL;
    ED_TRY(pop(m, &name));
    ED_TRY(pop(m, &module));
    if (module->kind != ED_PY_TEXT || name->kind != ED_PY_TEXT) return malformed(m, "a name is not text");
    return push_name(m, module->text, name->text);
}

static encdiff_status reduce(machine *m)
{
    const ed_pickle_host *host = &m->pickle->host;
    ed_py *arguments = NULL, *function = NULL, *result = NULL;
    ED_TRY(pop(m, &arguments));
    ED_TRY(pop(m, &function));
    if (function->kind != ED_PY_NAME || arguments->kind != ED_PY_TUPLE)
        return malformed(m, "it calls what cannot be called");
    ED_TRY(host->call(m->env, host->user, m->pickle, (int)function->integer, arguments, &result));
    return push(m, result);
}

/* Attributes, which plain data has not: those of a dictionary (a state_dict's `_metadata`) are dropped. */
static encdiff_status build(machine *m)
{
    ed_py *state = NULL, *object = NULL;
    ED_TRY(pop(m, &state));
    ED_TRY(top(m, &object));
    if (object->kind == ED_PY_DICT && state->kind == ED_PY_DICT) return ENCDIFF_OK;
    return ed_fail(m->env, ENCDIFF_ERROR_UNSUPPORTED,
                   "%s: it sets attributes of an object, which is refused: only tensors and plain containers are read",
                   m->pickle->host.name);
}

static encdiff_status persistent(machine *m)
{
    const ed_pickle_host *host = &m->pickle->host;
    ed_py *identifier = NULL, *result = NULL;
    ED_TRY(pop(m, &identifier));
    ED_TRY(host->persistent(m->env, host->user, m->pickle, identifier, &result));
    return push(m, result);
}

/* ---------------------------------------------------------------- opcodes */

static encdiff_status protocol(machine *m)
{
    uint64_t version = 0;
    ED_TRY(take_number(m, 1, &version));
    return version <= 5 ? ENCDIFF_OK : malformed(m, "its protocol is newer than 5");
}

static encdiff_status pop_opcode(machine *m)
{
    size_t height = 0;
    ed_py *v = NULL;
    if (reachable(m) || !m->mark_count) return pop(m, &v);
    return pop_mark(m, &height);
}

static encdiff_status pop_to_mark(machine *m)
{
    size_t height = 0;
    ED_TRY(pop_mark(m, &height));
    m->stack.count = height;
    return ENCDIFF_OK;
}

static encdiff_status duplicate(machine *m)
{
    ed_py *v = NULL;
    ED_TRY(top(m, &v));
    return push(m, v);
}

static encdiff_status memo_opcode(machine *m, bool put, int bytes)
{
    uint64_t index = 0;
    ED_TRY(take_number(m, bytes, &index));
    return put ? memo_put(m, index) : memo_get(m, index);
}

static encdiff_status skip_frame(machine *m)
{
    uint64_t length = 0;
    return take_number(m, 8, &length);
}

static encdiff_status step(machine *m)
{
    uint64_t opcode = 0;
    ed_py *v = NULL;
    ED_TRY(take_number(m, 1, &opcode));
    switch (opcode) {
    case 0x80: return protocol(m);
    case 0x95: return skip_frame(m);
    case '.': m->done = true; return ENCDIFF_OK;
    case '(': return push_mark(m);
    case '0': return pop_opcode(m);
    case '1': return pop_to_mark(m);
    case '2': return duplicate(m);
    case 'N': return push_new(m, ED_PY_NONE, &v);
    case 0x88: return push_bool(m, true);
    case 0x89: return push_bool(m, false);
    case 'J': return push_int(m, 4);
    case 'K': return push_int(m, 1);
    case 'M': return push_int(m, 2);
    case 0x8a: return push_long(m, 1);
    case 0x8b: return push_long(m, 4);
    case 'G': return push_float(m);
    case 'X': return push_text(m, ED_PY_TEXT, 4);
    case 0x8c: return push_text(m, ED_PY_TEXT, 1);
    case 0x8d: return push_text(m, ED_PY_TEXT, 8);
    case 'U': return push_text(m, ED_PY_TEXT, 1); /* str of Python 2 */
    case 'T': return push_text(m, ED_PY_TEXT, 4);
    case 'C': return push_text(m, ED_PY_BYTES, 1);
    case 'B': return push_text(m, ED_PY_BYTES, 4);
    case 0x8e: return push_text(m, ED_PY_BYTES, 8);
    case ']': return push_new(m, ED_PY_LIST, &v);
    case '}': return push_new(m, ED_PY_DICT, &v);
    case ')': return push_new(m, ED_PY_TUPLE, &v);
    case 0x8f: return push_new(m, ED_PY_SET, &v);
    case 'l': return make_marked(m, ED_PY_LIST);
    case 't': return make_marked(m, ED_PY_TUPLE);
    case 'd': return make_marked(m, ED_PY_DICT);
    case 0x91: return make_marked(m, ED_PY_SET); /* frozenset */
    case 0x85: return make_tuple(m, 1);
    case 0x86: return make_tuple(m, 2);
    case 0x87: return make_tuple(m, 3);
    case 'a': return extend_by(m, 1, ED_PY_LIST);
    case 's': return extend_by(m, 2, ED_PY_DICT);
    case 'e': return extend_marked(m, ED_PY_LIST);
    case 'u': return extend_marked(m, ED_PY_DICT);
    case 0x90: return extend_marked(m, ED_PY_SET);
    case 'q': return memo_opcode(m, true, 1);
    case 'r': return memo_opcode(m, true, 4);
    case 'h': return memo_opcode(m, false, 1);
    case 'j': return memo_opcode(m, false, 4);
    case 0x94: return memo_put(m, m->memo.count);
    case 'c': return global(m);
    case 0x93: return stack_global(m);
    case 'R': return reduce(m);
    case 'b': return build(m);
    case 'Q': return persistent(m);
    default:
        return ed_fail(m->env, ENCDIFF_ERROR_UNSUPPORTED,
                       "%s: byte %zu of the pickle is opcode 0x%02x, which is refused: only tensors and plain "
                       "containers are read",
                       m->pickle->host.name, m->at - 1, (unsigned)opcode);
    }
}

static encdiff_status run(machine *m, ed_py **out)
{
    for (uint64_t steps = 1; !m->done; steps++) {
        ED_TRY(step(m));
        if (steps % 4096 == 0) ED_TRY(ed_check_cancel(m->env));
    }
    if (m->stack.count != 1 || m->mark_count) return malformed(m, "it does not end with one value");
    *out = m->stack.items[0];
    return ENCDIFF_OK;
}

encdiff_status ed_pickle_read(ed_env *env, ed_pickle *pickle, const uint8_t *data, size_t size, size_t *used,
                              bool *truncated, ed_py **out)
{
    machine m = {.env = env, .pickle = pickle, .data = data, .size = size};
    encdiff_status status = run(&m, out);
    *used = m.at;
    if (truncated) *truncated = m.truncated;
    ed_free(env, m.stack.items);
    ed_free(env, m.memo.items);
    ed_free(env, m.marks);
    return status;
}
