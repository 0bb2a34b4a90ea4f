/*
 * Runs each kernel of seeded.cu, and each wrong order of calls, with its bug and without on every schedule: the checked
 * emulation must name the first and be silent about the second, whose result must be right.
 */
#include <cstdio>

#include <sys/wait.h>
#include <unistd.h>

#include "seeded.cu"

extern "C" void encdiff_emulation_control(const char *settings);

namespace
{

enum { items = 64 };
const size_t bytes = items * sizeof(float);

/* Device memory of a case: x is 0, 1, 2 ...; y is undefined. */
struct setting {
    float *x = nullptr, *y = nullptr;
    cudaStream_t stream = nullptr, other = nullptr;
    float in[items], out[2 * items];

    setting()
    {
        cudaMalloc(reinterpret_cast<void **>(&x), bytes);
        cudaMalloc(reinterpret_cast<void **>(&y), 2 * bytes);
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
        for (int i = 0; i < items; i++) in[i] = (float)i;
        cudaMemcpyAsync(x, in, bytes, cudaMemcpyHostToDevice, stream);
    }

    ~setting()
    {
        cudaStreamSynchronize(stream);
        cudaStreamDestroy(stream);
        cudaStreamDestroy(other);
        cudaFree(x);
        cudaFree(y);
    }

    cudaError_t wait() { return cudaStreamSynchronize(stream); }

    /* Copies the first `count` numbers of y back; fails with cudaErrorUnknown where they are not what f gives. */
    template <class F> cudaError_t result(int count, F f)
    {
        cudaError_t error = cudaGetLastError();
        if (error == cudaSuccess) error = wait(); /* before the copy, which would look at y itself */
        if (error != cudaSuccess) return error;
        cudaMemcpyAsync(out, y, (size_t)count * sizeof(float), cudaMemcpyDeviceToHost, stream);
        if ((error = wait()) != cudaSuccess) return error;
        for (int i = 0; i < count; i++)
            if (out[i] != (float)f(i)) return cudaErrorUnknown;
        return cudaSuccess;
    }
};

#define RUN(kernel, grid, block, shared, ...)                                                                          \
    (bug ? ED_ENQUEUE(s.stream, kernel<true>, grid, block, shared, __VA_ARGS__)                                        \
         : ED_ENQUEUE(s.stream, kernel<false>, grid, block, shared, __VA_ARGS__))
#define CASE(name) cudaError_t name(bool bug)

int itself(int i) { return i; }

CASE(missing_block_barrier_)
{
    setting s;
    RUN(missing_block_barrier, 1, 64, 0, s.x, s.y);
    return s.result(items, [](int i) { return 63 - i; });
}

CASE(warp_barrier_for_block_)
{
    setting s;
    RUN(warp_barrier_for_block, 1, 64, 0, s.x, s.y);
    return s.result(items, [](int i) { return (i + 32) % 64; });
}

CASE(missing_warp_barrier_)
{
    setting s;
    RUN(missing_warp_barrier, 1, 32, 0, s.x, s.y);
    return s.result(32, [](int i) { return 31 - i; });
}

CASE(missing_barrier_before_reuse_)
{
    setting s;
    RUN(missing_barrier_before_reuse, 1, 64, 0, s.x, s.y);
    return s.result(2 * items, [](int i) { return 63 - i % 64 + i / 64; });
}

CASE(write_race_)
{
    setting s;
    RUN(write_race_with_the_right_answer, 1, 64, 0, s.x, s.y);
    return s.result(1, itself);
}

CASE(blocks_that_overlap_)
{
    setting s;
    RUN(blocks_that_overlap, 2, 8, 0, s.x, s.y, items / 2);
    return s.result(items, itself);
}

CASE(sum_without_atomics_)
{
    setting s;
    unsigned *count = reinterpret_cast<unsigned *>(s.y);
    cudaMemsetAsync(count, 0, sizeof *count, s.stream);
    RUN(sum_without_atomics, 2, 32, 0, count);
    cudaError_t error = s.wait();
    unsigned total = 0;
    if (error != cudaSuccess) return error;
    cudaMemcpyAsync(&total, count, sizeof total, cudaMemcpyDeviceToHost, s.stream);
    error = s.wait();
    return error == cudaSuccess && total != 64 ? cudaErrorUnknown : error;
}

CASE(shared_overrun_)
{
    setting s;
    RUN(shared_overrun, 1, 64, 0, s.x, s.y);
    return s.result(items, itself);
}

CASE(dynamic_shared_overrun_)
{
    setting s;
    RUN(dynamic_shared_overrun, 1, 64, bytes, s.x, s.y);
    return s.result(items, itself);
}

CASE(global_overrun_)
{
    setting s;
    RUN(global_overrun, 1, 32, 0, s.x, s.y, bug ? 2 * items : items);
    return s.result(items, itself);
}

CASE(misaligned_vector_)
{
    setting s;
    RUN(misaligned_vector, 1, 8, 0, s.x, s.y);
    return s.result(32, itself);
}

CASE(memory_never_written_)
{
    setting s;
    unsigned *x = reinterpret_cast<unsigned *>(s.x), *y = reinterpret_cast<unsigned *>(s.y);
    if (!bug) cudaMemsetAsync(s.y, 0, bytes, s.stream);
    RUN(copy_words, 1, 64, 0, y, x);
    return s.wait();
}

CASE(shared_never_written_)
{
    setting s;
    RUN(shared_never_written, 1, 64, 0, s.x, s.y);
    return s.result(items, [](int i) { return i % 2; });
}

CASE(barrier_in_a_branch_)
{
    setting s;
    RUN(barrier_in_a_branch, 1, 64, 0, s.x, s.y);
    return s.result(items, itself);
}

CASE(shuffle_with_an_ended_lane_)
{
    setting s;
    RUN(shuffle_with_an_ended_lane, 1, 32, 0, s.x, s.y);
    return s.result(32, [](int i) { return i ^ 1; });
}

/* x comes by another stream, with the very numbers that are there already. */
CASE(missing_stream_wait_)
{
    setting s;
    cudaEvent_t arrived;
    cudaError_t error = s.wait();
    if (error != cudaSuccess) return error;
    cudaEventCreateWithFlags(&arrived, cudaEventDisableTiming);
    cudaMemcpyAsync(s.x, s.in, bytes, cudaMemcpyHostToDevice, s.other);
    cudaEventRecord(arrived, s.other);
    if (!bug) cudaStreamWaitEvent(s.stream, arrived, 0);
    RUN(copy_items, 1, 64, 0, s.x, s.y);
    error = s.result(items, itself);
    if (bug && error == cudaSuccess) error = cudaStreamSynchronize(s.other); /* then the copy comes too late */
    cudaEventDestroy(arrived);
    return error;
}

CASE(memory_given_back_)
{
    setting s;
    float *z;
    cudaMalloc(reinterpret_cast<void **>(&z), bytes);
    if (bug) cudaFree(z);
    RUN(copy_items, 1, 64, 0, s.x, z);
    cudaError_t error = s.wait();
    if (!bug) cudaFree(z);
    return error;
}

CASE(kernel_touches_host_memory_)
{
    setting s;
    static float *mine = static_cast<float *>(malloc(bytes));
    RUN(copy_items, 1, 64, 0, s.x, bug ? mine : s.y);
    return bug ? s.wait() : s.result(items, itself);
}

CASE(too_many_threads_)
{
    setting s;
    RUN(copy_items, 1, bug ? 2048 : 64, 0, s.x, s.y);
    return s.result(items, itself);
}

/* More than 48 KB must be asked for. */
CASE(too_much_shared_memory_)
{
    setting s;
    const int large = 64 << 10;
    if (!bug)
        cudaFuncSetAttribute(reinterpret_cast<const void *>(dynamic_shared_overrun<false>),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, large);
    ED_ENQUEUE(s.stream, dynamic_shared_overrun<false>, 1, 64, large, s.x, s.y);
    cudaError_t error = s.result(items, itself);
    cudaFuncSetAttribute(reinterpret_cast<const void *>(dynamic_shared_overrun<false>),
                         cudaFuncAttributeMaxDynamicSharedMemorySize, 48 << 10);
    return error;
}

/* In a child, which dies of it; what it said comes through a pipe. */
CASE(host_touches_device_memory_)
{
    static char said[256];
    int ends[2];
    if (pipe(ends) != 0) return cudaErrorUnknown;
    pid_t child = fork();
    if (child == 0) {
        setting s;
        s.wait();
        dup2(ends[1], 2);
        volatile float *p = bug ? s.x : s.in;
        _exit(p[1] == 1 ? 0 : 1);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], said, sizeof said - 1);
    said[n > 0 ? n : 0] = 0;
    close(ends[0]);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return cudaErrorUnknown;
    bool told = strstr(said, "the host touches device memory") != nullptr;
    if (!bug) return WIFEXITED(status) && WEXITSTATUS(status) == 0 && !told ? cudaSuccess : cudaErrorUnknown;
    return WIFSIGNALED(status) && told ? cudaErrorIllegalAddress : cudaErrorUnknown;
}

const struct seeded {
    const char *name, *said; /* a part of the report */
    CASE((*run));
} all[] = {
    {"missing block barrier", "race: ", missing_block_barrier_},
    {"warp barrier where a block barrier is needed", "race: ", warp_barrier_for_block_},
    {"missing warp barrier", "race: ", missing_warp_barrier_},
    {"missing barrier before reuse", "race: ", missing_barrier_before_reuse_},
    {"write race with the right answer", "race: ", write_race_},
    {"blocks that overlap", "race: ", blocks_that_overlap_},
    {"sum without atomics", "race: ", sum_without_atomics_},
    {"missing stream wait", "race: ", missing_stream_wait_},
    {"shared overrun", "out of the bounds of a shared array", shared_overrun_},
    {"dynamic shared overrun", "out of the bounds of a shared array", dynamic_shared_overrun_},
    {"global overrun", "out of the bounds of an allocation", global_overrun_},
    {"memory given back", "out of the bounds of an allocation", memory_given_back_},
    {"misaligned 16-byte access", "misaligned: ", misaligned_vector_},
    {"memory never written", "a read of memory never written", memory_never_written_},
    {"shared memory never written", "a read of memory never written", shared_never_written_},
    {"barrier in a branch", "ended before the others' __syncthreads", barrier_in_a_branch_},
    {"shuffle with an ended lane", "the mask names a lane that has ended", shuffle_with_an_ended_lane_},
    {"kernel touches host memory", "a kernel touches memory of the host", kernel_touches_host_memory_},
    {"host touches device memory", "an illegal access", host_touches_device_memory_},
    {"too many threads", "cannot be launched", too_many_threads_},
    {"too much shared memory", "cannot be launched", too_much_shared_memory_},
};

/* Its report with the bug, success without. */
bool check(const seeded &s, int schedule)
{
    char settings[32];
    snprintf(settings, sizeof settings, "reset,schedule=%d", schedule);
    encdiff_emulation_control(settings);
    cudaGetLastError();
    cudaError_t error = s.run(true);
    char said[1200];
    snprintf(said, sizeof said, "%s", error == cudaSuccess ? "nothing" : cudaGetErrorString(error));
    bool caught = strstr(said, s.said) != nullptr;
    printf("%s: %s, schedule %d: %s\n", caught ? "caught" : "MISSED", s.name, schedule, said);
    encdiff_emulation_control("reset");
    cudaGetLastError();
    error = s.run(false);
    if (error != cudaSuccess)
        printf("FAILED: %s, repaired, schedule %d: %s\n", s.name, schedule, cudaGetErrorString(error));
    encdiff_emulation_control("reset");
    return caught && error == cudaSuccess;
}

} // namespace

int main()
{
    setvbuf(stdout, nullptr, _IOLBF, 0);
    int failures = 0, count = 0;
    for (const seeded &s : all)
        for (int schedule = 0; schedule < 3; schedule++, count++) failures += !check(s, schedule);
    printf("%d of %d seeded bugs caught with their repairs silent\n", count - failures, count);
    return failures ? 1 : 0;
}
