// Sums in a fixed order: the same input gives the same bits.
#pragma once

#include "launch.cuh"

namespace pumlc::cuda {

// Adds over the lanes of a warp that share lane % kGroup; every lane gets the sum of its group.
template <int kGroup, typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset >= kGroup; offset /= 2) value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}

// Adds over a block of at most 32 warps; thread 0 gets the sum. partial: shared, one element per warp.
template <typename T>
__device__ T block_sum(T value, T* partial) {
  value = warp_sum<1>(value);
  __syncthreads();  // partial may still be read from its last use
  if (threadIdx.x % kWarpSize == 0) partial[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  T sum = T(0);
  if (threadIdx.x == 0)
    for (int warp = 0; warp < static_cast<int>(blockDim.x) / kWarpSize; ++warp) sum += partial[warp];
  return sum;
}

// True in every thread of the block that calls this last of `blocks` blocks, once what the others wrote
// before their call can be read. ticket: one counter in global memory, zero before the launch.
__device__ __forceinline__ bool is_last_block(unsigned* ticket, unsigned blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(ticket, 1u) == blocks - 1;
  __syncthreads();
  if (last) __threadfence();
  return last;
}

}  // namespace pumlc::cuda
