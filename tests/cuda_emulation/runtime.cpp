/*
 * The CUDA runtime calls in use, with the toolkit's prototypes. Streams are lazy: work is kept until something waits
 * for it, as late as the program allows, so that a missing wait shows as a wrong result.
 * One lock lets several threads use the runtime; a thread's current device is its own.
 */
#include <cstdarg>
#include <cstdio>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include "internal.h"

namespace emulator
{

settings options;

namespace
{

/* Which operations of each stream, by its number, happened before something. */
using history = std::vector<uint64_t>;

struct event {
    uint64_t recorded = 0, done = 0;
    history known;
};

struct operation {
    std::function<void()> work;
    event *wait; /* for its `generation`-th recording; work is empty then */
    uint64_t generation;
    const char *name;
    history known; /* only where somebody watches */
};

struct node {
    const char *name;
    std::function<void()> work;
};

struct graph {
    std::vector<node> work;
};

struct stream {
    std::deque<operation> queue;
    size_t number = 0;
    history known; /* before the next operation */
    int device = 0;
    graph *capture = nullptr;
    bool capture_failed = false;
};

std::recursive_mutex lock;
using guard = std::lock_guard<std::recursive_mutex>;
std::vector<stream *> streams;
size_t stream_count;   /* ever made */
history known_to_host; /* by what it waited for; of all the program's threads together */
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

/* Every call passes its result through here, so that the last error is kept. */
cudaError_t result(cudaError_t error)
{
    if (error == cudaSuccess && broken) error = cudaErrorLaunchFailure;
    if (error != cudaSuccess) last_error = error;
    return error;
}

bool allocation_fails()
{
    if (options.fail < 0) return false;
    return options.fail-- == 0;
}

/* ---------------------------------------------------------------- streams */

stream *add_stream(stream *s)
{
    s->number = stream_count++;
    s->device = current_device;
    streams.push_back(s);
    return s;
}

stream *null_stream()
{
    static stream s;
    static stream *added = add_stream(&s);
    return added;
}

void learn(history &to, const history &from)
{
    if (to.size() < from.size()) to.resize(from.size());
    for (size_t i = 0; i < from.size(); i++)
        if (from[i] > to[i]) to[i] = from[i];
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
    if (o.wait) return do_until(o.wait, o.generation, s);
    if (broken) return;
    if (watch_operation) watch_operation(o.name, s->number, o.known[s->number], o.known);
    o.work();
}

void do_all(stream *s)
{
    opened permitted;
    while (!s->queue.empty()) do_one(s);
}

void do_everything()
{
    for (stream *s : std::vector<stream *>(streams)) do_all(s);
}

/* A call that the host does not come back from before the work is done. */
void wait_for(stream *s)
{
    do_all(s);
    learn(known_to_host, s->known);
}

void wait_for_everything()
{
    for (stream *s : std::vector<stream *>(streams)) wait_for(s);
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

void push(stream *s, const char *name, std::function<void()> work)
{
    if (s->capture) {
        s->capture->work.push_back({name, std::move(work)});
        return;
    }
    learn(s->known, known_to_host);
    s->known.resize(s->number < s->known.size() ? s->known.size() : s->number + 1);
    s->known[s->number]++;
    s->queue.push_back({std::move(work), nullptr, 0, name, watch_operation ? s->known : history()});
    if (options.eager) do_all(s);
}

} // namespace

void enqueue(cudaStream_t s, const char *name, std::function<void()> work)
{
    guard hold(lock);
    push(of(s), name, std::move(work));
}

/* Dynamic shared memory that a kernel may be launched with, where more than the default was asked for. */
static std::map<const void *, size_t> shared_limits;
enum { default_shared = 48 << 10, most_shared = 227 << 10 };

static bool fits(const launch_info &what)
{
    const dim3 &grid = what.grid, &block = what.block;
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    auto raised = shared_limits.find(what.kernel);
    return threads && threads <= 1024 && block.z <= 64 && grid.x && grid.x <= 0x7fffffff && grid.y && grid.z &&
           grid.y <= 65535 && grid.z <= 65535 &&
           what.shared <= (raised == shared_limits.end() ? (size_t)default_shared : raised->second);
}

void launch(const launch_info &what, cudaStream_t handle, place at, std::function<void()> body)
{
    guard hold(lock);
    stream *s = of(handle);
    if (!fits(what)) {
        const dim3 &grid = what.grid, &block = what.block;
        fprintf(stderr,
                "CUDA emulation: %s:%d: %s: a launch over the limits: grid (%u, %u, %u), block (%u, %u, %u), %zu bytes "
                "of dynamic shared memory\n",
                at.file, at.line, what.name, grid.x, grid.y, grid.z, block.x, block.y, block.z, what.shared);
        result(cudaErrorInvalidConfiguration);
        return;
    }
    if (handle && s->device != current_device) {
        fprintf(stderr, "CUDA emulation: %s:%d: %s: the stream is of device %d, the current one is %d\n", at.file,
                at.line, what.name, s->device, current_device);
        result(cudaErrorInvalidResourceHandle);
        return;
    }
    push(s, what.name, [=] { run_grid(what, body); });
}

static struct start {
    start()
    {
        read_settings(getenv("ENCDIFF_EMULATION"));
        explain_faults();
    }
} at_start;

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
    return device_allocations();
}

EXPORTED int encdiff_emulation_current_device(void) { return current_device; }
EXPORTED void encdiff_emulation_set_current_device(int device) { current_device = device; }

/* A stream of the current device that is the caller's; and how much work waits in it. */
EXPORTED void *encdiff_emulation_stream(void)
{
    cudaStream_t s = nullptr;
    (void)cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    return s;
}

EXPORTED size_t encdiff_emulation_waiting(void *s)
{
    guard hold(lock);
    return of(static_cast<cudaStream_t>(s))->queue.size();
}

EXPORTED void encdiff_emulation_destroy_stream(void *s) { (void)cudaStreamDestroy(static_cast<cudaStream_t>(s)); }

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
    case cudaErrorIllegalAddress: return "an illegal access was encountered";
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
    *available = options.memory - device_memory_in_use(current_device);
    return result(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value)
{
    guard hold(lock);
    if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || value > most_shared) return result(cudaErrorInvalidValue);
        shared_limits[kernel] = (size_t)value;
    }
    return result(cudaSuccess);
}

/* ---------------------------------------------------------------- memory */

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
    guard hold(lock);
    if (breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
    *pointer = allocation_fails() ? nullptr : allocate_device(current_device, bytes);
    return result(*pointer ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *pointer)
{
    guard hold(lock);
    if (breaks_capture()) return result(cudaErrorStreamCaptureUnsupported);
    wait_for_everything();
    if (pointer && !release_device(pointer)) return result(cudaErrorInvalidValue);
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
    push(of(s), "cudaMemcpyAsync", [=] {
        if (from_device) touch(from, bytes, false);
        if (to_device) touch(to, bytes, true);
        memmove(to, from, bytes);
    });
    return result(cudaSuccess);
}

cudaError_t cudaMemsetAsync(void *pointer, int value, size_t bytes, cudaStream_t s)
{
    guard hold(lock);
    if (!is_device_memory(pointer, bytes)) return result(cudaErrorInvalidValue);
    push(of(s), "cudaMemsetAsync", [=] {
        touch(pointer, bytes, true);
        memset(pointer, value, bytes);
    });
    return result(cudaSuccess);
}

/* ---------------------------------------------------------------- streams and events */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    guard hold(lock);
    null_stream();
    *out = reinterpret_cast<cudaStream_t>(add_stream(new stream));
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
    wait_for(of(s));
    return result(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void)
{
    guard hold(lock);
    wait_for_everything();
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
    push(of(s), "cudaEventRecord", [=] { e->done = generation; });
    e->known = of(s)->known;
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
    of(s)->queue.push_back({nullptr, e, e->recorded, nullptr, history()});
    learn(of(s)->known, e->known);
    return result(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle)
{
    guard hold(lock);
    event *e = reinterpret_cast<event *>(handle);
    opened permitted;
    do_until(e, e->recorded, nullptr);
    learn(known_to_host, e->known);
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
    for (auto &n : reinterpret_cast<graph *>(handle)->work) push(of(s), n.name, n.work);
    return result(cudaSuccess);
}

} // extern "C"
