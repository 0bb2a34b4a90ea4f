/* The options that every command has, for parsing and for the help. */
#ifndef CLI_COMMON_OPTIONS_H
#define CLI_COMMON_OPTIONS_H

#include "options.h"

#define COMMON_OPTION_COUNT 9
extern const cli_option common_options[COMMON_OPTION_COUNT];

#endif
