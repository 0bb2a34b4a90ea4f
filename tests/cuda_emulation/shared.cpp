/*
 * Where shared memory is: one range of addresses with the launch's dynamic array first and the kernels' static arrays
 * after it, each where the gaps around it belong to nobody. One block runs at a time, so there is one of each.
 */
#include <vector>

#include <sys/mman.h>

#include "internal.h"

namespace emulator
{

enum { arena_size = 8 << 20, dynamic_room = 256 << 10, gap = 256 };

static char *arena;
static size_t next_free = dynamic_room, dynamic_size;
static std::vector<range> arrays; /* by address, the dynamic one apart */

static bool open_arena()
{
    if (arena) return true;
    void *memory = mmap(nullptr, arena_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        report("no memory for the emulation's shared memory");
        abort();
    }
    arena = static_cast<char *>(memory);
    ASAN_POISON_MEMORY_REGION(arena, arena_size);
    return true;
}

range shared_range() { return {arena, arena ? (size_t)arena_size : 0}; }

void *register_shared(size_t bytes)
{
    open_arena();
    size_t at = next_free;
    next_free = (at + bytes + 2 * gap - 1) / gap * gap;
    if (next_free > arena_size) {
        report("the kernels' shared arrays need more than %d bytes", arena_size);
        abort();
    }
    ASAN_UNPOISON_MEMORY_REGION(arena + at, bytes);
    memset(arena + at, 0xff, bytes);
    arrays.push_back({arena + at, bytes});
    return arena + at;
}

void *open_dynamic_shared(size_t bytes)
{
    open_arena();
    ASAN_POISON_MEMORY_REGION(arena, dynamic_room);
    ASAN_UNPOISON_MEMORY_REGION(arena, bytes);
    dynamic_size = bytes;
    return bytes ? arena : nullptr;
}

void poison_shared()
{
    if (dynamic_size) memset(arena, 0xff, dynamic_size);
    for (const range &r : arrays) memset(const_cast<char *>(r.base), 0xff, r.size);
}

bool is_shared_memory(const void *pointer, size_t bytes)
{
    const char *p = static_cast<const char *>(pointer);
    if (p < arena + dynamic_room) return p >= arena && p + bytes <= arena + dynamic_size;
    size_t low = 0, high = arrays.size();
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (arrays[middle].base <= p)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && p + bytes <= arrays[low - 1].base + arrays[low - 1].size;
}

} // namespace emulator
