/*
 * Counts what the memory system of a GPU would have to do for a kernel: see trace.h. The k-th time that the lanes of a
 * warp come to an instruction makes one request; lanes that leave a loop early keep their count, so the grouping is
 * that of lanes in step. Global memory moves in sectors of 32 bytes; shared memory has 32 banks of 4 bytes, and wide
 * accesses are served 128 bytes at a time.
 */
#include <algorithm>
#include <map>
#include <string>

#include <sys/mman.h>

#include "checker.h"
#include "trace.h"

namespace emulator
{

namespace
{

bool tracing;
std::vector<memory_access> of_thread[1024];
std::map<std::string, ed_emulation_counts> kernels;
ed_emulation_footprint footprint;

enum { WAS_READ = 1, WAS_WRITTEN = 2 };

/* What happened to each byte of device memory since counting began. */
struct marks {
    unsigned char *of = nullptr;
    size_t size = 0;

    void clear()
    {
        if (of) munmap(of, size);
        range all = device_range();
        size = all.size;
        void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        of = memory == MAP_FAILED ? nullptr : static_cast<unsigned char *>(memory);
        if (!of) report("no addresses for the trace's notes");
    }

    void note(const memory_access &a)
    {
        unsigned char *first = of + (a.address - reinterpret_cast<uintptr_t>(device_range().base));
        for (uint32_t i = 0; i < a.bytes; i++) {
            if (a.write && !(first[i] & WAS_WRITTEN)) footprint.written++;
            if (!a.write && !first[i]) footprint.read++;
            first[i] = static_cast<unsigned char>(first[i] | (a.write ? WAS_WRITTEN : WAS_READ));
        }
    }
} touched;

/* One lane's part in a request. */
struct part {
    const void *pc;
    unsigned time;
    memory_access access;
};

/* The accesses of a warp's lanes, those of one request after one another. */
std::vector<part> requests_of(unsigned first, unsigned last)
{
    std::vector<part> parts;
    std::map<const void *, unsigned> times;
    for (unsigned thread = first; thread < last; thread++) {
        times.clear();
        for (const memory_access &a : of_thread[thread]) parts.push_back({a.pc, times[a.pc]++, a});
    }
    std::stable_sort(parts.begin(), parts.end(),
                     [](const part &a, const part &b) { return a.pc != b.pc ? a.pc < b.pc : a.time < b.time; });
    return parts;
}

void count_global(ed_emulation_counts &counts, const part *first, const part *last)
{
    std::vector<uintptr_t> sectors;
    for (const part *p = first; p < last; p++) {
        counts.bytes += p->access.bytes;
        for (uintptr_t s = p->access.address / 32; s <= (p->access.address + p->access.bytes - 1) / 32; s++)
            sectors.push_back(s);
    }
    std::sort(sectors.begin(), sectors.end());
    counts.sectors += static_cast<double>(std::unique(sectors.begin(), sectors.end()) - sectors.begin());
    counts.requests++;
}

/* Turns of the banks for lanes that are served together: distinct words of the bank that has most of them. */
unsigned bank_turns(const part *first, const part *last)
{
    std::vector<uintptr_t> words;
    unsigned of_bank[32] = {}, most = 0;
    for (const part *p = first; p < last; p++)
        for (uintptr_t w = p->access.address / 4; w <= (p->access.address + p->access.bytes - 1) / 4; w++)
            words.push_back(w);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    for (uintptr_t w : words) most = std::max(most, ++of_bank[w % 32]);
    return most;
}

void count_shared(ed_emulation_counts &counts, const part *first, const part *last)
{
    ptrdiff_t together = std::max<ptrdiff_t>(128 / std::max<ptrdiff_t>(first->access.bytes, 4), 1);
    for (; first < last; first += together) {
        counts.shared_passes += bank_turns(first, std::min(first + together, last));
        counts.shared_least++;
        if (last - first <= together) break;
    }
    counts.shared_requests++;
}

void count_warp(ed_emulation_counts &counts, unsigned first, unsigned last)
{
    std::vector<part> parts = requests_of(first, last);
    for (size_t i = 0, j; i < parts.size(); i = j) {
        for (j = i; j < parts.size() && parts[j].pc == parts[i].pc && parts[j].time == parts[i].time;) j++;
        if (parts[i].access.shared)
            count_shared(counts, &parts[i], parts.data() + j);
        else
            count_global(counts, &parts[i], parts.data() + j);
    }
}

} // namespace

void trace_access(unsigned thread, const memory_access &access)
{
    if (!tracing) return;
    of_thread[thread].push_back(access);
    if (!access.shared) touched.note(access);
}

void trace_block(const char *kernel)
{
    if (!tracing) return;
    ed_emulation_counts &counts = kernels[kernel];
    counts.blocks++;
    for (unsigned first = 0; first < 1024; first += 32) count_warp(counts, first, first + 32);
    for (std::vector<memory_access> &accesses : of_thread) accesses.clear();
}

} // namespace emulator

using namespace emulator;

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED void encdiff_emulation_trace(int on)
{
    tracing = on != 0;
    if (!on) return;
    kernels.clear();
    footprint = {};
    touched.clear();
}

EXPORTED int encdiff_emulation_traced(int i, ed_emulation_counts *counts)
{
    for (auto &k : kernels) {
        if (i-- > 0) continue;
        *counts = k.second;
        counts->kernel = k.first.c_str();
        return 1;
    }
    return 0;
}

EXPORTED void encdiff_emulation_touched(ed_emulation_footprint *out) { *out = footprint; }
