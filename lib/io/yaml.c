#include <stdio.h>
#include <stdlib.h>

#include "io/yaml.h"

#ifndef ED_HAVE_YAML

encdiff_status ed_yaml_read(ed_env *env, const char *path, ed_json **out)
{
    *out = NULL;
    return ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: this build reads no YAML (libyaml was not there)", path);
}

#else

#include <yaml.h>

#include "io/io.h"

#define MOST_BYTES (16 << 20)
#define MOST_VALUES 100000
#define DEEPEST 64

typedef struct reader {
    ed_env *env;
    const char *path;
    yaml_document_t document;
    int values;
} reader;

/* ---------------------------------------------------------------- scalars */

static bool is_one_of(const char *text, const char *const names[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, names[i]) == 0) return true;
    return false;
}

static ed_json *scalar(reader *r, const yaml_node_t *node)
{
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "on", "On"},
                             *const no[] = {"false", "False", "FALSE", "no", "No", "off", "Off"},
                             *const null[] = {"", "~", "null", "Null", "NULL"};
    const char *text = (const char *)node->data.scalar.value;
    bool plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    char *end;
    double number = strtod(text, &end);
    bool is_number = plain && end != text && !*end && text[strspn(text, "+-.0123456789eE")] == 0;
    bool truth = plain && is_one_of(text, yes, ED_COUNT(yes)), untruth = plain && is_one_of(text, no, ED_COUNT(no));
    ed_json_kind kind = is_number                                        ? ED_JSON_NUMBER
                        : truth || untruth                               ? ED_JSON_BOOL
                        : plain && is_one_of(text, null, ED_COUNT(null)) ? ED_JSON_NULL
                                                                         : ED_JSON_STRING;
    ed_json *value = ed_json_new(r->env, kind);
    if (!value) return NULL;
    value->number = is_number ? number : truth;
    if (kind == ED_JSON_STRING && !(value->string = ed_strdup(r->env, text))) {
        ed_json_free(r->env, value);
        return NULL;
    }
    return value;
}

/* ---------------------------------------------------------------- trees */

static encdiff_status bad(reader *r, const yaml_node_t *node, const char *what)
{
    return ed_fail(r->env, ENCDIFF_ERROR_FORMAT, "%s: line %zu, column %zu: %s", r->path, node->start_mark.line + 1,
                   node->start_mark.column + 1, what);
}

static encdiff_status convert(reader *r, int index, int depth, ed_json **out);

static encdiff_status put(reader *r, ed_json *holder, const char *key, int index, int depth)
{
    ed_json *value;
    ED_TRY(convert(r, index, depth, &value));
    return ed_json_put(r->env, holder, key, value);
}

static encdiff_status fill(reader *r, const yaml_node_t *node, int depth, ed_json *holder)
{
    if (node->type == YAML_SEQUENCE_NODE) {
        for (const yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++)
            ED_TRY(put(r, holder, NULL, *i, depth));
        return ENCDIFF_OK;
    }
    for (const yaml_node_pair_t *i = node->data.mapping.pairs.start; i < node->data.mapping.pairs.top; i++) {
        const yaml_node_t *key = yaml_document_get_node(&r->document, i->key);
        if (key->type != YAML_SCALAR_NODE) return bad(r, key, "a key that is no text");
        ED_TRY(put(r, holder, (const char *)key->data.scalar.value, i->value, depth));
    }
    return ENCDIFF_OK;
}

static encdiff_status convert(reader *r, int index, int depth, ed_json **out)
{
    const yaml_node_t *node = yaml_document_get_node(&r->document, index);
    *out = NULL;
    if (depth > DEEPEST) return bad(r, node, "nested deeper than 64");
    if (++r->values > MOST_VALUES) return bad(r, node, "more than 100,000 values");
    if (node->type == YAML_SCALAR_NODE) return (*out = scalar(r, node)) ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_json *tree = ed_json_new(r->env, node->type == YAML_SEQUENCE_NODE ? ED_JSON_ARRAY : ED_JSON_OBJECT);
    if (!tree) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = fill(r, node, depth + 1, tree);
    if (status == ENCDIFF_OK)
        *out = tree;
    else
        ed_json_free(r->env, tree);
    return status;
}

static encdiff_status parse(reader *r, const unsigned char *text, size_t size, ed_json **out)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) return ed_fail(r->env, ENCDIFF_ERROR_OUT_OF_MEMORY, "no memory to read YAML");
    yaml_parser_set_input_string(&parser, text, size);
    encdiff_status status = ENCDIFF_OK;
    if (!yaml_parser_load(&parser, &r->document)) {
        status = ed_fail(r->env, ENCDIFF_ERROR_FORMAT, "%s: line %zu, column %zu: %s", r->path,
                         parser.problem_mark.line + 1, parser.problem_mark.column + 1,
                         parser.problem ? parser.problem : "no YAML");
    } else {
        if (!yaml_document_get_root_node(&r->document))
            status = ed_fail(r->env, ENCDIFF_ERROR_FORMAT, "%s: is empty", r->path);
        else
            status = convert(r, 1, 0, out);
        yaml_document_delete(&r->document);
    }
    yaml_parser_delete(&parser);
    return status;
}

encdiff_status ed_yaml_read(ed_env *env, const char *path, ed_json **out)
{
    reader r = {.env = env, .path = path};
    ed_source source;
    *out = NULL;
    ED_TRY(ed_source_open(env, path, &source));
    encdiff_status status = ENCDIFF_OK;
    unsigned char *text = NULL;
    if (source.size > MOST_BYTES)
        status = ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %llu bytes are no configuration", path,
                         (unsigned long long)source.size);
    else if (!(text = ed_alloc(env, (size_t)source.size + 1, 1)))
        status = ENCDIFF_ERROR_OUT_OF_MEMORY;
    else
        status = ed_source_read(env, &source, 0, text, (size_t)source.size);
    if (status == ENCDIFF_OK) status = parse(&r, text, (size_t)source.size, out);
    ed_free(env, text);
    ed_source_close(env, &source);
    return status;
}

#endif
