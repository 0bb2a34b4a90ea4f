/* A plugin whose table begins as lib/graph/plugin.h says and is of another build. */
#include <stdint.h>

typedef struct table {
    uint32_t version, layout;
    const char *release;
    void *functions[3];
} table;

const table *encdiff_cuda_plugin(void);

const table *encdiff_cuda_plugin(void)
{
    static const table other = {1, 0, "0.0.0", {0}};
    return &other;
}
