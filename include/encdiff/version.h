/*
 * Two numbers: the release, for people, and the ABI major, which is the shared object's soname. The ABI major changes
 * only when a program compiled against an older header could break.
 */
#ifndef ENCDIFF_VERSION_H
#define ENCDIFF_VERSION_H

#include <stdint.h>

#include <encdiff/export.h>

#define ENCDIFF_VERSION_MAJOR 0
#define ENCDIFF_VERSION_MINOR 1
#define ENCDIFF_VERSION_PATCH 0
#define ENCDIFF_VERSION_STRING "0.1.0"

#define ENCDIFF_ABI_MAJOR 0

#ifdef __cplusplus
extern "C" {
#endif

/* The release of the library that is running, for example "0.1.0". */
ENCDIFF_API const char *encdiff_version(void);

/* The ABI major of the library that is running; compare with ENCDIFF_ABI_MAJOR after dlopen(). */
ENCDIFF_API int32_t encdiff_abi_version(void);

/* One line on how the library was built: compiler, backends, and the versions of its dependencies. */
ENCDIFF_API const char *encdiff_build_info(void);

#ifdef __cplusplus
}
#endif
#endif
