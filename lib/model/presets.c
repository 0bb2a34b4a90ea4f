/* The presets: configs/NAME.json, turned into strings when the build is configured (see meson.build). */
#include "model/config.h"

typedef struct preset {
    const char *name, *description, *json;
} preset;

static const preset presets[] = {
#include "model/presets.inc"
};

static const preset *at(int index) { return index >= 0 && index < ed_preset_count() ? &presets[index] : NULL; }

int ed_preset_count(void) { return (int)ED_COUNT(presets); }

const char *ed_preset_name(int index) { return at(index) ? at(index)->name : NULL; }

const char *ed_preset_description(int index) { return at(index) ? at(index)->description : NULL; }

const char *ed_preset_json(int index) { return at(index) ? at(index)->json : NULL; }

int ed_preset_find(const char *name)
{
    for (int i = 0; i < ed_preset_count(); i++)
        if (strcmp(presets[i].name, name) == 0) return i;
    return -1;
}
