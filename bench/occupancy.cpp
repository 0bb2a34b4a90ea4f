/*
 * Resident blocks of a kernel on a multiprocessor, by the toolkit's own cuda_occupancy.h, without a device. Reads lines
 *
 *     ARCH REGISTERS STATIC_SHARED DYNAMIC_SHARED THREADS
 *
 * and answers each with the share of the multiprocessor's threads that are resident, in percent. For cuda/budgets.py.
 */
#include <cstdio>

#include <cuda_occupancy.h>

/* Limits of compute capabilities, from the CUDA programming guide. */
struct limits {
    int arch, threads; /* of a multiprocessor */
    size_t shared;     /* bytes of it */
};

static const limits known[] = {{80, 2048, 164 << 10}, {86, 1536, 100 << 10},  {89, 1536, 100 << 10},
                               {90, 2048, 228 << 10}, {100, 2048, 228 << 10}, {120, 1536, 100 << 10}};

static cudaOccDeviceProp device_of(const limits &l)
{
    cudaOccDeviceProp p;
    p.computeMajor = l.arch / 10;
    p.computeMinor = l.arch % 10;
    p.maxThreadsPerBlock = 1024;
    p.maxThreadsPerMultiprocessor = l.threads;
    p.regsPerBlock = p.regsPerMultiprocessor = 65536;
    p.warpSize = 32;
    p.sharedMemPerBlock = 48 << 10;
    p.sharedMemPerMultiprocessor = l.shared;
    p.numSms = 1;
    p.reservedSharedMemPerBlock = 1 << 10;
    p.sharedMemPerBlockOptin = l.shared - p.reservedSharedMemPerBlock;
    return p;
}

int main()
{
    int arch, registers, fixed, dynamic, threads;
    while (std::scanf("%d %d %d %d %d", &arch, &registers, &fixed, &dynamic, &threads) == 5) {
        const limits *l = nullptr;
        for (const limits &each : known)
            if (each.arch == arch) l = &each;
        if (!l) {
            std::fprintf(stderr, "occupancy: no limits of sm_%d are known\n", arch);
            return 1;
        }
        cudaOccDeviceProp device = device_of(*l);
        cudaOccFuncAttributes kernel;
        kernel.maxThreadsPerBlock = threads;
        kernel.numRegs = registers;
        kernel.sharedSizeBytes = (size_t)fixed;
        kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_DEFAULT;
        kernel.maxDynamicSharedSizeBytes = 0;
        kernel.numBlockBarriers = 1;
        kernel.virtualResourceCount = 0;
        cudaOccDeviceState state; /* the driver's choice of cache and shared memory */
        cudaOccResult result;
        cudaOccError error = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads,
                                                                     (size_t)dynamic);
        if (error != CUDA_OCC_SUCCESS) {
            std::fprintf(stderr, "occupancy: error %d for sm_%d, %d registers, %d threads\n", (int)error, arch,
                         registers, threads);
            return 1;
        }
        std::printf("%d\n", 100 * result.activeBlocksPerMultiprocessor * threads / l->threads);
    }
    return 0;
}
