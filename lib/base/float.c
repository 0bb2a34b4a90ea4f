/*
 * Modes of the floating-point unit. A host may have set others than C's, and a trap in here would end its process.
 *
 * Denormal numbers, below 1.2e-38, take a processor some hundred cycles each. Training has them by the million in the
 * second moments of gradients that are nearly zero, where they mean nothing: AdamW adds 1e-8 to their root.
 */
#include "base/base.h"

#if defined(__SSE2__)

#include <immintrin.h>

/* Of MXCSR: rounding to nearest, every exception masked; and denormal operands and results taken as zero. */
#define PLAIN 0x1f80u
#define FLUSH 0x8040u

unsigned ed_float_enter(ed_denormals denormals)
{
    unsigned before = _mm_getcsr();
    _mm_setcsr(denormals == ED_FLUSH_DENORMALS ? PLAIN | FLUSH : PLAIN);
    return before;
}

void ed_float_leave(unsigned before) { _mm_setcsr(before); }

#else

unsigned ed_float_enter(ed_denormals denormals)
{
    (void)denormals;
    return 0;
}

void ed_float_leave(unsigned before) { (void)before; }

#endif
