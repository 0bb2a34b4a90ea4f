/*
 * pickle: Python values, read by a machine that runs nothing. It knows the opcodes of protocols 2 to 5 that plain data
 * needs and builds plain data: None, truth values, numbers, text, bytes, lists, tuples, sets, dictionaries. A name of
 * Python's (a "global") means only what the host's table says; every other name is refused, with its name in the
 * message, as soon as it is read.
 *
 * https://github.com/python/cpython/blob/main/Lib/pickletools.py describes the opcodes.
 */
#ifndef ED_IO_PICKLE_H
#define ED_IO_PICKLE_H

#include "base/base.h"

typedef enum ed_py_kind {
    ED_PY_NONE,
    ED_PY_BOOL,   /* integer: 0 or 1 */
    ED_PY_INT,    /* integer */
    ED_PY_FLOAT,  /* real */
    ED_PY_TEXT,   /* text, size: UTF-8 as it stands in the file, terminated; it may have zeros inside */
    ED_PY_BYTES,  /* text, size; also integers of more than eight bytes, little-endian */
    ED_PY_LIST,   /* items, count */
    ED_PY_TUPLE,  /* items, count */
    ED_PY_SET,    /* items, count */
    ED_PY_DICT,   /* items, count: key, value, key, value ... */
    ED_PY_NAME,   /* integer: what the host's table says of the global */
    ED_PY_OBJECT, /* object, tag: what the host made */
} ed_py_kind;

typedef struct ed_py {
    ed_py_kind kind;
    union {
        int64_t integer;
        double real;
        struct {
            const char *text;
            size_t size;
        };
        struct {
            struct ed_py **items;
            size_t count, capacity;
        };
        struct {
            const void *object;
            int tag; /* the host's */
        };
    };
} ed_py;

typedef struct ed_pickle ed_pickle;

/* What the host knows. `user` is passed on. */
typedef struct ed_pickle_host {
    const char *name; /* of the file, for messages */
    /* What module.name stands for, or -1: refused. */
    int (*global)(void *user, const char *module, const char *name);
    /* The value of name(*arguments). Failing refuses the call. */
    encdiff_status (*call)(ed_env *env, void *user, ed_pickle *pickle, int name, const ed_py *arguments, ed_py **out);
    /* The value of a persistent identifier. */
    encdiff_status (*persistent)(ed_env *env, void *user, ed_pickle *pickle, const ed_py *identifier, ed_py **out);
    void *user;
} ed_pickle_host;

/* Owns all values that were read. Values may refer to each other in circles. */
encdiff_status ed_pickle_create(ed_env *env, const ed_pickle_host *host, ed_pickle **out);
void ed_pickle_free(ed_env *env, ed_pickle *pickle); /* NULL is fine */
/*
 * Read one pickle from the start of `data`, which is not needed afterwards; *used is its length. ENCDIFF_ERROR_FORMAT,
 * with *truncated true (may be NULL) where `data` only ends too early; ENCDIFF_ERROR_UNSUPPORTED for a name or an
 * opcode that is refused.
 */
encdiff_status ed_pickle_read(ed_env *env, ed_pickle *pickle, const uint8_t *data, size_t size, size_t *used,
                              bool *truncated, ed_py **out);

/* For hosts: a value of its own kind; text and items stay the host's. */
encdiff_status ed_pickle_new(ed_env *env, ed_pickle *pickle, ed_py_kind kind, ed_py **out);
/* Append to a list, tuple, set or dictionary (key, then value). */
encdiff_status ed_pickle_append(ed_env *env, ed_pickle *pickle, ed_py *to, ed_py *item);

/* The value of a text key, the last where there are several; NULL when absent or `dict` is no dictionary. */
const ed_py *ed_py_get(const ed_py *dict, const char *key);
bool ed_py_is_text(const ed_py *value, const char *text);

#endif
