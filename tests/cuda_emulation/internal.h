/* Between the parts of the emulator. */
#ifndef ED_EMULATION_INTERNAL_H
#define ED_EMULATION_INTERNAL_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "emulator.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

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

/* Work for a stream, in order; done when something waits for it. The name is a literal, for reports. */
void enqueue(cudaStream_t stream, const char *name, std::function<void()> work);
/* Runs a grid to its end. */
void run_grid(const launch_info &what, const std::function<void()> &body);
/* The running thread never continues. */
[[noreturn]] void stop_thread();
extern uint32_t block_number, block_epoch; /* of the running block: in its grid; __syncthreads that it has passed */
/* Whether it is the scheduler's own or the running thread's stack. */
bool is_scheduler_memory(const void *p);

struct range {
    const char *base;
    size_t size;
};

/* ---- memory.cpp */

void *allocate_device(int device, size_t bytes); /* null where there is none left */
bool release_device(void *pointer);              /* false where it is no allocation */
size_t device_memory_in_use(int device);
size_t device_allocations();   /* of all devices */
void allow_access(bool allow); /* calls nest */
struct opened {
    opened() { allow_access(true); }
    ~opened() { allow_access(false); }
};
/* From now on it is said where the program dies of touching device memory. */
void explain_faults();
/* Whether all bytes are in one allocation that still exists. */
bool is_device_memory(const void *pointer, size_t bytes);
bool in_range(const void *pointer); /* of the addresses that device memory may have */
range device_range();
range allocation_of(const void *pointer); /* the one that it is in; null where it is in none */

/* ---- shared.cpp */

range shared_range();
void *open_dynamic_shared(size_t bytes); /* null where there are none */
void poison_shared();
bool is_shared_memory(const void *pointer, size_t bytes); /* all in one array */

/* ---- What the checked build adds (checker.cpp, trace.cpp); weak, null elsewhere. */

/* An operation of a stream begins: the sequence'th of its stream, after the known[i]'th of stream i and those before
 * it. */
void watch_operation(const char *name, size_t stream, uint64_t sequence, const std::vector<uint64_t> &known)
    __attribute__((weak));
/* The running operation touches memory that may be the device's, as a copy or a library does. */
void watch_range(const void *pointer, size_t bytes, bool write) __attribute__((weak));
void watch_allocation(const void *pointer, size_t bytes) __attribute__((weak)); /* given, or taken back */
/* A block has ended. */
void trace_block(const char *kernel) __attribute__((weak));

inline void touch(const void *pointer, size_t bytes, bool write)
{
    if (watch_range) watch_range(pointer, bytes, write);
}

} // namespace emulator

#endif
