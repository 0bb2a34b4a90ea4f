/* Which library this is. */
#include <encdiff/encdiff.h>

const char *encdiff_version(void) { return ENCDIFF_VERSION_STRING; }

int32_t encdiff_abi_version(void) { return ENCDIFF_ABI_MAJOR; }

const char *encdiff_build_info(void) { return "encdiff " ENCDIFF_VERSION_STRING ", " ED_BUILD_INFO; }
