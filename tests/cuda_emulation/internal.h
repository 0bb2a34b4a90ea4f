/* Between the parts of the emulator. */
#ifndef ED_EMULATION_INTERNAL_H
#define ED_EMULATION_INTERNAL_H

#include <cmath>
#include <cstdint>
#include <cstring>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "emulator.h"

namespace emulator
{

enum { stack_size = 64 << 10 };

/* What a test chooses, from the text of the environment's ENCDIFF_EMULATION or of encdiff_emulation_control():
 * "schedule=2,devices=1,fail=17". */
struct settings {
    int schedule = 0;                /* 0 ascending, 1 descending, 2 shuffled */
    int devices = 2;                 /* 0: cudaErrorNoDevice, -1: no driver */
    int capability = 90;             /* of the devices */
    long fail = -1;                  /* which allocation from now on fails, 0 the next; later ones succeed again */
    bool eager = false;              /* work is done when it is enqueued */
    size_t memory = (size_t)1 << 32; /* bytes of each device */
};
extern settings options;

/* Misuse: noted with the kernel's and the source's place; the grid ends and later calls of the runtime fail. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern bool broken;            /* after a report */
extern char report_text[1024]; /* the first report */

/* Work for a stream, in order; done when something waits for it. */
void enqueue(cudaStream_t stream, std::function<void()> work);
/* Runs a grid to its end. */
void run_grid(dim3 grid, dim3 block, size_t shared, const char *name, place at, const std::function<void()> &body);
/* Whether all bytes are in one allocation of device memory that still exists. */
bool is_device_memory(const void *pointer, size_t bytes);

/* trace.cpp; weak, so that it can be left out */
void trace_block(const char *kernel) __attribute__((weak));

} // namespace emulator

#endif
