/*
 * CelebA as it is published (Liu et al. 2015): pictures, list_attr_celeba.txt and list_eval_partition.txt; or the .csv
 * files that are also about. The images are those of the list, in its order; the 40 attributes are factors of two
 * values.
 *
 *   202599                                      000001.jpg 0
 *   5_o_Clock_Shadow Arched_Eyebrows ...        000002.jpg 2        0 train, 1 valid, 2 test
 *   000001.jpg -1 1 ...
 */
#define _GNU_SOURCE
#include <sys/stat.h>

#include "data/celeba.h"
#include "data/table.h"

static const char *const attribute_files[] = {"list_attr_celeba.txt", "Anno/list_attr_celeba.txt",
                                              "list_attr_celeba.csv"};
static const char *const partition_files[] = {"list_eval_partition.txt", "Eval/list_eval_partition.txt",
                                              "list_eval_partition.csv"};
static const char *const picture_folders[] = {"img_align_celeba", "img_align_celeba/img_align_celeba",
                                              "Img/img_align_celeba", "images", "."};

static bool exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/* The first of the names that is a file of the folder; *out is NULL when none is. */
static encdiff_status find(ed_env *env, const char *folder, const char *const *names, size_t count, char **out)
{
    *out = NULL;
    for (size_t i = 0; i < count; i++) {
        char *path = ed_format(env, "%s/%s", folder, names[i]);
        if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        if (exists(path)) {
            *out = path;
            return ENCDIFF_OK;
        }
        ed_free(env, path);
    }
    return ENCDIFF_OK;
}

encdiff_status ed_celeba_find_list(ed_env *env, const char *folder, char **out)
{
    return find(env, folder, attribute_files, ED_COUNT(attribute_files), out);
}

/* ---------------------------------------------------------------- the lists */

static encdiff_status read_header(ed_env *env, ed_table *t, ed_celeba_list *list)
{
    double count;
    ED_TRY(ed_table_next(env, t));
    list->expected = -1;
    if (t->blanks) {
        if (t->count != 1 || !ed_parse_number(t->cells[0], &count) || count < 1)
            return ed_table_fail(env, t, "expected the number of pictures");
        list->expected = (int64_t)ED_MIN(count, 1e15);
        ED_TRY(ed_table_next(env, t));
    }
    int first = t->blanks ? 0 : 1; /* a CSV names the column of the pictures too */
    list->attributes = t->count - first;
    if (list->attributes < 1 || list->attributes > 1024) return ed_table_fail(env, t, "expected the attributes' names");
    if (!(list->names = ed_alloc(env, (size_t)list->attributes, sizeof *list->names)))
        return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < list->attributes; i++)
        if (!(list->names[i] = ed_strdup(env, t->cells[first + i]))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    return ENCDIFF_OK;
}

static encdiff_status read_attributes(ed_env *env, const ed_table *t, int attributes, int8_t *out)
{
    for (int i = 0; i < attributes; i++) {
        const char *cell = t->cells[1 + i];
        if (strcmp(cell, "1") != 0 && strcmp(cell, "-1") != 0 && strcmp(cell, "0") != 0)
            return ed_table_fail(env, t, "attribute %d is \"%s\", not 1 or -1", i + 1, cell);
        out[i] = strcmp(cell, "1") == 0;
    }
    return ENCDIFF_OK;
}

/* The row's part of the set, from the other list, whose rows are in the same order. */
static encdiff_status read_split(ed_env *env, ed_table *partition, const char *file, ed_split *out)
{
    ED_TRY(ed_table_next(env, partition));
    if (partition->count != 2) return ed_table_fail(env, partition, "expected a picture and 0, 1 or 2");
    if (strcmp(partition->cells[0], file) != 0)
        return ed_table_fail(env, partition, "\"%s\", where the attributes' list has \"%s\"", partition->cells[0],
                             file);
    const char *part = partition->cells[1];
    if (part[0] < '0' || part[0] > '2' || part[1])
        return ed_table_fail(env, partition, "part \"%s\" is not 0, 1 or 2", part);
    *out = part[0] == '0' ? ED_SPLIT_TRAIN : part[0] == '1' ? ED_SPLIT_VALID : ED_SPLIT_TEST;
    return ENCDIFF_OK;
}

static encdiff_status add_row(ed_env *env, const ed_table *t, ed_table *partition, ed_celeba_list *list)
{
    ed_split split = ED_SPLIT_ALL;
    size_t k = (size_t)list->attributes;
    if (t->count != 1 + list->attributes)
        return ed_table_fail(env, t, "%d columns, expected %d", t->count, 1 + list->attributes);
    if (!ed_is_path_inside(t->cells[0])) return ed_table_fail(env, t, "\"%s\" leaves the folder", t->cells[0]);
    if (partition) ED_TRY(read_split(env, partition, t->cells[0], &split));
    ED_TRY(ed_path_list_add(env, &list->files, ed_strdup(env, t->cells[0])));
    ED_TRY(ed_reserve(env, &list->values, &list->value_capacity, list->files.count * k, sizeof *list->values));
    ED_TRY(ed_reserve(env, &list->splits, &list->split_capacity, list->files.count, sizeof *list->splits));
    list->splits[list->files.count - 1] = (uint8_t)split;
    return read_attributes(env, t, list->attributes, list->values + (list->files.count - 1) * k);
}

static encdiff_status read_rows(ed_env *env, ed_table *t, ed_table *partition, ed_celeba_list *list)
{
    ED_TRY(read_header(env, t, list));
    if (partition && !partition->blanks) ED_TRY(ed_table_next(env, partition)); /* its header */
    for (;;) {
        ED_TRY(ed_table_next(env, t));
        if (!t->count) break;
        ED_TRY(add_row(env, t, partition, list));
        ED_TRY(ed_check_cancel(env));
    }
    int64_t count = (int64_t)list->files.count;
    if (count && (list->expected < 0 || count == list->expected)) return ENCDIFF_OK;
    return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: truncated: %lld pictures, expected %lld", t->path, (long long)count,
                   (long long)ED_MAX(list->expected, 1));
}

encdiff_status ed_celeba_read_list(ed_env *env, const char *folder, const char *attributes, ed_celeba_list *out)
{
    ed_table table = {0}, partition = {0};
    char *parts;
    *out = (ed_celeba_list){0};
    ED_TRY(find(env, folder, partition_files, ED_COUNT(partition_files), &parts));
    encdiff_status status = ed_table_open(env, attributes, &table);
    if (status == ENCDIFF_OK && parts) status = ed_table_open(env, parts, &partition);
    if (status == ENCDIFF_OK) status = read_rows(env, &table, parts ? &partition : NULL, out);
    out->has_splits = parts != NULL;
    ed_table_close(env, &table);
    ed_table_close(env, &partition);
    ed_free(env, parts);
    if (status != ENCDIFF_OK) ed_celeba_free_list(env, out);
    return status;
}

void ed_celeba_free_list(ed_env *env, ed_celeba_list *list)
{
    for (int i = 0; list->names && i < list->attributes; i++) ed_free(env, list->names[i]);
    ed_free(env, list->names);
    ed_free(env, list->values);
    ed_free(env, list->splits);
    ed_path_list_free(env, &list->files);
    *list = (ed_celeba_list){0};
}

/* ---------------------------------------------------------------- the dataset */

encdiff_status ed_celeba_choose(ed_env *env, const char *path, ed_celeba_list *list, ed_split wanted)
{
    size_t kept = 0, k = (size_t)list->attributes;
    if (wanted == ED_SPLIT_ALL) return ENCDIFF_OK;
    if (!list->has_splits)
        return ed_fail(env, ENCDIFF_ERROR_NOT_FOUND, "%s: a split needs list_eval_partition.txt, which is not there",
                       path);
    for (size_t i = 0; i < list->files.count; i++) {
        if (list->splits[i] != wanted) {
            ed_free(env, list->files.paths[i]);
            continue;
        }
        list->files.paths[kept] = list->files.paths[i];
        memmove(list->values + kept * k, list->values + i * k, k);
        kept++;
    }
    list->files.count = kept;
    return kept ? ENCDIFF_OK : ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no pictures of this split", path);
}

encdiff_status ed_celeba_set_labels(ed_env *env, ed_dataset *dataset, const ed_celeba_list *list, int64_t first)
{
    int32_t two[1024];
    size_t k = (size_t)list->attributes, count = (size_t)dataset->size * k;
    for (int i = 0; i < list->attributes; i++) two[i] = 2;
    ED_TRY(ed_dataset_set_factors(env, dataset, list->attributes, (const char *const *)list->names, two));
    if (!(dataset->labels = ed_alloc(env, count, sizeof *dataset->labels))) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < count; i++) dataset->labels[i] = list->values[(size_t)first * k + i];
    return ed_dataset_examine(env, dataset);
}

/* Names become paths in the folder that has the first of them. */
static encdiff_status find_pictures(ed_env *env, const char *path, ed_celeba_list *list)
{
    const char *folder = NULL;
    for (size_t i = 0; i < ED_COUNT(picture_folders) && !folder; i++) {
        char *probe = ed_format(env, "%s/%s/%s", path, picture_folders[i], list->files.paths[0]);
        if (!probe) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        if (exists(probe)) folder = picture_folders[i];
        ed_free(env, probe);
    }
    if (!folder)
        return ed_fail(env, ENCDIFF_ERROR_NOT_FOUND, "%s: %s of the list is not there, nor in img_align_celeba", path,
                       list->files.paths[0]);
    for (size_t i = 0; i < list->files.count; i++) {
        char *full = ed_format(env, "%s/%s/%s", path, folder, list->files.paths[i]);
        if (!full) return ENCDIFF_ERROR_OUT_OF_MEMORY;
        ed_free(env, list->files.paths[i]);
        list->files.paths[i] = full;
    }
    return ENCDIFF_OK;
}

static encdiff_status open_list(ed_env *env, const char *path, ed_celeba_list *list, const ed_dataset_options *options,
                                ed_dataset **out)
{
    ed_split wanted;
    ed_picture_store store;
    ED_TRY(ed_split_parse(env, options->split, &wanted));
    ED_TRY(ed_celeba_choose(env, path, list, wanted));
    ED_TRY(find_pictures(env, path, list));
    ED_TRY(ed_path_store(env, &list->files, &store));
    ED_TRY(ed_pictures_open(env, path, "celeba", &store, options, out));
    (*out)->splits = true;
    encdiff_status status = ed_celeba_set_labels(env, *out, list, 0);
    if (status == ENCDIFF_OK) return status;
    ed_dataset_free(env, *out);
    *out = NULL;
    return status;
}

encdiff_status ed_celeba_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_celeba_list list;
    char *attributes;
    *out = NULL;
    ED_TRY(ed_celeba_find_list(env, path, &attributes));
    if (!attributes) return ed_fail(env, ENCDIFF_ERROR_NOT_FOUND, "%s: list_attr_celeba.txt is not there", path);
    encdiff_status status = ed_celeba_read_list(env, path, attributes, &list);
    ed_free(env, attributes);
    if (status != ENCDIFF_OK) return status;
    status = open_list(env, path, &list, options, out);
    ed_celeba_free_list(env, &list);
    return status;
}
