/* A run's numbers to the device, where recorded kernels find those of the run that replays them. */
#include "cuda/gpu.h"

__global__ void ED_THREADS(1) set_run(ed_cuda_run *to, ed_cuda_run values) { *to = values; }

extern "C" encdiff_status ed_cuda_set_run(ed_backend *self, ed_env *env, const ed_run *run)
{
    ed_cuda_run values = {run->seed, run->step, run->first_image};
    return ED_LAUNCH_ON(self, env, set_run, 1, 1, 0, const_cast<ed_cuda_run *>(ed_cuda_device_run(self)), values);
}
