/*
 * Runs a grid on the calling OS thread: blocks one after another, a fiber per CUDA thread. A fiber runs until it waits
 * at a barrier; when all threads of the block (or all lanes of the mask) are there, they become ready again. The
 * schedule decides in which order ready threads and blocks run.
 *
 * It is compiled without ThreadSanitizer, and tells it what happens before what: a barrier releases a tag when a thread
 * arrives and acquires it when the thread leaves. Two tags take turns, since a fast thread may reach the next barrier
 * before a slow one has left this. The blocks of a grid follow one another, so ThreadSanitizer sees no races between
 * them; the checked build does.
 */
#include <cstdarg>
#include <cstdio>
#include <vector>

#include <sys/mman.h>

#include "internal.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef ED_EMULATION_TSAN
extern "C" {
void *__tsan_create_fiber(unsigned flags);
void *__tsan_get_current_fiber(void);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *tag);
void __tsan_release(void *tag);
}
#endif

#if !defined(__x86_64__)
#error "the emulator switches stacks with code for x86-64"
#endif

/* Saves the registers that a call keeps and the stack pointer, and continues where `to` was saved. */
extern "C" void emulator_switch(void **save, void *to);
asm(".text\n.globl emulator_switch\n.hidden emulator_switch\n.type emulator_switch,@function\nemulator_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size emulator_switch,.-emulator_switch\n");

namespace emulator
{

thread *current;
warp *warps;
dim3 grid_size, block_size;
uint3 block_index;
void *dynamic_shared;
bool broken;
char report_text[1024];

enum { READY, AT_WARP_BARRIER, AT_BLOCK_BARRIER, DONE };

static std::vector<thread> threads;
static std::vector<warp> warp_pool;
static void *scheduler_stack;
static const std::function<void()> *kernel_body;
static const char *kernel_name;
static unsigned thread_count, done_count, arrived_count;
uint32_t block_number, block_epoch;
static place barrier_place;
static uint64_t random_state = 88172645463325252u;

/* ---------------------------------------------------------------- what the sanitizers are told */

#ifdef ED_EMULATION_TSAN
static char block_tags[2], start_tag, end_tag;
static std::vector<char> warp_tags;
static unsigned block_generation;
static void *scheduler_fiber;
static void acquire(void *tag) { __tsan_acquire(tag); }
static void release(void *tag) { __tsan_release(tag); }
static void *block_tag() { return &block_tags[block_generation & 1]; }
static void *warp_tag(unsigned w) { return &warp_tags[w * 2 + (warps[w].generation & 1)]; }
static void next_block_tag() { block_generation++; }
#else
static char start_tag, end_tag;
static void acquire(void *) {}
static void release(void *) {}
static void *block_tag() { return nullptr; }
static void *warp_tag(unsigned) { return nullptr; }
static void next_block_tag() {}
#endif
#ifdef WITH_ASAN
static void *scheduler_asan_stack;
static const void *scheduler_bottom;
static size_t scheduler_size;
#endif

/* ---------------------------------------------------------------- reports */

static const char *state_name(int state)
{
    return state == DONE ? "ended" : state == AT_WARP_BARRIER ? "waits in a warp operation" : "waits at __syncthreads";
}

/* Where the threads are, each place once. */
static size_t add_places(char *text, size_t size)
{
    size_t used = 0;
    int shown = 0;
    for (unsigned i = 0; i < thread_count && shown < 4 && used < size; i++) {
        const thread &t = threads[i], &before = threads[i ? i - 1 : 0];
        if (i && t.state == before.state && t.at.line == before.at.line) continue;
        if (t.state == READY && !t.at.file) continue;
        int n = snprintf(text + used, size - used, "; thread %u %s, last seen at %s:%d", i, state_name(t.state),
                         t.at.file ? t.at.file : "its start", t.at.line);
        used += n > 0 ? (size_t)n : 0;
        shown++;
    }
    return used;
}

void report(const char *format, ...)
{
    char text[sizeof report_text];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t used = n > 0 ? (size_t)n : 0;
    if (kernel_body && used < sizeof text) {
        n = snprintf(text + used, sizeof text - used, ", kernel %s, block (%u, %u, %u)", kernel_name, block_index.x,
                     block_index.y, block_index.z);
        used += n > 0 ? (size_t)n : 0;
        if (used < sizeof text) add_places(text + used, sizeof text - used);
    }
    fprintf(stderr, "CUDA emulation: %s\n", text);
    if (!broken) memcpy(report_text, text, sizeof text);
    broken = true;
}

/* ---------------------------------------------------------------- fibers */

static void to_scheduler()
{
    thread *me = current;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(me->state == DONE ? nullptr : &me->asan_stack, scheduler_bottom, scheduler_size);
#endif
#ifdef ED_EMULATION_TSAN
    __tsan_switch_to_fiber(scheduler_fiber, 1);
#endif
    emulator_switch(&me->stack_pointer, scheduler_stack);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(me->asan_stack, &scheduler_bottom, &scheduler_size);
#endif
}

void stop_thread()
{
    for (;;) to_scheduler();
}

/* Misuse inside a kernel: this thread never continues. */
static void give_up(const char *why, place at)
{
    report("%s at %s:%d", why, at.file, at.line);
    stop_thread();
}

static void fiber_main()
{
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
#endif
    acquire(&start_tag);
    (*kernel_body)();
    release(&end_tag);
    current->state = DONE;
    done_count++;
    warp &mine = warps[current->warp];
    mine.live &= ~(1u << current->lane);
    if (mine.arrived && ((mine.mask >> current->lane) & 1)) report("the mask names a lane that has ended");
    stop_thread();
}

static void resume(thread *t)
{
    current = t;
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(&scheduler_asan_stack, t->stack, stack_size);
#endif
#ifdef ED_EMULATION_TSAN
    __tsan_switch_to_fiber(t->tsan_fiber, 1);
#endif
    emulator_switch(&scheduler_stack, t->stack_pointer);
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(scheduler_asan_stack, nullptr, nullptr);
#endif
    current = nullptr;
}

/* A fresh stack whose first return goes to fiber_main, aligned as after a call. */
static void start_fiber(thread *t)
{
    void **sp = reinterpret_cast<void **>(static_cast<char *>(t->stack) + stack_size) - 1;
    *--sp = reinterpret_cast<void *>(fiber_main);
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    t->stack_pointer = sp;
    t->asan_stack = nullptr;
}

/* ---------------------------------------------------------------- barriers */

void block_barrier(place at)
{
    thread *me = current;
    me->at = at;
    if (arrived_count && (barrier_place.line != at.line || barrier_place.file != at.file))
        give_up("threads of one block wait at different __syncthreads, this one", at);
    barrier_place = at;
    arrived_count++;
    void *tag = block_tag();
    release(tag);
    if (arrived_count == thread_count) {
        next_block_tag();
        block_epoch++;
        for (unsigned i = 0; i < thread_count; i++) threads[i].state = READY;
        arrived_count = 0;
    } else {
        me->state = AT_BLOCK_BARRIER;
    }
    to_scheduler();
    acquire(tag);
}

static unsigned lanes_of(unsigned warp_number)
{
    unsigned lanes = thread_count - warp_number * 32;
    return lanes >= 32 ? ~0u : (1u << lanes) - 1;
}

/* What the lanes of the mask did before the barrier happens before what they do after it. */
static void order_lanes(unsigned warp_number, unsigned mask)
{
    thread *lanes = &threads[warp_number * 32];
    uint32_t seen[32] = {};
    for (unsigned i = 0; i < 32; i++) {
        if (!((mask >> i) & 1)) continue;
        lanes[i].seen[i] = lanes[i].clock++;
        for (unsigned k = 0; k < 32; k++) seen[k] = lanes[i].seen[k] > seen[k] ? lanes[i].seen[k] : seen[k];
    }
    for (unsigned i = 0; i < 32; i++)
        if ((mask >> i) & 1) memcpy(lanes[i].seen, seen, sizeof seen);
}

void warp_barrier(unsigned mask, place at, bool orders_memory)
{
    thread *me = current;
    warp &w = warps[me->warp];
    me->at = at;
    if (!((mask >> me->lane) & 1)) give_up("a lane is not in its own mask", at);
    if (mask & lanes_of(me->warp) & ~w.live) give_up("the mask names a lane that has ended", at);
    if (mask & ~lanes_of(me->warp)) give_up("the mask names a lane that the block does not have", at);
    if (w.arrived && w.mask != mask) give_up("lanes of one warp operation disagree on the mask", at);
    w.mask = mask;
    w.arrived |= 1u << me->lane;
    void *tag = warp_tag(me->warp);
    if (orders_memory) release(tag);
    if (w.arrived == mask) {
        w.arrived = 0;
        w.generation++;
        if (orders_memory) order_lanes(me->warp, mask);
        for (unsigned lane = 0; lane < 32; lane++)
            if ((mask >> lane) & 1) threads[me->warp * 32 + lane].state = READY;
    } else {
        me->state = AT_WARP_BARRIER;
        to_scheduler();
    }
    if (orders_memory) acquire(tag);
}

/* ---------------------------------------------------------------- blocks and grids */

static uint64_t random_number()
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Item k of `count` in the schedule's order. `shift` is a random number. */
static uint64_t in_order(uint64_t k, uint64_t count, uint64_t shift)
{
    if (options.schedule == 0) return k;
    if (options.schedule == 1) return count - 1 - k;
    const uint64_t prime = 1000003;
    return count % prime ? (k * prime + shift) % count : (k + shift) % count;
}

static void start_block()
{
    for (unsigned i = 0; i < thread_count; i++) {
        thread &t = threads[i];
        t.number = i;
        t.lane = i % 32;
        t.warp = i / 32;
        t.state = READY;
        t.at = {nullptr, 0};
        t.clock = 1;
        memset(t.seen, 0, sizeof t.seen);
        t.index.x = i % block_size.x;
        t.index.y = i / block_size.x % block_size.y;
        t.index.z = i / (block_size.x * block_size.y);
        start_fiber(&t);
    }
    for (unsigned w = 0; w * 32 < thread_count; w++) {
        warps[w].live = lanes_of(w);
        warps[w].arrived = 0;
    }
    poison_shared();
    done_count = arrived_count = 0;
    block_epoch = 0;
}

static void run_block()
{
    start_block();
    release(&start_tag);
    while (done_count < thread_count && !broken) {
        bool progress = false;
        uint64_t shift = random_number();
        for (unsigned k = 0; k < thread_count && !broken; k++) {
            thread *t = &threads[in_order(k, thread_count, shift)];
            if (t->state != READY) continue;
            progress = true;
            resume(t);
        }
        if (broken) break;
        if (arrived_count && done_count && arrived_count + done_count == thread_count)
            report("some threads of a block ended before the others' __syncthreads at %s:%d", barrier_place.file,
                   barrier_place.line);
        else if (!progress)
            report("no thread can run on: a barrier that not all threads reach");
    }
    if (trace_block) trace_block(kernel_name);
}

static void reserve_threads(unsigned count)
{
    while (threads.size() < count) {
        thread t{};
        t.stack = mmap(nullptr, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (t.stack == MAP_FAILED) {
            report("no memory for %u stacks", count);
            return;
        }
#ifdef ED_EMULATION_TSAN
        t.tsan_fiber = __tsan_create_fiber(0);
#endif
        threads.push_back(t);
    }
    warp_pool.resize((threads.size() + 31) / 32);
    warps = warp_pool.data();
#ifdef ED_EMULATION_TSAN
    warp_tags.resize(warp_pool.size() * 2);
#endif
}

bool is_scheduler_memory(const void *p)
{
    auto within = [p](const void *from, size_t bytes) {
        return static_cast<const char *>(p) - static_cast<const char *>(from) < (ptrdiff_t)bytes && p >= from;
    };
    return within(threads.data(), threads.size() * sizeof(thread)) ||
           within(warp_pool.data(), warp_pool.size() * sizeof(warp)) || within(kernel_body, sizeof *kernel_body) ||
           (current && within(current->stack, stack_size));
}

void run_grid(const launch_info &what, const std::function<void()> &body)
{
    if (broken) return;
    const dim3 &grid = what.grid;
    grid_size = grid;
    block_size = what.block;
    thread_count = block_size.x * block_size.y * block_size.z;
    kernel_body = &body;
    kernel_name = what.name;
    reserve_threads(thread_count);
#ifdef ED_EMULATION_TSAN
    scheduler_fiber = __tsan_get_current_fiber();
#endif
    dynamic_shared = open_dynamic_shared(what.shared);
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z, shift = random_number();
    for (uint64_t k = 0; k < blocks && !broken; k++) {
        uint64_t i = in_order(k, blocks, shift);
        block_index.x = (unsigned)(i % grid.x);
        block_index.y = (unsigned)(i / grid.x % grid.y);
        block_index.z = (unsigned)(i / grid.x / grid.y);
        block_number = (uint32_t)i;
        run_block();
        acquire(&end_tag);
    }
    kernel_body = nullptr;
}

} // namespace emulator
