/*
 * Backends that are opened at run time. libencdiff never links the libraries of a device: a plugin beside it does
 * (libencdiff-cuda.so), and has one exported function, encdiff_cuda_plugin(), that returns the table below. Plugin and
 * library must come from one build, which `release` and `layout` tell.
 */
#ifndef ED_PLUGIN_H
#define ED_PLUGIN_H

#include "graph/backend.h"

typedef struct ed_plugin_device {
    char description[128]; /* the maker's name */
    char reason[256];      /* why it cannot be used; empty where it can */
    uint64_t memory_total, memory_free;
} ed_plugin_device;

typedef struct ed_backend_options {
    void *stream; /* the device's stream to work on, for example a cudaStream_t; NULL: one of the backend's own */
    bool tf32;    /* matrix products and convolutions of f32 may round their operands to TF32 */
    bool im2col;  /* convolutions without cuDNN: as matrix products, to compare with */
    bool plain;   /* runs are not recorded to be replayed */
} ed_backend_options;

typedef struct ed_plugin {
    uint32_t version;    /* ED_BACKEND_VERSION */
    uint32_t layout;     /* ED_PLUGIN_LAYOUT */
    const char *release; /* of the library that it was built with */
    /* Describe up to `capacity` devices; *count is how many there are. Fails, with a reason that a user can act on,
     * when none can be used at all: no driver, no device. */
    encdiff_status (*devices)(ed_env *env, ed_plugin_device *devices, int capacity, int *count);
    encdiff_status (*open)(ed_env *env, int device, const ed_backend_options *options, ed_backend **out);
    void (*close)(ed_backend *backend);
} ed_plugin;

/* Changes when a struct that both sides see does. */
#define ED_PLUGIN_LAYOUT                                                                                               \
    ((uint32_t)(sizeof(ed_backend) ^ sizeof(ed_call) << 8 ^ sizeof(ed_graph) << 16 ^ sizeof(ed_value_info) << 20 ^     \
                sizeof(ed_env) << 24))

typedef const ed_plugin *(*ed_plugin_entry)(void);

/* A plugin that is loaded. Zeroed: none. */
typedef struct ed_loaded_plugin {
    void *library;
    const ed_plugin *table;
} ed_loaded_plugin;

/*
 * Load the CUDA plugin: the file that the environment's ENCDIFF_CUDA_PLUGIN names (ignored in programs that run with
 * another user's rights), else libencdiff-cuda.so in the folder of this library, else where the system's loader finds
 * it. ENCDIFF_ERROR_DEVICE with the reason where there is none or it does not fit.
 */
encdiff_status ed_plugin_load(ed_env *env, ed_loaded_plugin *plugin);
void ed_plugin_unload(ed_loaded_plugin *plugin); /* after every backend of it was closed */

#endif
