/* Where the storages of a torch file lie. For torch.c and torch_archive.c alone. */
#ifndef ED_IO_TORCH_ARCHIVE_H
#define ED_IO_TORCH_ARCHIVE_H

#include "io/pickle.h"
#include "io/torch.h"
#include "io/zip.h"

/* A storage as a tensor refers to it; `key` belongs to the pickle. */
typedef struct ed_torch_storage {
    const char *key;
    ed_st_type type;
    int64_t numel;  /* of the whole storage, or of the view */
    int64_t offset; /* elements: where a view of another storage begins */
    bool view;
} ed_torch_storage;

/* A storage that exists; sorted by key. */
typedef struct ed_torch_place {
    const char *key;
    const ed_zip_member *member; /* zip, or */
    uint64_t offset;             /* legacy: in the file */
    uint64_t bytes;
} ed_torch_place;

typedef struct ed_torch_archive {
    ed_source source; /* legacy */
    ed_zip *zip;      /* or zip */
    void *data;       /* the pickles, while they are read */
    ed_pickle *pickle;
    ed_py *root;
    ed_torch_storage **storages;
    size_t storage_count, storage_capacity;
    ed_torch_place *places;
    size_t place_count;
} ed_torch_archive;

/* Read the pickles of the file and find its storages. What was opened is the caller's to close, also on failure. */
encdiff_status ed_torch_archive_open(ed_env *env, const char *path, const ed_pickle_host *host, ed_torch_archive *out);
void ed_torch_archive_close(ed_env *env, ed_torch_archive *archive);
/* The storage of this key; NULL when absent. */
const ed_torch_place *ed_torch_archive_find(const ed_torch_archive *archive, const char *key);
/* All of it, checksum verified where the file has one. */
encdiff_status ed_torch_archive_read(ed_env *env, const ed_torch_archive *archive, const ed_torch_place *place,
                                     void *out);

#endif
