/*
 * Datasets of encoded pictures (PNG, JPEG), wherever their bytes lie: decoded when asked for, cropped and resized as
 * Pillow does, and kept in a cache of a limited size.
 */
#ifndef ED_DATA_PICTURES_H
#define ED_DATA_PICTURES_H

#include "data/dataset.h"
#include "io/image.h"

/* Where the bytes are. All functions may be called by several threads at once. */
typedef struct ed_picture_store {
    void *self;
    int64_t count;
    /* The encoded bytes, freed by the caller. */
    encdiff_status (*fetch)(ed_env *env, void *self, int64_t index, uint8_t **data, size_t *size);
    /* Height and width alone. */
    encdiff_status (*measure)(ed_env *env, void *self, int64_t index, ed_image *out);
    /* What a picture is called in messages: a path, or written into `text`. */
    const char *(*name)(const void *self, int64_t index, char text[256]);
    void (*close)(ed_env *env, void *self);
} ed_picture_store;

/* Takes the store over, also on failure. `format` is a constant. */
encdiff_status ed_pictures_open(ed_env *env, const char *path, const char *format, const ed_picture_store *store,
                                const ed_dataset_options *options, ed_dataset **out);

/* A growing list of paths, and the store that its files make. */
typedef struct ed_path_list {
    char **paths;
    size_t count, capacity;
} ed_path_list;

/* Takes `path` over, also on failure; NULL is a failure to make it that was recorded. */
encdiff_status ed_path_list_add(ed_env *env, ed_path_list *list, char *path);
void ed_path_list_free(ed_env *env, ed_path_list *list);
/* Moves the list, which is empty afterwards. On failure nothing was moved. */
encdiff_status ed_path_store(ed_env *env, ed_path_list *list, ed_picture_store *out);

/* "pictures" of "data/pictures/"; the whole path where nothing is left. Owned by the caller. */
char *ed_base_name(ed_env *env, const char *path);
bool ed_is_picture_name(const char *name);

#endif
