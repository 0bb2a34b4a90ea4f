/*
 * Device memory: one reserved range of addresses that the host can touch only while work is done. A program that reads
 * or writes it directly dies there, and is told why. Allocations are poisoned with NaN; the gaps between them are too,
 * and AddressSanitizer knows them.
 */
#include <map>

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

namespace emulator
{

namespace
{

struct memory_range {
    char *base = nullptr;
    size_t size = 0;
    std::map<size_t, size_t> allocations; /* offset to size, without gap */
    std::map<size_t, int> device;
    int open = 0; /* nested permissions to touch it */
} memory;

enum { gap = 512 };

bool reserve_range()
{
    if (memory.base) return true;
    size_t size = (size_t)1 << 33;
    void *base = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return false;
    memory.base = static_cast<char *>(base);
    memory.size = size;
    return true;
}

/* The first place with room for `bytes` and the gap, or SIZE_MAX. */
size_t find_place(size_t bytes)
{
    size_t at = gap;
    for (auto &a : memory.allocations) {
        if (a.first >= at + bytes + gap) break;
        at = (a.first + a.second + gap + 255) / 256 * 256;
    }
    return at + bytes + gap <= memory.size ? at : SIZE_MAX;
}

} // namespace

bool in_range(const void *pointer)
{
    const char *p = static_cast<const char *>(pointer);
    return memory.base && p >= memory.base && p < memory.base + memory.size;
}

void allow_access(bool allow)
{
    memory.open += allow ? 1 : -1;
    if (memory.base && memory.open == (allow ? 1 : 0))
        mprotect(memory.base, memory.size, allow ? PROT_READ | PROT_WRITE : PROT_NONE);
}

size_t device_memory_in_use(int device)
{
    size_t sum = 0;
    for (auto &a : memory.allocations)
        if (memory.device[a.first] == device) sum += a.second;
    return sum;
}

size_t device_allocations() { return memory.allocations.size(); }

void *allocate_device(int device, size_t bytes)
{
    if (!reserve_range() || device_memory_in_use(device) + bytes > options.memory) return nullptr;
    size_t at = find_place(bytes ? bytes : 1);
    if (at == SIZE_MAX) return nullptr;
    memory.allocations[at] = bytes ? bytes : 1;
    memory.device[at] = device;
    char *pointer = memory.base + at;
    opened permitted;
    ASAN_UNPOISON_MEMORY_REGION(memory.base + at - gap, bytes + 2 * gap);
    memset(memory.base + at - gap, 0xff, bytes + 2 * gap);
    ASAN_POISON_MEMORY_REGION(memory.base + at - gap, gap);
    ASAN_POISON_MEMORY_REGION(memory.base + at + bytes, gap);
    if (watch_allocation) watch_allocation(pointer, bytes);
    return pointer;
}

bool release_device(void *pointer)
{
    auto found = memory.allocations.find((size_t)(static_cast<char *>(pointer) - memory.base));
    if (!memory.base || found == memory.allocations.end()) return false;
    ASAN_POISON_MEMORY_REGION(memory.base + found->first, found->second);
    if (watch_allocation) watch_allocation(pointer, found->second);
    memory.device.erase(found->first);
    memory.allocations.erase(found);
    return true;
}

range device_range() { return {memory.base, memory.size}; }

range allocation_of(const void *pointer)
{
    if (!in_range(pointer)) return {nullptr, 0};
    size_t at = (size_t)(static_cast<const char *>(pointer) - memory.base);
    auto after = memory.allocations.upper_bound(at);
    if (after == memory.allocations.begin()) return {nullptr, 0};
    --after;
    if (at >= after->first + after->second) return {nullptr, 0};
    return {memory.base + after->first, after->second};
}

bool is_device_memory(const void *pointer, size_t bytes)
{
    range r = allocation_of(pointer);
    return r.base && static_cast<const char *>(pointer) + bytes <= r.base + r.size;
}

/* The host touches device memory: said before the program dies of it. */
static void on_fault(int number, siginfo_t *info, void *)
{
    if (in_range(info->si_addr) && !memory.open) {
        static const char text[] = "CUDA emulation: the host touches device memory\n";
        if (write(2, text, sizeof text - 1) < 0) _exit(128 + number);
    }
    signal(number, SIG_DFL); /* and the access is tried again */
}

void explain_faults()
{
    struct sigaction old = {}, action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    if (sigaction(SIGSEGV, nullptr, &old) == 0 && old.sa_handler == SIG_DFL) sigaction(SIGSEGV, &action, nullptr);
}

} // namespace emulator
