/* What is done with a damaged file, and the context that it is done in. */
#ifndef FUZZ_TARGETS_H
#define FUZZ_TARGETS_H

#include <encdiff/encdiff.h>

/* The library's memory, with a limit. One thread. */
typedef struct fuzz_memory {
    size_t bytes, limit;
} fuzz_memory;

typedef struct fuzz_place {
    encdiff_context *context;
    encdiff_model *model;     /* tiny */
    encdiff_trainer *trainer; /* of it */
} fuzz_place;

typedef encdiff_status fuzz_target(fuzz_place *place, const char *source);

fuzz_target *fuzz_find(const char *name); /* NULL: no such target */
int fuzz_open(fuzz_place *place, fuzz_memory *memory, size_t limit);
void fuzz_close(fuzz_place *place);
/* model.safetensors and a checkpoint, to be damaged. */
int fuzz_write(const char *folder);

#endif
