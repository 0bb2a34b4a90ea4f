/*
 * Numbers below 1.2e-38 take a processor some hundred cycles each. Training has them by the million in the second
 * moments of gradients that are nearly zero, where they mean nothing: the update adds 1e-8 to their root.
 */
#include "base/base.h"

#if defined(__SSE2__)

#include <immintrin.h>

/* Of MXCSR: rounding to nearest, every exception masked, denormal operands and results flushed. */
#define MODE 0x9fc0u

unsigned ed_float_enter(void)
{
    unsigned host = _mm_getcsr();
    _mm_setcsr(MODE);
    return host;
}

void ed_float_leave(unsigned host) { _mm_setcsr(host); }

#else

unsigned ed_float_enter(void) { return 0; }

void ed_float_leave(unsigned host) { (void)host; }

#endif
