/* A folder of PNG and JPEG files, with its subfolders, in the order of their paths; or one such file. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "data/pictures.h"

enum { DEEPEST = 32 }; /* folders in folders */

static encdiff_status walk(ed_env *env, ed_path_list *list, const char *path, int depth);

/* Links to files are followed, links to folders are not: they could lead back. */
static encdiff_status visit(ed_env *env, ed_path_list *list, const char *parent, const char *name, int depth)
{
    struct stat info;
    if (name[0] == '.') return ENCDIFF_OK;
    char *path = ed_format(env, "%s/%s", parent, name);
    if (!path) return ENCDIFF_ERROR_OUT_OF_MEMORY;
    if (ed_is_picture_name(name) && stat(path, &info) == 0 && S_ISREG(info.st_mode))
        return ed_path_list_add(env, list, path);
    encdiff_status status = ENCDIFF_OK;
    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode)) status = walk(env, list, path, depth + 1);
    ed_free(env, path);
    return status;
}

static encdiff_status walk(ed_env *env, ed_path_list *list, const char *path, int depth)
{
    if (depth > DEEPEST) return ed_fail(env, ENCDIFF_ERROR_IO, "%s: folders are nested too deeply", path);
    DIR *directory = opendir(path);
    if (!directory) return ed_fail(env, ENCDIFF_ERROR_IO, "%s: %s", path, strerror(errno));
    encdiff_status status = ENCDIFF_OK;
    for (struct dirent *entry; status == ENCDIFF_OK && (entry = readdir(directory));) {
        status = visit(env, list, path, entry->d_name, depth);
        if (status == ENCDIFF_OK) status = ed_check_cancel(env);
    }
    closedir(directory);
    return status;
}

static int compare_paths(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static encdiff_status find_files(ed_env *env, ed_path_list *list, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return ed_fail(env, errno == ENOENT ? ENCDIFF_ERROR_NOT_FOUND : ENCDIFF_ERROR_IO, "%s: %s", path,
                       strerror(errno));
    if (!S_ISDIR(info.st_mode)) return ed_path_list_add(env, list, ed_strdup(env, path));
    ED_TRY(walk(env, list, path, 0));
    if (!list->count) return ed_fail(env, ENCDIFF_ERROR_FORMAT, "%s: no .png, .jpg or .jpeg files are in it", path);
    qsort(list->paths, list->count, sizeof *list->paths, compare_paths);
    return ENCDIFF_OK;
}

encdiff_status ed_folder_open(ed_env *env, const char *path, const ed_dataset_options *options, ed_dataset **out)
{
    ed_path_list list = {0};
    ed_picture_store store;
    bool single = options->format && strcmp(options->format, "image") == 0;
    *out = NULL;
    encdiff_status status = find_files(env, &list, path);
    if (status == ENCDIFF_OK) status = ed_path_store(env, &list, &store);
    if (status == ENCDIFF_OK) return ed_pictures_open(env, path, single ? "image" : "folder", &store, options, out);
    ed_path_list_free(env, &list);
    return status;
}
