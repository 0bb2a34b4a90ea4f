/*
 * io: file formats that are not datasets. Each format is one file and knows nothing of the others.
 *
 *   io.h         random access to bytes (a file, a part of one, or memory), and files written whole or not at all
 *   safetensors  tensors and metadata under names: models and checkpoints
 *   torch        tensors of torch.save(), by a restricted reader of pickles (pickle);  tensor_file: either of the two
 *   npy          NumPy arrays, alone (.npy) or in a zip (.npz);  zip: its container, also of PyTorch checkpoints
 *   image        PNG and JPEG;  resize: as Pillow does;  grid: images side by side with labels;  pixels: f32 <-> u8
 *
 * Everybody above base and tensor may call it. A length that a file states is checked against the file before memory is
 * taken, and a file that is not what it should be gives ENCDIFF_ERROR_FORMAT with the file's name and what is wrong.
 */
#ifndef ED_IO_H
#define ED_IO_H

#include "base/base.h"
#include "tensor/tensor.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The file formats are little-endian and so must the machine be."
#endif

/* ---------------------------------------------------------------- reading */

/* Bytes that can be read at any offset, by several threads at once. A zeroed one is closed. */
typedef struct ed_source {
    char *name;            /* for messages: the path, or what the caller called it */
    const uint8_t *memory; /* the bytes, or NULL when they are in a file */
    int descriptor;
    bool owns_descriptor; /* else, or with memory, nothing is closed */
    void *owned_memory;   /* freed on close */
    uint64_t start, size; /* the part of the file or memory that this is */
} ed_source;

encdiff_status ed_source_open(ed_env *env, const char *path, ed_source *out);
/* `data` is borrowed until the source is closed. */
encdiff_status ed_source_from_memory(ed_env *env, const char *name, const void *data, size_t size, ed_source *out);
/* A part of another source, independent of it afterwards (but for borrowed memory). */
encdiff_status ed_source_part(ed_env *env, const ed_source *whole, const char *name, uint64_t start, uint64_t size,
                              ed_source *out);
/* Exactly `size` bytes at `offset`; ENCDIFF_ERROR_FORMAT beyond the end. */
encdiff_status ed_source_read(ed_env *env, const ed_source *source, uint64_t offset, void *out, size_t size);
void ed_source_close(ed_env *env, ed_source *source);

/* ---------------------------------------------------------------- writing */

/*
 * A file being written under a temporary name, or a growing buffer. After ed_sink_commit() or ed_sink_discard() it
 * is zeroed; a path appears only when everything was written and flushed to disk.
 */
typedef struct ed_sink {
    char *path, *temporary; /* NULL for memory */
    void *file;             /* FILE * */
    ed_text buffer;         /* of memory */
    uint64_t position;      /* bytes written so far */
} ed_sink;

encdiff_status ed_sink_open(ed_env *env, const char *path, ed_sink *out);
void ed_sink_to_memory(ed_sink *out);
encdiff_status ed_sink_write(ed_env *env, ed_sink *sink, const void *data, size_t size);
/* Overwrite bytes that were written before. */
encdiff_status ed_sink_patch(ed_env *env, ed_sink *sink, uint64_t offset, const void *data, size_t size);
/* On failure the sink is discarded. */
encdiff_status ed_sink_commit(ed_env *env, ed_sink *sink);
/* The buffer of a memory sink, owned by the caller; closes the sink. */
void ed_sink_take(ed_sink *sink, uint8_t **data, size_t *size);
void ed_sink_discard(ed_env *env, ed_sink *sink); /* a closed one is fine */

/* An unlinked file in $TMPDIR or /tmp, for what is too large for memory. */
encdiff_status ed_temporary_file(ed_env *env, int *descriptor);
/* All bytes, whatever the system call's limits. */
encdiff_status ed_write_all(ed_env *env, int descriptor, const void *data, size_t size, const char *name);

/* ---------------------------------------------------------------- half precision */

float ed_f32_from_f16(uint16_t bits); /* bf16: tensor.h */

#endif
