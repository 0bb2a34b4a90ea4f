/*
 * A folder of pictures with a table of their factors, factors.csv:
 *
 *   file,shape,size,split
 *   a/1.png,cube,0.5,train
 *
 * The images are those of the rows, in their order. A column of numbers becomes classes in ascending order, any other
 * in the order of its texts; the column "split", where there is one, says which part of the set an image belongs to.
 */
#include <stdlib.h>

#include "data/pictures.h"
#include "data/table.h"

typedef struct listing {
    const char *folder;
    ed_table table;
    int columns, split; /* of the table; the split's, or 0: none */
    char **names;       /* [columns], in the table's text */
    ed_path_list files;
    size_t rows;
    char **cells; /* [rows][factors], in the table's text */
    size_t cell_count, cell_capacity;
    ed_split wanted;
} listing;

static int factor_count(const listing *l) { return l->columns - 1 - (l->split > 0); }

static encdiff_status read_header(ed_env *env, listing *l)
{
    ED_TRY(ed_table_next(env, &l->table));
    l->columns = l->table.count;
    if (l->columns < 2)
        return ed_table_fail(env, &l->table, "expected a header: file, then the factors' names, apart by commas");
    if (!(l->names = ed_alloc(env, (size_t)l->columns, sizeof *l->names))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < l->columns; i++) {
        l->names[i] = l->table.cells[i];
        if (!*l->names[i]) return ed_table_fail(env, &l->table, "column %d has no name", i + 1);
        if (i && strcmp(l->names[i], "split") == 0) l->split = i;
    }
    return l->wanted != ED_SPLIT_ALL && !l->split
               ? ed_fail(env, ENCDIFF_ERROR_UNSUPPORTED, "%s: no column \"split\"", l->table.path)
               : ENCDIFF_OK;
}

static encdiff_status add_row(ed_env *env, listing *l)
{
    const ed_table *t = &l->table;
    ed_split split = ED_SPLIT_ALL;
    if (t->count != l->columns) return ed_table_fail(env, t, "%d columns, expected %d", t->count, l->columns);
    if (!ed_is_path_inside(t->cells[0])) return ed_table_fail(env, t, "\"%s\" leaves the folder", t->cells[0]);
    if (l->split && ed_split_parse(env, t->cells[l->split], &split) != ENCDIFF_OK)
        return ed_table_fail(env, t, "\"%s\" is not train, valid or test", t->cells[l->split]);
    if (l->wanted != ED_SPLIT_ALL && split != l->wanted) return ENCDIFF_OK;
    ED_TRY(ed_path_list_add(env, &l->files, ed_format(env, "%s/%s", l->folder, t->cells[0])));
    ED_TRY(ed_reserve(env, &l->cells, &l->cell_capacity, l->cell_count + (size_t)l->columns, sizeof *l->cells));
    l->rows++;
    for (int i = 1; i < l->columns; i++)
        if (i != l->split) l->cells[l->cell_count++] = t->cells[i];
    return ENCDIFF_OK;
}

static encdiff_status read_rows(ed_env *env, listing *l)
{
    ED_TRY(read_header(env, l));
    for (;;) {
        ED_TRY(ed_table_next(env, &l->table));
        if (!l->table.count) break;
        ED_TRY(add_row(env, l));
        ED_TRY(ed_check_cancel(env));
    }
    return l->rows ? ENCDIFF_OK
                   : ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no rows%s", l->table.path,
                             l->wanted == ED_SPLIT_ALL ? "" : " of this split");
}

/* ---------------------------------------------------------------- factors */

static int compare_texts(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* A picture that stands in two rows could have two values of a factor. */
static encdiff_status check_names(ed_env *env, const listing *l)
{
    char **sorted = ed_alloc(env, l->rows, sizeof *sorted);
    encdiff_status status = sorted ? ENCDIFF_OK : ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (sorted) memcpy(sorted, l->files.paths, l->rows * sizeof *sorted);
    if (sorted) qsort(sorted, l->rows, sizeof *sorted, compare_texts);
    for (size_t i = 1; i < l->rows && status == ENCDIFF_OK; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            status = ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: %s is in two rows", l->table.path, sorted[i]);
    ed_free(env, sorted);
    return status;
}

/* Texts numbered in their order. `sorted` has room for a column. */
static void number_texts(const listing *l, int column, char **sorted, double *values)
{
    int k = factor_count(l);
    size_t n = l->rows;
    for (size_t i = 0; i < n; i++) sorted[i] = l->cells[i * (size_t)k + (size_t)column];
    qsort(sorted, n, sizeof *sorted, compare_texts);
    size_t distinct = 0;
    for (size_t i = 0; i < n; i++)
        if (!i || strcmp(sorted[i], sorted[distinct - 1]) != 0) sorted[distinct++] = sorted[i];
    for (size_t i = 0; i < n; i++) {
        size_t at = i * (size_t)k + (size_t)column;
        char **found = bsearch(&l->cells[at], sorted, distinct, sizeof *sorted, compare_texts);
        values[at] = (double)(found - sorted);
    }
}

static void read_values(const listing *l, char **sorted, double *values)
{
    int k = factor_count(l);
    for (int column = 0; column < k; column++) {
        bool numbers = true;
        for (size_t i = 0; i < l->rows && numbers; i++) {
            size_t at = i * (size_t)k + (size_t)column;
            numbers = ed_parse_number(l->cells[at], &values[at]);
        }
        if (!numbers) number_texts(l, column, sorted, values);
    }
}

static encdiff_status set_factors(ed_env *env, const listing *l, ed_dataset *dataset, char **sorted)
{
    int k = factor_count(l);
    const char *names[ED_TABLE_COLUMNS];
    for (int i = 1, at = 0; i < l->columns; i++)
        if (i != l->split) names[at++] = l->names[i];
    double *values = ed_alloc(env, l->rows, sizeof *values * (size_t)k);
    if (!values) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    read_values(l, sorted, values);
    encdiff_status status = ed_dataset_set_values(env, dataset, k, names, values);
    ed_free(env, values);
    return status;
}

/* ---------------------------------------------------------------- opening */

static encdiff_status build(ed_env *env, listing *l, const ed_dataset_options *options, ed_dataset **out)
{
    ed_picture_store store;
    ED_TRY(read_rows(env, l));
    ED_TRY(check_names(env, l));
    ED_TRY(ed_path_store(env, &l->files, &store));
    ED_TRY(ed_pictures_open(env, l->folder, "folder", &store, options, out));
    (*out)->splits = l->split > 0;
    if (factor_count(l) == 0) return ENCDIFF_OK;
    char **sorted = ed_alloc(env, l->rows, sizeof *sorted);
    encdiff_status status = sorted ? set_factors(env, l, *out, sorted) : ENCDIFF_ERROR_OUT_OF_MEMORY;
    ed_free(env, sorted);
    if (status == ENCDIFF_OK) return status;
    ed_dataset_free(env, *out);
    *out = NULL;
    return status;
}

encdiff_status ed_listed_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    listing l = {.folder = path};
    *out = NULL;
    ED_TRY(ed_split_parse(env, options->split, &l.wanted));
    char *table = ed_format(env, "%s/factors.csv", path);
    encdiff_status status = table ? ed_table_open(env, table, &l.table) : ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (status == ENCDIFF_OK) status = build(env, &l, options, out);
    ed_free(env, table);
    ed_table_close(env, &l.table);
    ed_free(env, l.names);
    ed_free(env, l.cells);
    ed_path_list_free(env, &l.files);
    return status;
}
