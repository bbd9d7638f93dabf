// Launcher of the large-loss kernels.
#pragma once

#include <cuda_runtime.h>

#include "../large_loss.h"

namespace pumlc::cuda {

// Memory that the blocks of several launches leave each other; nothing of it is needed for one block.
template <typename S, typename A>
struct LargeLossWorkspace {
  static constexpr int kCounters = math::kDigitPasses<S> * (math::kDigits + 1) + 1;
  static constexpr int kSelections = math::kDigitPasses<S>;

  unsigned* counters;  // [kCounters], zero: the bins [passes, digits], a ticket for each pass and the last one
  math::Selection<S>* selections;  // [kSelections]: what is known after each pass
  A* partial;                      // [blocks]

  __host__ __device__ unsigned* bins(int pass) const { return counters + pass * math::kDigits; }
  __host__ __device__ unsigned* ticket(int pass) const { return bins(math::kDigitPasses<S>) + pass; }
};

// Blocks that large_loss is launched with.
cudaError_t large_loss_blocks(int64_t elements, int64_t* blocks);

template <typename S, typename A>
cudaError_t large_loss(const LargeLossArguments<S, A>& arguments, int64_t blocks,
                       const LargeLossWorkspace<S, A>& workspace, cudaStream_t stream);

}  // namespace pumlc::cuda
