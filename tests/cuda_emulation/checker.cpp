/* See checker.h. Itself compiled without instrumentation. */
#include <cinttypes>
#include <cstdio>

#include <dlfcn.h>
#include <sys/mman.h>

#include "checker.h"

extern "C" {
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));
}

namespace emulator
{

namespace
{

enum { ATOMICALLY = 1, MANY_WARPS = 2, MANY_BLOCKS = 4 };

/* A write, or the reads since the last one that nothing puts in an order: of some lanes of one warp, or of many. */
struct record {
    uint32_t operation, block, epoch, clock; /* operation 0: none */
    uint32_t lanes, pc;                      /* pc: from the start of the image */
    uint16_t warp, flags;
};

struct cell {
    record write, read;
};

struct operation_info {
    const char *name;
    size_t stream;
    uint64_t sequence;
};

std::vector<operation_info> operations(1); /* by number */
std::vector<uint64_t> known;               /* to the running one: what happened before it in each stream */
uint32_t running, compared;                /* operations: the one that runs; the one that was last compared with it */
bool compared_before;
range arguments;
size_t allocation_version; /* changes when memory is given or taken back */

/* A cell for each byte of a range of addresses; pages that nobody touched take no memory. */
struct shadow {
    range bytes = {nullptr, 0};
    cell *cells = nullptr;

    bool cover(range wanted)
    {
        if (cells || !wanted.base) return cells;
        void *memory = mmap(nullptr, wanted.size * sizeof(cell), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            report("no addresses for the checker's notes on %zu bytes", wanted.size);
            abort();
        }
        bytes = wanted;
        cells = static_cast<cell *>(memory);
        return true;
    }

    bool has(uintptr_t address) const
    {
        return address - reinterpret_cast<uintptr_t>(bytes.base) < bytes.size && bytes.base;
    }
    cell *at(uintptr_t address) { return cells + (address - reinterpret_cast<uintptr_t>(bytes.base)); }

    /* Nothing is known of these bytes. Whole pages go back to the system. */
    void forget(uintptr_t address, size_t count)
    {
        const uintptr_t page = 4096;
        uintptr_t first = reinterpret_cast<uintptr_t>(at(address)), last = first + count * sizeof(cell);
        uintptr_t from = (first + page - 1) / page * page, to = last / page * page;
        if (from >= to) {
            memset(reinterpret_cast<void *>(first), 0, last - first);
            return;
        }
        memset(reinterpret_cast<void *>(first), 0, from - first);
        madvise(reinterpret_cast<void *>(from), to - from, MADV_DONTNEED);
        memset(reinterpret_cast<void *>(to), 0, last - to);
    }
} device, shared;

/* ---------------------------------------------------------------- what happened before what */

bool operation_before(uint32_t other)
{
    if (other == compared) return compared_before;
    const operation_info &o = operations[other];
    compared = other;
    compared_before = o.stream < known.size() && o.sequence <= known[o.stream];
    return compared_before;
}

/* Whether the record happened before what the running thread does now. */
bool before(const record &r)
{
    if (r.operation != running) return operation_before(r.operation);
    if (!current) return true; /* a copy or a library: one thread */
    if (r.block != block_number || (r.flags & MANY_BLOCKS)) return false;
    if (r.epoch < block_epoch) return true;
    if (r.warp != current->warp || (r.flags & MANY_WARPS)) return false;
    for (unsigned lane = 0; lane < 32; lane++)
        if (((r.lanes >> lane) & 1) && lane != current->lane && r.clock > current->seen[lane]) return false;
    return true;
}

record record_now(const memory_access &a, bool atomically)
{
    uint32_t pc = static_cast<uint32_t>(static_cast<const char *>(a.pc) - __ehdr_start);
    if (!current) return {running, 0, 0, 0, 1, pc, 0, 0};
    record r = {running, block_number, block_epoch, current->clock, 1u << current->lane, pc, 0, 0};
    r.warp = static_cast<uint16_t>(current->warp);
    r.flags = atomically ? ATOMICALLY : 0;
    return r;
}

/* One more reader of a byte, unordered with those of r. The later clock stands for all. */
void join(record &r, const record &now)
{
    if (r.block != now.block) r.flags |= MANY_BLOCKS;
    if (r.warp != now.warp) r.flags |= MANY_WARPS;
    r.lanes |= now.lanes;
    r.epoch = now.epoch;
    if (now.clock > r.clock) r.clock = now.clock;
}

/* ---------------------------------------------------------------- reports */

struct text {
    char at[400];
};

/* The object file with an address in it, for addr2line. */
text code_place(const void *pc)
{
    text t;
    Dl_info info;
    const char *file = dladdr(pc, &info) && info.dli_fname ? info.dli_fname : "?", *slash = strrchr(file, '/');
    snprintf(t.at, sizeof t.at, "%s+%#tx", slash ? slash + 1 : file, static_cast<const char *>(pc) - __ehdr_start - 1);
    return t;
}

text memory_place(const memory_access &a)
{
    text t;
    range r = allocation_of(reinterpret_cast<const void *>(a.address));
    const char *verb = a.write ? "writes" : "reads";
    if (a.shared)
        snprintf(t.at, sizeof t.at, "%s %u bytes of shared memory at %#tx", verb, a.bytes,
                 reinterpret_cast<const char *>(a.address) - shared.bytes.base);
    else if (r.base)
        snprintf(t.at, sizeof t.at, "%s %u bytes of global memory at %td of an allocation of %zu", verb, a.bytes,
                 reinterpret_cast<const char *>(a.address) - r.base, r.size);
    else
        snprintf(t.at, sizeof t.at, "%s %u bytes at %#" PRIxPTR, verb, a.bytes, a.address);
    return t;
}

text who_now()
{
    text t;
    if (current)
        snprintf(t.at, sizeof t.at, "thread %u", current->number);
    else
        snprintf(t.at, sizeof t.at, "%s", operations[running].name);
    return t;
}

text who(const record &r)
{
    text t;
    if (r.operation != running) {
        const operation_info &o = operations[r.operation];
        snprintf(t.at, sizeof t.at, "%s of stream %zu", o.name, o.stream);
    } else if (r.flags & (MANY_BLOCKS | MANY_WARPS)) {
        snprintf(t.at, sizeof t.at, "threads of several %s", r.flags & MANY_BLOCKS ? "blocks" : "warps");
    } else {
        uint32_t lanes = r.lanes;
        if (current && r.block == block_number && r.warp == current->warp && lanes != 1u << current->lane)
            lanes &= ~(1u << current->lane);
        snprintf(t.at, sizeof t.at, "thread %d of block %u", r.warp * 32 + __builtin_ctz(lanes), r.block);
    }
    return t;
}

void report_access(const char *what, const memory_access &a)
{
    report("%s: %s %s (%s)", what, who_now().at, memory_place(a).at, code_place(a.pc).at);
    if (current) stop_thread();
}

void report_race(const memory_access &a, const record &other, bool other_writes)
{
    report("race: %s %s (%s), which %s %s (%s), and nothing puts the two in an order", who_now().at, memory_place(a).at,
           code_place(a.pc).at, who(other).at, other_writes ? "has written" : "has read",
           code_place(__ehdr_start + other.pc).at);
    if (current) stop_thread();
}

/* ---------------------------------------------------------------- accesses */

/* Shared memory is new to each block: what others left there does not count. */
bool counts(const record &r, bool is_shared)
{
    return r.operation && (!is_shared || (r.operation == running && r.block == block_number));
}

void check_cell(cell &c, const memory_access &a, const record &now, bool reads)
{
    bool atomically = now.flags & ATOMICALLY;
    if (!counts(c.write, a.shared)) {
        if (reads) report_access("a read of memory never written", a);
    } else if (!(atomically && (c.write.flags & ATOMICALLY)) && !before(c.write)) {
        report_race(a, c.write, true);
    }
    if (!a.write) {
        if (counts(c.read, a.shared) && !before(c.read))
            join(c.read, now);
        else
            c.read = now;
        return;
    }
    if (counts(c.read, a.shared) && !before(c.read)) report_race(a, c.read, false);
    c.write = now;
    c.read = record{};
}

void check_cells(shadow &of, const memory_access &a, bool atomically)
{
    record now = record_now(a, atomically);
    for (uint32_t i = 0; i < a.bytes && !broken; i++) check_cell(of.at(a.address)[i], a, now, atomically || !a.write);
}

/* What kernels read besides device memory: constants, their arguments, their own variables, where they are. */
bool is_theirs(const memory_access &a)
{
    const char *p = reinterpret_cast<const char *>(a.address);
    if (p >= __ehdr_start && p < _end) return true;
    if (p >= arguments.base && p + a.bytes <= arguments.base + arguments.size) return !a.write;
    return is_scheduler_memory(p);
}

/* Four allocations that were used last, since looking one up takes long. */
bool is_allocated(const memory_access &a)
{
    static range recent[4];
    static unsigned next;
    static size_t at_version;
    if (at_version != allocation_version) memset(recent, 0, sizeof recent);
    at_version = allocation_version;
    const char *p = reinterpret_cast<const char *>(a.address);
    for (const range &r : recent)
        if (p >= r.base && p + a.bytes <= r.base + r.size) return true;
    range found = allocation_of(p);
    if (!found.base || p + a.bytes > found.base + found.size) return false;
    recent[next++ % 4] = found;
    return true;
}

void check(const memory_access &given, bool aligned, bool atomically)
{
    if (!current || broken) return;
    memory_access a = given;
    a.shared = shared.cover(shared_range()) && shared.has(a.address);
    bool global = device.cover(device_range()) && device.has(a.address);
    if (!a.shared && !global) {
        if (!is_theirs(a)) report_access("a kernel touches memory of the host", a);
        return;
    }
    if (a.shared && !is_shared_memory(reinterpret_cast<const void *>(a.address), a.bytes))
        report_access("out of the bounds of a shared array", a);
    if (global && !is_allocated(a)) report_access("out of the bounds of an allocation", a);
    if (aligned && a.address % a.bytes) report_access("misaligned", a);
    check_cells(a.shared ? shared : device, a, atomically);
    if (!broken) trace_access(current->number, a);
}

} // namespace

void watch_operation(const char *name, size_t stream, uint64_t sequence, const std::vector<uint64_t> &before_it)
{
    running = static_cast<uint32_t>(operations.size());
    operations.push_back({name, stream, sequence});
    known = before_it;
    compared = running;
    compared_before = true;
}

void watch_range(const void *pointer, size_t bytes, bool write)
{
    memory_access a = {__builtin_return_address(0), reinterpret_cast<uintptr_t>(pointer), static_cast<uint32_t>(bytes),
                       write, false};
    if (device.cover(device_range()) && device.has(a.address)) check_cells(device, a, false);
}

void watch_allocation(const void *pointer, size_t bytes)
{
    allocation_version++;
    if (device.cover(device_range())) device.forget(reinterpret_cast<uintptr_t>(pointer), bytes);
}

void note_atomic(const void *p, size_t bytes)
{
    check({__builtin_return_address(0), reinterpret_cast<uintptr_t>(p), static_cast<uint32_t>(bytes), true, false},
          true, true);
}

void note_arguments(const void *p, size_t bytes) { arguments = {static_cast<const char *>(p), bytes}; }

} // namespace emulator

/* ---------------------------------------------------------------- what the compiler calls */

using emulator::check;

#define ACCESS(pointer, bytes, write)                                                                                  \
    {                                                                                                                  \
        __builtin_return_address(0), reinterpret_cast<uintptr_t>(pointer), static_cast<uint32_t>(bytes), write, false  \
    }
#define SIZE(n)                                                                                                        \
    void __tsan_read##n(void *p) { check(ACCESS(p, n, false), true, false); }                                          \
    void __tsan_write##n(void *p) { check(ACCESS(p, n, true), true, false); }

extern "C" {
void __tsan_init() {}
SIZE(1) SIZE(2) SIZE(4) SIZE(8) SIZE(16) void __tsan_read_range(void *p, size_t n)
{
    check(ACCESS(p, n, false), false, false);
}
void __tsan_write_range(void *p, size_t n) { check(ACCESS(p, n, true), false, false); }
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_atomic_thread_fence(int) {}
}
