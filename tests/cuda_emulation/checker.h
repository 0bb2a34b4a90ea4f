/*
 * The checked build: kernels are compiled with gcc's -fsanitize=thread, and the functions that it calls at each load
 * and store are checker.cpp's instead of ThreadSanitizer's. For every byte of device and shared memory it is known who
 * wrote it last and who has read it since. Each access is reported that
 *
 *   - is of memory that is not allocated, not shared memory, or the host's;
 *   - is not aligned to its size;
 *   - reads a byte that was never written since its allocation (its block's start, for shared memory);
 *   - touches a byte that another thread touched, one of them writing, and nothing puts the two in an order: within a
 *     block a __syncthreads, within a warp a __syncwarp that both lanes take part in (shuffles order nothing), between
 *     operations of streams the stream, an event, or a wait of the host. Nothing orders the blocks of one launch. Two
 *     atomic accesses are no race. Writing what is there already is one.
 *
 * The order in which the emulation happens to run things does not matter to it. It does not know of orders that threads
 * make with flags and fences, which kernels here do not do, and sees an overrun only where it leaves the allocation or
 * the shared array. A report names the instructions as addresses for addr2line.
 */
#ifndef ED_EMULATION_CHECKER_H
#define ED_EMULATION_CHECKER_H

#include "internal.h"

namespace emulator
{

struct memory_access {
    const void *pc; /* where the call to the checker returns to */
    uintptr_t address;
    uint32_t bytes;
    bool write, shared;
};

/* trace.cpp: what the running thread does, while somebody counts. */
void trace_access(unsigned thread, const memory_access &access);

} // namespace emulator

#endif
