/* Finds, loads and checks the plugin of a device. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <encdiff/version.h>

#include "graph/plugin.h"

#define FILE_NAME "libencdiff-cuda.so"

/* The plugin's place beside the library that this code is in. */
static bool beside(char *path, size_t size)
{
    Dl_info here;
    const void *address = NULL;
    encdiff_status (*function)(ed_env *, ed_loaded_plugin *) = ed_plugin_load;
    memcpy(&address, &function, sizeof address);
    if (!dladdr(address, &here) || !here.dli_fname) return false;
    const char *slash = strrchr(here.dli_fname, '/');
    int n = snprintf(path, size, "%.*s%s", slash ? (int)(slash + 1 - here.dli_fname) : 0, here.dli_fname, FILE_NAME);
    return n > 0 && (size_t)n < size;
}

static encdiff_status open_file(ed_env *env, const char *path, ed_loaded_plugin *plugin)
{
    /* It stays in memory until the program ends: the device's runtime starts threads that outlive its handles. */
    plugin->library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (plugin->library) return ENCDIFF_OK;
    const char *why = dlerror();
    return ed_fail(env, ENCDIFF_ERROR_DEVICE, "the CUDA backend cannot be loaded: %s", why ? why : path);
}

static encdiff_status open_library(ed_env *env, ed_loaded_plugin *plugin)
{
    char path[4096];
    const char *chosen = secure_getenv("ENCDIFF_CUDA_PLUGIN");
    if (chosen && *chosen) return open_file(env, chosen, plugin);
    if (beside(path, sizeof path) && access(path, F_OK) == 0) return open_file(env, path, plugin);
    if (open_file(env, FILE_NAME, plugin) == ENCDIFF_OK) return ENCDIFF_OK;
    if (strstr(env->message, FILE_NAME ": cannot open shared object file"))
        return ed_fail(env, ENCDIFF_ERROR_DEVICE, "the CUDA backend, %s, is not installed", FILE_NAME);
    return ENCDIFF_ERROR_DEVICE;
}

static encdiff_status check(ed_env *env, const ed_plugin *table)
{
    if (!table) return ed_fail(env, ENCDIFF_ERROR_DEVICE, "%s is not a backend of libencdiff", FILE_NAME);
    if (table->version != ED_BACKEND_VERSION || table->layout != ED_PLUGIN_LAYOUT ||
        strcmp(table->release, ENCDIFF_VERSION_STRING) != 0)
        return ed_fail(env, ENCDIFF_ERROR_DEVICE, "%s is of another build (release %s) than libencdiff %s", FILE_NAME,
                       table->version == ED_BACKEND_VERSION ? table->release : "?", ENCDIFF_VERSION_STRING);
    return ENCDIFF_OK;
}

encdiff_status ed_plugin_load(ed_env *env, ed_loaded_plugin *plugin)
{
    ed_plugin_entry entry = NULL;
    *plugin = (ed_loaded_plugin){0};
    ED_TRY(open_library(env, plugin));
    void *symbol = dlsym(plugin->library, "encdiff_cuda_plugin");
    memcpy(&entry, &symbol, sizeof entry);
    plugin->table = entry ? entry() : NULL;
    encdiff_status status = check(env, plugin->table);
    if (status != ENCDIFF_OK) ed_plugin_unload(plugin);
    return status;
}

void ed_plugin_unload(ed_loaded_plugin *plugin)
{
    if (plugin->library) dlclose(plugin->library);
    *plugin = (ed_loaded_plugin){0};
}
