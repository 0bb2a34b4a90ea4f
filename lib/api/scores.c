/* Scores: a tree of results as numbers by name and as JSON; the mean and deviation of several. */
#include <math.h>

#include "api/scoring.h"

struct encdiff_scores {
    encdiff_context *context;
    char **names;
    double *values;
    size_t count, name_capacity, value_capacity;
    char *json, *timing;
};

void encdiff_scores_free(encdiff_scores *s)
{
    if (!s) return;
    encdiff_context *context = s->context;
    for (size_t i = 0; i < s->count; i++) ed_free(&context->env, s->names[i]);
    ed_free(&context->env, s->names);
    ed_free(&context->env, s->values);
    ed_free(&context->env, s->json);
    ed_free(&context->env, s->timing);
    ed_free(&context->env, s);
    encdiff_context_free(context);
}

int32_t encdiff_scores_count(const encdiff_scores *s) { return s ? (int32_t)s->count : 0; }

const char *encdiff_scores_name(const encdiff_scores *s, int32_t index)
{
    return s && index >= 0 && (size_t)index < s->count ? s->names[index] : NULL;
}

double encdiff_scores_value(const encdiff_scores *s, int32_t index)
{
    return s && index >= 0 && (size_t)index < s->count ? s->values[index] : NAN;
}

encdiff_status encdiff_scores_find(const encdiff_scores *s, const char *name, double *value)
{
    ED_API_BEGIN;
    if (!s || !name || !value) return ENCDIFF_ERROR_ARGUMENT;
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->names[i], name) == 0) {
            *value = s->values[i];
            return ENCDIFF_OK;
        }
    return ENCDIFF_ERROR_NOT_FOUND;
}

const char *encdiff_scores_json(const encdiff_scores *s) { return s ? s->json : NULL; }

const char *encdiff_scores_timing_json(const encdiff_scores *s) { return s ? s->timing : NULL; }

/* ---------------------------------------------------------------- from the tree to scores */

static encdiff_status add_score(encdiff_scores *s, const char *name, double value)
{
    ed_env *env = &s->context->env;
    ED_TRY(ed_reserve(env, &s->names, &s->name_capacity, s->count + 1, sizeof *s->names));
    ED_TRY(ed_reserve(env, &s->values, &s->value_capacity, s->count + 1, sizeof *s->values));
    char *copy = ed_strdup(env, name);
    if (!copy) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    s->names[s->count] = copy;
    s->values[s->count++] = value;
    return ENCDIFF_OK;
}

static bool is_settings(const ed_json *node) { return node->key && strcmp(node->key, "settings") == 0; }

/* Every number of the tree but settings, matrices and the single repeats. */
static encdiff_status flatten(encdiff_scores *s, const ed_json *node)
{
    char path[256];
    if (node->kind == ED_JSON_NUMBER) return add_score(s, ed_json_path(node, path), node->number);
    if (node->kind != ED_JSON_OBJECT || is_settings(node)) return ENCDIFF_OK;
    for (size_t i = 0; i < node->count; i++) ED_TRY(flatten(s, node->items[i]));
    return ENCDIFF_OK;
}

/* JSON has no infinity (the PSNR of equal images): it is written as null. */
static void drop_infinities(ed_json *node)
{
    if (node->kind == ED_JSON_NUMBER && !isfinite(node->number)) node->kind = ED_JSON_NULL;
    for (size_t i = 0; i < node->count; i++) drop_infinities(node->items[i]);
}

static encdiff_status fill(encdiff_scores *s, ed_json *tree, const ed_json *timing)
{
    ed_env *env = &s->context->env;
    ed_text text = {0}, times = {0};
    encdiff_status status = flatten(s, tree);
    drop_infinities(tree);
    if (status == ENCDIFF_OK) status = ed_json_print(env, tree, true, &text);
    s->json = text.data;
    if (status == ENCDIFF_OK) status = ed_json_print(env, timing, true, &times);
    s->timing = times.data;
    return status;
}

encdiff_status ed_scores_create(encdiff_context *context, ed_json *tree, const ed_json *timing, encdiff_scores **out)
{
    encdiff_scores *s = ed_alloc(&context->env, 1, sizeof *s);
    if (!s) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    s->context = context;
    ed_context_retain(context);
    encdiff_status status = fill(s, tree, timing);
    if (status != ENCDIFF_OK)
        encdiff_scores_free(s);
    else
        *out = s;
    return status;
}

/* ---------------------------------------------------------------- repeats */

/* Nodes that stand at one place in each of the repeats. */
typedef struct nodes {
    ed_env *env;
    ed_json **at; /* [count] */
    int32_t count;
} nodes;

static double mean_of(const nodes *n)
{
    double sum = 0;
    for (int32_t r = 0; r < n->count; r++) sum += n->at[r]->number;
    return sum / n->count;
}

static double deviation_of(const nodes *n, double mean)
{
    double sum = 0;
    for (int32_t r = 0; r < n->count; r++) sum += (n->at[r]->number - mean) * (n->at[r]->number - mean);
    return sqrt(sum / (n->count - 1));
}

/* The means go to `to`, the copy of the first; deviations of what is no matrix under the same keys of `deviation`. */
static encdiff_status average(const nodes *n, ed_json *to, ed_json *deviation)
{
    ed_json *inner = deviation;
    if (is_settings(to)) return ENCDIFF_OK;
    for (int32_t r = 0; r < n->count; r++)
        if (n->at[r]->kind != to->kind || n->at[r]->count != to->count)
            return ed_fail(n->env, ENCDIFF_ERROR_INTERNAL, "repeats of an evaluation differ in \"%s\"", to->key);
    if (to->kind == ED_JSON_NUMBER) {
        to->number = mean_of(n);
        return deviation ? ed_json_put_number(n->env, deviation, to->key, deviation_of(n, to->number)) : ENCDIFF_OK;
    }
    if (to->kind == ED_JSON_ARRAY) inner = NULL;
    if (to->kind == ED_JSON_OBJECT && to->parent)
        ED_TRY(ed_json_put_new(n->env, deviation, to->key, ED_JSON_OBJECT, &inner));
    ed_json **children = ed_alloc(n->env, (size_t)n->count, sizeof *children);
    if (!children) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = ENCDIFF_OK;
    for (size_t i = 0; i < to->count && status == ENCDIFF_OK; i++) {
        for (int32_t r = 0; r < n->count; r++) children[r] = n->at[r]->items[i];
        status = average(&(nodes){n->env, children, n->count}, to->items[i], inner);
    }
    ed_free(n->env, children);
    return status;
}

/* The numbers of a tree alone. */
static encdiff_status put_numbers(ed_env *env, const ed_json *from, ed_json *to)
{
    for (size_t i = 0; i < from->count; i++) {
        const ed_json *node = from->items[i];
        ed_json *inner;
        if (node->kind == ED_JSON_NUMBER) ED_TRY(ed_json_put_number(env, to, node->key, node->number));
        if (node->kind != ED_JSON_OBJECT || is_settings(node)) continue;
        ED_TRY(ed_json_put_new(env, to, node->key, ED_JSON_OBJECT, &inner));
        ED_TRY(put_numbers(env, node, inner));
    }
    return ENCDIFF_OK;
}

static encdiff_status add_repeats(ed_env *env, ed_json *const *trees, int32_t count, ed_json *mean)
{
    ed_json *deviation = ed_json_new(env, ED_JSON_OBJECT), *list, *one;
    if (!deviation) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    nodes n = {env, (ed_json **)(uintptr_t)trees, count};
    encdiff_status status = average(&n, mean, deviation);
    if (status != ENCDIFF_OK) {
        ed_json_free(env, deviation);
        return status;
    }
    ED_TRY(ed_json_put(env, mean, "deviation", deviation));
    ED_TRY(ed_json_put_new(env, mean, "repeats", ED_JSON_ARRAY, &list));
    for (int32_t r = 0; r < count; r++) {
        ED_TRY(ed_json_put_new(env, list, NULL, ED_JSON_OBJECT, &one));
        ED_TRY(put_numbers(env, trees[r], one));
    }
    return ENCDIFF_OK;
}

encdiff_status ed_scores_average(ed_env *env, ed_json *const *trees, int32_t count, ed_json **mean)
{
    *mean = ed_json_copy(env, trees[0]);
    if (!*mean) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = count > 1 ? add_repeats(env, trees, count, *mean) : ENCDIFF_OK;
    if (status == ENCDIFF_OK) return ENCDIFF_OK;
    ed_json_free(env, *mean);
    *mean = NULL;
    return status;
}
