// Kernels with one fault each, and the same without it: what the emulator must catch and what it must let pass.
#include <cuda_runtime.h>

namespace pumlc::cuda {
namespace {

constexpr unsigned kFull = 0xffffffffu;
constexpr int kThreads = 64;

__global__ void race_kernel(float* out, bool faulty) {
  __shared__ float values[kThreads];
  values[threadIdx.x] = 0.0f;
  __syncthreads();
  values[threadIdx.x] = 1.0f;
  if (!faulty) __syncthreads();
  out[threadIdx.x] = values[(threadIdx.x + 1) % kThreads];
}

// Written before the others have read: the barrier is there, but only one of the two that are needed.
__global__ void write_after_read_kernel(float* out, bool faulty) {
  __shared__ float value;
  if (threadIdx.x == 0) value = 1.0f;
  __syncthreads();
  const float seen = value;
  if (!faulty) __syncthreads();
  if (threadIdx.x == 0) value = 2.0f;
  out[threadIdx.x] = seen;
}

__global__ void warp_race_kernel(float* out, bool faulty) {
  __shared__ float values[kThreads];
  values[threadIdx.x] = 0.0f;
  __syncthreads();
  values[threadIdx.x] = 1.0f;
  if (!faulty) __syncwarp();
  const float neighbour = values[threadIdx.x ^ 1u];
  if (!faulty) __syncwarp();
  values[threadIdx.x] = 2.0f;
  out[threadIdx.x] = neighbour;
}

__global__ void global_race_kernel(float* out, bool faulty) {
  out[threadIdx.x] = 1.0f;
  if (!faulty) __syncthreads();
  if (threadIdx.x == 0) out[1] = 2.0f;
}

__global__ void blocks_race_kernel(float* out, bool faulty) {
  out[faulty ? threadIdx.x : blockIdx.x * kThreads + threadIdx.x] = 1.0f;
}

__global__ void global_bounds_kernel(float* out, bool faulty) { out[threadIdx.x + (faulty ? 2 * kThreads : 0)] = 1.0f; }

__global__ void misaligned_kernel(float* out, bool faulty) {
  char* const bytes = reinterpret_cast<char*>(out + threadIdx.x);
  if (threadIdx.x + 1 < kThreads) *reinterpret_cast<volatile float*>(bytes + (faulty ? 2 : 0)) = 1.0f;
}

__global__ void dynamic_bounds_kernel(float* out, bool faulty) {
  float* const values = reinterpret_cast<float*>(dynamic_shared_memory());
  values[threadIdx.x + (faulty ? 1 : 0)] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = 1.0f;
}

__global__ void static_bounds_kernel(float* out, bool faulty) {
  __shared__ float values[kThreads];
  float* volatile where = values;
  where[threadIdx.x + (faulty ? 1 : 0)] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = 1.0f;
}

__global__ void uninitialised_kernel(float* out, bool faulty) {
  __shared__ float values[kThreads];
  if (!faulty || threadIdx.x != 3) values[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

// Shared memory of the block before this one is not this block's.
__global__ void other_block_kernel(float* out, bool faulty) {
  __shared__ float values[kThreads];
  if (!faulty || blockIdx.x == 0) values[threadIdx.x] = 1.0f;
  __syncthreads();
  out[blockIdx.x * kThreads + threadIdx.x] = values[threadIdx.x];
}

__global__ void barrier_kernel(float* out, bool faulty) {
  if (!faulty || threadIdx.x < 40) __syncthreads();
  out[threadIdx.x] = 1.0f;
  __syncthreads();
}

__global__ void lane_kernel(float* out, bool faulty) {
  float value = 1.0f;
  if (!faulty || threadIdx.x % 32 != 7) value += __shfl_xor_sync(kFull, value, 1);
  out[threadIdx.x] = value;
}

__global__ void source_kernel(float* out, bool faulty) {
  const unsigned mask = 0xffffu;
  float value = 1.0f;
  if (threadIdx.x < 16) value += __shfl_sync(mask, value, faulty ? 20 : 3);
  out[threadIdx.x] = value;
}

__global__ void atomic_kernel(float* out, bool) {
  atomicAdd(out, 1.0f);
  __syncthreads();
}

// Sums, votes and shuffles, to hold against what a GPU gives.
__global__ void collectives_kernel(float* out, bool) {
  const int lane = threadIdx.x % 32;
  float sum = static_cast<float>(lane);
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(kFull, sum, offset);
  const float above = __shfl_down_sync(kFull, static_cast<float>(lane), 1);
  const float below = __shfl_up_sync(kFull, static_cast<float>(lane), 1, 8);
  const unsigned odd = __ballot_sync(kFull, lane % 2);
  const bool votes = __any_sync(kFull, lane == 5) && !__all_sync(kFull, lane == 5);
  out[threadIdx.x] = sum + 1000.0f * above + 100000.0f * below + (odd == 0xaaaaaaaau && votes ? 0.5f : 0.0f);
}

struct Planted {
  const char* name;
  void (*kernel)(float*, bool);
  unsigned blocks;
};
#define PUMLC_NAMED(name, blocks) {#name, name##_kernel, blocks}
const Planted kPlanted[] = {
    PUMLC_NAMED(race, 1),          PUMLC_NAMED(write_after_read, 1), PUMLC_NAMED(warp_race, 1),
    PUMLC_NAMED(global_race, 1),   PUMLC_NAMED(blocks_race, 2),      PUMLC_NAMED(global_bounds, 1),
    PUMLC_NAMED(misaligned, 1),    PUMLC_NAMED(dynamic_bounds, 1),   PUMLC_NAMED(static_bounds, 1),
    PUMLC_NAMED(uninitialised, 1), PUMLC_NAMED(other_block, 2),      PUMLC_NAMED(barrier, 1),
    PUMLC_NAMED(lane, 1),          PUMLC_NAMED(source, 1),           PUMLC_NAMED(atomic, 1),
    PUMLC_NAMED(collectives, 1)};

}  // namespace
}  // namespace pumlc::cuda

// The kernel of that name with blocks of 64 threads; out [128]. Returns what went wrong, or an empty string.
extern "C" __attribute__((visibility("default"))) const char* pumlc_emulator_run_planted(const char* name, float* out,
                                                                                         int faulty) {
  using namespace pumlc::cuda;
  for (const Planted& planted : kPlanted) {
    if (std::strcmp(planted.name, name) != 0) continue;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(planted.blocks);
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = kThreads * sizeof(float);
    const cudaError_t error = cudaLaunchKernelEx(&config, planted.kernel, out, faulty != 0);
    return error == cudaSuccess ? "" : cudaGetErrorString(error);
  }
  return "there is no such kernel";
}
