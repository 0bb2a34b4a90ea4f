/*
 * yaml: a YAML document as a tree of JSON values (base/json.h), by libyaml. Plain scalars are numbers, truth values or
 * null where YAML 1.1 reads them so; quoted ones are strings. A file has at most 16 MiB and the tree 100,000 values, so
 * that references which multiply end.
 */
#ifndef ED_IO_YAML_H
#define ED_IO_YAML_H

#include "base/json.h"

/* ENCDIFF_ERROR_FORMAT with line and column; ENCDIFF_ERROR_UNSUPPORTED where the library is built without libyaml. */
encdiff_status ed_yaml_read(ed_env *env, const char *path, ed_json **out);

#endif
