/*
 * The published code's configurations (.yaml) as ours. What they set of the networks, the diffusion and the training is
 * taken, the rest (paths, loggers, trainers) passed over; what would make another network than ours is an error.
 */
#ifndef ED_PUBLISHED_CONFIG_H
#define ED_PUBLISHED_CONFIG_H

#include "base/json.h"

bool ed_published_config_detect(const char *path); /* by its name: .yaml or .yml */
/* *out is a tree for ed_config_read(). ENCDIFF_ERROR_UNSUPPORTED where the library is built without libyaml. */
encdiff_status ed_published_config_read(ed_env *env, const char *path, ed_json **out);

#endif
