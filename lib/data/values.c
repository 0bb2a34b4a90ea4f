/*
 * Labels of a file, any numbers, turned into classes 0, 1, 2, ... by the order of the values in each column. Values
 * that are those of 3D Shapes get its classes, so that a part of that set keeps them though some values do not occur.
 */
#include <math.h>

#include "data/dataset.h"

#define MOST_CLASSES 65536 /* a column with more is a measurement and no factor */

typedef struct column {
    double *values; /* distinct, ascending */
    size_t count, capacity;
    size_t last;       /* where the last value was found: neighbours are often equal */
    int32_t known[16]; /* classes of the values, where all are 3D Shapes' */
} column;

/* The first position whose value is not below `value`. */
static size_t lower_bound(const column *c, double value)
{
    size_t low = 0, high = c->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c->values[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static encdiff_status add_value(ed_env *env, column *c, double value)
{
    if (c->last < c->count && c->values[c->last] == value) return ENCDIFF_OK;
    size_t at = lower_bound(c, value);
    c->last = at;
    if (at < c->count && c->values[at] == value) return ENCDIFF_OK;
    ED_TRY(ed_reserve(env, &c->values, &c->capacity, c->count + 1, sizeof value));
    memmove(c->values + at + 1, c->values + at, (c->count - at) * sizeof value);
    c->values[at] = value;
    c->count++;
    return ENCDIFF_OK;
}

/* Too many classes leave the set without labels, which is said in the log. */
static encdiff_status collect(ed_env *env, const ed_dataset *dataset, int factors, const double *values,
                              column *columns, bool *usable)
{
    for (int64_t i = 0; i < dataset->size; i++)
        for (int f = 0; f < factors; f++) {
            double value = *values++;
            if (!isfinite(value))
                return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: label %d of image %lld is not a number", dataset->name,
                               f, (long long)i);
            ED_TRY(add_value(env, &columns[f], value));
            if (columns[f].count <= MOST_CLASSES) continue;
            ed_log(env, ED_LOG_WARNING, "%s: the labels are not used: column %d has more than %d different values",
                   dataset->name, f, MOST_CLASSES);
            *usable = false;
            return ENCDIFF_OK;
        }
    return ENCDIFF_OK;
}

static bool match_shapes3d(int factors, column *columns)
{
    if (factors != ED_SHAPES3D_FACTORS) return false;
    for (int f = 0; f < factors; f++) {
        int32_t label = 0, size = ed_shapes3d_sizes[f];
        for (size_t i = 0; i < columns[f].count; i++, label++) {
            while (label < size && fabs(ed_shapes3d_value(f, label) - columns[f].values[i]) > 1e-6) label++;
            if (label == size) return false;
            columns[f].known[i] = label;
        }
    }
    return true;
}

static void classify(ed_dataset *dataset, int factors, const double *values, const column *columns, bool shapes3d)
{
    int32_t *out = dataset->labels;
    for (int64_t i = 0; i < dataset->size; i++)
        for (int f = 0; f < factors; f++, out++) {
            size_t at = lower_bound(&columns[f], *values++);
            *out = shapes3d ? columns[f].known[at] : (int32_t)at;
        }
}

static encdiff_status set_values(ed_env *env, ed_dataset *dataset, int factors, const char *const *names,
                                 const double *values, column *columns)
{
    bool usable = true;
    int32_t sizes[1024];
    ED_TRY(collect(env, dataset, factors, values, columns, &usable));
    if (!usable) return ENCDIFF_OK;
    bool shapes3d = !names && match_shapes3d(factors, columns);
    for (int f = 0; f < factors; f++) sizes[f] = shapes3d ? ed_shapes3d_sizes[f] : (int32_t)columns[f].count;
    ED_TRY(ed_dataset_set_factors(env, dataset, factors, names, sizes));
    dataset->labels = ed_alloc(env, (size_t)dataset->size, sizeof(int32_t) * (size_t)factors);
    if (!dataset->labels) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    classify(dataset, factors, values, columns, shapes3d);
    return ed_dataset_examine(env, dataset);
}

encdiff_status ed_dataset_set_values(ed_env *env, ed_dataset *dataset, int factors, const char *const *names,
                                     const double *values)
{
    if (factors < 1 || factors > 1024)
        return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %d factors, expected 1 to 1024", dataset->name, factors);
    column *columns = ed_alloc(env, (size_t)factors, sizeof *columns);
    if (!columns) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    encdiff_status status = set_values(env, dataset, factors, names, values, columns);
    for (int f = 0; f < factors; f++) ed_free(env, columns[f].values);
    ed_free(env, columns);
    return status;
}
