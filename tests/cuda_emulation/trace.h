/* What the checked emulation counts, for programs that find these functions in the plugin with dlsym. C and C++. */
#ifndef ED_EMULATION_TRACE_H
#define ED_EMULATION_TRACE_H

/* Of one kernel, all its launches. A request is one instruction of a warp; a sector is 32 bytes. */
typedef struct ed_emulation_counts {
    const char *kernel;
    double blocks;
    double requests, bytes, sectors; /* of global memory: bytes that the lanes asked for, sectors that are moved */
    double shared_requests, shared_passes; /* of shared memory; passes: turns that the banks need, 1 without conflict */
    double shared_least;                   /* turns with no two lanes at different words of one bank */
} ed_emulation_counts;

/* Of all kernels together: bytes whose value came from before; bytes written; each byte once. */
typedef struct ed_emulation_footprint {
    double read, written;
} ed_emulation_footprint;

/* Count from now on, from zero; stop counting. */
typedef void ed_emulation_trace(int on);
/* The counts of the i-th kernel, 0 after the last; valid until counting starts anew. */
typedef int ed_emulation_traced(int i, ed_emulation_counts *counts);
typedef void ed_emulation_touched(ed_emulation_footprint *footprint);

#endif
