/*
 * The CUDA runtime calls in use, with the toolkit's prototypes. Streams are lazy: work is kept until something waits
 * for it, as late as the program allows, so that a missing wait shows as a wrong result.
 *
 * Device memory is one reserved range that the host can touch only while work is done: a program that reads or writes
 * it directly crashes there. Allocations are poisoned with NaN; the gaps between them are too, and AddressSanitizer
 * knows them. One lock lets several threads use the runtime; a thread's current device is its own.
 */
#include <cstdarg>
#include <cstdio>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include <sys/mman.h>

#include "internal.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace emulator
{

settings options;

namespace
{

struct event {
    uint64_t recorded = 0, done = 0;
};

struct operation {
    std::function<void()> work;
    event *wait; /* for its `generation`-th recording; work is empty then */
    uint64_t generation;
};

struct graph {
    std::vector<std::function<void()>> work;
};

struct stream {
    std::deque<operation> queue;
    int device = 0;
    graph *capture = nullptr;
    bool capture_failed = false;
};

std::recursive_mutex lock;
using guard = std::lock_guard<std::recursive_mutex>;
std::vector<stream *> streams;
thread_local int current_device;
thread_local cudaError_t last_error = cudaSuccess;

/* ---------------------------------------------------------------- settings */

void read_setting(const char *name, size_t length, long value)
{
    struct {
        const char *name;
        std::function<void(long)> set;
    } known[] = {
        {"schedule", [](long v) { options.schedule = (int)v; }},
        {"devices", [](long v) { options.devices = (int)v; }},
        {"capability", [](long v) { options.capability = (int)v; }},
        {"fail", [](long v) { options.fail = v; }},
        {"eager", [](long v) { options.eager = v != 0; }},
        {"memory", [](long v) { options.memory = (size_t)v; }},
        {"reset", [](long) { broken = false; }},
    };
    for (auto &k : known)
        if (strlen(k.name) == length && strncmp(k.name, name, length) == 0) return k.set(value);
    fprintf(stderr, "CUDA emulation: unknown setting %.*s\n", (int)length, name);
}

void read_settings(const char *text)
{
    while (text && *text) {
        size_t length = strcspn(text, "=,");
        char *end = const_cast<char *>(text) + length;
        long value = *end == '=' ? strtol(end + 1, &end, 10) : 1;
        read_setting(text, length, value);
        text = *end == ',' ? end + 1 : end + strlen(end);
    }
}

struct start {
    start() { read_settings(getenv("ENCDIFF_EMULATION")); }
} at_start;

/* Every call passes its result through here, so that the last error is kept. */
cudaError_t result(cudaError_t error)
{
    if (error == cudaSuccess && broken) error = cudaErrorLaunchFailure;
    if (error != cudaSuccess) last_error = error;
    return error;
}

/* ---------------------------------------------------------------- device memory */

struct memory_range {
    char *base = nullptr;
    size_t size = 0;
    std::map<size_t, size_t> allocations; /* offset to size, without gap */
    std::map<size_t, int> device;
    int open = 0; /* nested permissions to touch it */
} memory;

enum { gap = 512 };

void allow_access(bool allow)
{
    memory.open += allow ? 1 : -1;
    if (memory.base && memory.open == (allow ? 1 : 0))
        mprotect(memory.base, memory.size, allow ? PROT_READ | PROT_WRITE : PROT_NONE);
}

struct access {
    access() { allow_access(true); }
    ~access() { allow_access(false); }
};

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

size_t in_use(int device)
{
    size_t sum = 0;
    for (auto &a : memory.allocations)
        if (memory.device[a.first] == device) sum += a.second;
    return sum;
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

bool allocation_fails()
{
    if (options.fail < 0) return false;
    return options.fail-- == 0;
}

cudaError_t allocate(void **pointer, size_t bytes)
{
    *pointer = nullptr;
    if (allocation_fails() || !reserve_range()) return cudaErrorMemoryAllocation;
    if (in_use(current_device) + bytes > options.memory) return cudaErrorMemoryAllocation;
    size_t at = find_place(bytes ? bytes : 1);
    if (at == SIZE_MAX) return cudaErrorMemoryAllocation;
    memory.allocations[at] = bytes ? bytes : 1;
    memory.device[at] = current_device;
    *pointer = memory.base + at;
    access permitted;
    ASAN_UNPOISON_MEMORY_REGION(memory.base + at - gap, bytes + 2 * gap);
    memset(memory.base + at - gap, 0xff, bytes + 2 * gap);
    ASAN_POISON_MEMORY_REGION(memory.base + at - gap, gap);
    ASAN_POISON_MEMORY_REGION(memory.base + at + bytes, gap);
    return cudaSuccess;
}

bool release(void *pointer)
{
    auto found = memory.allocations.find((size_t)(static_cast<char *>(pointer) - memory.base));
    if (!memory.base || found == memory.allocations.end()) return false;
    ASAN_POISON_MEMORY_REGION(memory.base + found->first, found->second);
    memory.device.erase(found->first);
    memory.allocations.erase(found);
    return true;
}

bool in_range(const void *pointer)
{
    const char *p = static_cast<const char *>(pointer);
    return memory.base && p >= memory.base && p < memory.base + memory.size;
}

/* ---------------------------------------------------------------- streams */

stream *null_stream()
{
    static stream s;
    static bool listed = false;
    if (!listed) streams.push_back(&s);
    listed = true;
    return &s;
}

stream *of(cudaStream_t handle) { return handle ? reinterpret_cast<stream *>(handle) : null_stream(); }

void do_one(stream *s);

void do_until(event *e, uint64_t generation, const stream *waiting)
{
    for (stream *other : streams)
        while (e->done < generation && other != waiting && !other->queue.empty()) do_one(other);
}

void do_one(stream *s)
{
    operation o = std::move(s->queue.front());
    s->queue.pop_front();
    if (o.wait)
        do_until(o.wait, o.generation, s);
    else if (!broken)
        o.work();
}

void do_all(stream *s)
{
    access permitted;
    while (!s->queue.empty()) do_one(s);
}

void do_everything()
{
    for (stream *s : std::vector<stream *>(streams)) do_all(s);
}

bool capturing()
{
    for (stream *s : streams)
        if (s->capture) return true;
    return false;
}

/* A call that may not come while a stream is captured. */
bool breaks_capture()
{
    bool any = capturing();
    for (stream *s : streams)
        if (s->capture) s->capture_failed = true;
    return any;
}

void push(stream *s, std::function<void()> work)
{
    if (s->capture) {
        s->capture->work.push_back(std::move(work));
        return;
    }
    s->queue.push_back({std::move(work), nullptr, 0});
    if (options.eager) do_all(s);
}

} // namespace

bool is_device_memory(const void *pointer, size_t bytes)
{
    if (!in_range(pointer)) return false;
    size_t at = (size_t)(static_cast<const char *>(pointer) - memory.base);
    auto after = memory.allocations.upper_bound(at);
    if (after == memory.allocations.begin()) return false;
    --after;
    return at + bytes <= after->first + after->second;
}

void enqueue(cudaStream_t s, std::function<void()> work)
{
    guard hold(lock);
    push(of(s), std::move(work));
}

static bool fits(dim3 grid, dim3 block, size_t shared)
{
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    return threads && threads <= 1024 && block.z <= 64 && grid.x && grid.x <= 0x7fffffff && grid.y && grid.z &&
           grid.y <= 65535 && grid.z <= 65535 && shared <= 227 * 1024;
}

void launch(dim3 grid, dim3 block, size_t shared, cudaStream_t handle, const char *name, place at,
            std::function<void()> body)
{
    guard hold(lock);
    stream *s = of(handle);
    if (!fits(grid, block, shared)) {
        fprintf(stderr,
                "CUDA emulation: %s:%d: %s: grid (%u, %u, %u), block (%u, %u, %u), %zu bytes cannot be launched\n",
                at.file, at.line, name, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared);
        result(cudaErrorInvalidConfiguration);
        return;
    }
    if (handle && s->device != current_device) {
        fprintf(stderr, "CUDA emulation: %s:%d: %s: the stream is of device %d, the current one is %d\n", at.file,
                at.line, name, s->device, current_device);
        result(cudaErrorInvalidResourceHandle);
        return;
    }
    push(s, [=] { run_grid(grid, block, shared, name, at, body); });
}

} // namespace emulator

using namespace emulator;

#define EXPORTED __attribute__((visibility("default")))

extern "C" {

/* For tests, which find them in the plugin with dlsym. */
EXPORTED void encdiff_emulation_control(const char *settings_text)
{
    guard hold(lock);
    read_settings(settings_text);
}

EXPORTED size_t encdiff_emulation_allocations(void)
{
    guard hold(lock);
    return memory.allocations.size();
}

EXPORTED int encdiff_emulation_current_device(void) { return current_device; }
EXPORTED void encdiff_emulation_set_current_device(int device) { current_device = device; }

/* ---------------------------------------------------------------- devices and errors */

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = broken ? cudaErrorLaunchFailure : cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    default: return "cudaError";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorLaunchFailure: return broken ? report_text : "launch failed";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorInvalidConfiguration: return "a grid or block that cannot be launched";
    case cudaErrorInvalidResourceHandle: return "a handle of another device, or one that was destroyed";
    case cudaErrorStreamCaptureUnsupported: return "not allowed while a stream is captured";
    case cudaErrorStreamCaptureInvalidated: return "the capture was broken by an earlier call";
    default: return "an invalid argument";
    }
}

cudaError_t cudaGetDeviceCount(int *count)
{
    guard hold(lock);
    *count = options.devices > 0 ? options.devices : 0;
    return options.devices > 0 ? cudaSuccess
                               : result(options.devices ? cudaErrorInsufficientDriver : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= options.devices) return result(cudaErrorInvalidDevice);
    current_device = device;
    return result(cudaSuccess);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return result(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (device < 0 || device >= options.devices) return result(cudaErrorInvalidDevice);
    *properties = cudaDeviceProp{};
    snprintf(properties->name, sizeof properties->name, "Emulated device %d", device);
    properties->major = options.capability / 10;
    properties->minor = options.capability % 10;
    properties->totalGlobalMem = options.memory;
    properties->multiProcessorCount = 4;
    properties->regsPerBlock = 65536;
    return result(cudaSuccess);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    guard hold(lock);
    *total = options.memory;
    *available = options.memory - in_use(current_device);
    return result(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int) { return result(cudaSuccess); }

/* ---------------------------------------------------------------- memory */

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
    guard hold(lock);
    if (breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
    return result(allocate(pointer, bytes));
}

cudaError_t cudaFree(void *pointer)
{
    guard hold(lock);
    if (breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
    do_everything();
    if (pointer && !release(pointer)) return result(cudaErrorInvalidValue);
    return result(cudaSuccess);
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned)
{
    guard hold(lock);
    *pointer = allocation_fails() ? nullptr : malloc(bytes ? bytes : 1);
    return result(*pointer ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *pointer)
{
    guard hold(lock);
    do_everything();
    free(pointer);
    return result(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s)
{
    guard hold(lock);
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (to_device ? !is_device_memory(to, bytes) : in_range(to)) return result(cudaErrorInvalidValue);
    if (from_device ? !is_device_memory(from, bytes) : in_range(from)) return result(cudaErrorInvalidValue);
    push(of(s), [=] { memmove(to, from, bytes); });
    return result(cudaSuccess);
}

cudaError_t cudaMemsetAsync(void *pointer, int value, size_t bytes, cudaStream_t s)
{
    guard hold(lock);
    if (!is_device_memory(pointer, bytes)) return result(cudaErrorInvalidValue);
    push(of(s), [=] { memset(pointer, value, bytes); });
    return result(cudaSuccess);
}

/* ---------------------------------------------------------------- streams and events */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    guard hold(lock);
    null_stream();
    stream *s = new stream;
    s->device = current_device;
    streams.push_back(s);
    *out = reinterpret_cast<cudaStream_t>(s);
    return result(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle)
{
    guard hold(lock);
    stream *s = of(handle);
    do_all(s);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + (long)i);
    delete s;
    return result(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    guard hold(lock);
    if (of(s)->capture) {
        of(s)->capture_failed = true;
        return result(cudaErrorStreamCaptureUnsupported);
    }
    do_all(of(s));
    return result(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void)
{
    guard hold(lock);
    do_everything();
    return result(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = reinterpret_cast<cudaEvent_t>(new event);
    return result(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle)
{
    guard hold(lock);
    do_everything();
    delete reinterpret_cast<event *>(handle);
    return result(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t s)
{
    guard hold(lock);
    event *e = reinterpret_cast<event *>(handle);
    uint64_t generation = ++e->recorded;
    push(of(s), [=] { e->done = generation; });
    return result(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t handle, unsigned)
{
    guard hold(lock);
    event *e = reinterpret_cast<event *>(handle);
    if (of(s)->capture) {
        of(s)->capture_failed = true; /* captures of several streams are not in use */
        return result(cudaErrorStreamCaptureUnsupported);
    }
    of(s)->queue.push_back({nullptr, e, e->recorded});
    return result(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle)
{
    guard hold(lock);
    event *e = reinterpret_cast<event *>(handle);
    access permitted;
    do_until(e, e->recorded, nullptr);
    return result(cudaSuccess);
}

/* ---------------------------------------------------------------- graphs */

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode)
{
    guard hold(lock);
    stream *s = of(handle);
    if (!handle || s->capture) return result(cudaErrorStreamCaptureUnsupported);
    s->capture = new graph;
    s->capture_failed = false;
    return result(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *out)
{
    guard hold(lock);
    stream *s = of(handle);
    *out = nullptr;
    if (!s->capture) return result(cudaErrorIllegalState);
    graph *g = s->capture;
    s->capture = nullptr;
    if (s->capture_failed) {
        delete g;
        return result(cudaErrorStreamCaptureInvalidated);
    }
    *out = reinterpret_cast<cudaGraph_t>(g);
    return result(cudaSuccess);
}

#if CUDART_VERSION >= 12000
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t from, unsigned long long)
#else
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t from, cudaGraphNode_t *, char *, size_t)
#endif
{
    guard hold(lock);
    *out = nullptr;
    if (allocation_fails()) return result(cudaErrorMemoryAllocation);
    *out = reinterpret_cast<cudaGraphExec_t>(new graph(*reinterpret_cast<graph *>(from)));
    return result(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete reinterpret_cast<graph *>(g);
    return result(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g)
{
    guard hold(lock);
    do_everything();
    delete reinterpret_cast<graph *>(g);
    return result(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t s)
{
    guard hold(lock);
    for (auto &work : reinterpret_cast<graph *>(handle)->work) push(of(s), work);
    return result(cudaSuccess);
}

} // extern "C"
