/* interrupts: Ctrl-C stops the library's work; a second one ends the program at once. */
#ifndef CLI_INTERRUPTS_H
#define CLI_INTERRUPTS_H

#include <encdiff/encdiff.h>

/* Before the context is made, so that its threads leave the signal alone too. */
void interrupts_block(void);
void interrupts_begin(encdiff_context *context);
/* Before the context is freed. */
void interrupts_end(void);

#endif
