// Launching kernels: sizes, limits of the device, and the error of the launch itself.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace pumlc::cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

#if defined(__CUDACC__)
// The dynamic shared memory of the block. (Where other compilers run the kernels, they bring theirs.)
__device__ __forceinline__ unsigned char* dynamic_shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
}
#endif

// What launches are planned with.
struct Device {
  int multiprocessors;
  int64_t shared_memory;  // bytes that one block can have

  static cudaError_t current(Device* device) {
    int ordinal = 0;
    int shared = 0;
    cudaError_t error = cudaGetDevice(&ordinal);
    if (error == cudaSuccess)
      error = cudaDeviceGetAttribute(&device->multiprocessors, cudaDevAttrMultiProcessorCount, ordinal);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal);
    device->shared_memory = shared;
    return error;
  }
};

// Launches a kernel with dynamic shared memory, more than the default 48 KB included.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, int64_t shared_memory, cudaStream_t stream,
                   const Arguments&... arguments) {
  constexpr int64_t kDefaultLimit = 48 * 1024;
  if (shared_memory > kDefaultLimit) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_memory));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = static_cast<size_t>(shared_memory);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace pumlc::cuda
