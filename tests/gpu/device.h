/*
 * What the tests of the CUDA backend share: the plugin loaded as the library loads it, one device opened. The same
 * programs run on the emulation (suite cuda-emulation, where ENCDIFF_CUDA_PLUGIN names the emulated plugin) and on a
 * GPU (suite gpu); without a device they exit with 77 and the reason.
 */
#ifndef GPU_DEVICE_H
#define GPU_DEVICE_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "graph/plugin.h"

typedef struct gpu {
    ed_memory memory;
    ed_env env;
    ed_loaded_plugin plugin;
    ed_backend *backend;
    /* of the emulation; NULL on a GPU */
    void (*control)(const char *settings);
    size_t (*allocations)(void);
    int (*current_device)(void);
    void (*set_current_device)(int device);
} gpu;

static inline void gpu_symbol(const gpu *g, const char *name, void *to)
{
    void *symbol = dlsym(g->plugin.library, name);
    memcpy(to, &symbol, sizeof symbol);
}

static inline encdiff_status gpu_open_device(gpu *g, const ed_backend_options *options)
{
    return g->plugin.table->open(&g->env, 0, options, &g->backend);
}

static inline void gpu_close_device(gpu *g)
{
    if (g->backend) g->plugin.table->close(g->backend);
    g->backend = NULL;
}

/* False, having said why, where there is no device. */
static inline bool gpu_open(gpu *g)
{
    const ed_backend_options options = {0};
    memset(g, 0, sizeof *g);
    ed_memory_init(&g->memory, NULL);
    g->env.memory = &g->memory;
    if (ed_plugin_load(&g->env, &g->plugin) == ENCDIFF_OK) {
        gpu_symbol(g, "encdiff_emulation_control", &g->control);
        gpu_symbol(g, "encdiff_emulation_allocations", &g->allocations);
        gpu_symbol(g, "encdiff_emulation_current_device", &g->current_device);
        gpu_symbol(g, "encdiff_emulation_set_current_device", &g->set_current_device);
        if (gpu_open_device(g, &options) == ENCDIFF_OK) return true;
    }
    printf("SKIPPED: %s\n", g->env.message);
    ed_plugin_unload(&g->plugin);
    return false;
}

static inline void gpu_close(gpu *g)
{
    gpu_close_device(g);
    ed_plugin_unload(&g->plugin);
}

#endif
