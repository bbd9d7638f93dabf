// CPU kernels of the large loss: what an instruction-set variant offers.
//
// The unit of work is a chunk of up to kLargeLossChunk entries of a row. Each has a sum of its own, and histograms are
// of integers: the result does not depend on how threads share them.
#pragma once

#include "../large_loss.h"

namespace pumlc::cpu {

// A multiple of the entries that the kernels take at a time; few enough that many threads have work.
constexpr int64_t kLargeLossChunk = 1024;

template <typename S, typename A>
struct LargeLossKernels {
  // Adds the digits at `shift` of the selected keys in the chunks first to last - 1 to bins [math::kDigits].
  void (*histogram)(const LargeLossArguments<S, A>&, const math::Selection<S>&, int shift, int64_t first, int64_t last,
                    int64_t* bins);
  // Finishes those chunks; chunk_losses [chunks]: their sums.
  void (*finish)(const LargeLossArguments<S, A>&, S threshold, int64_t first, int64_t last, double* chunk_losses);
};

}  // namespace pumlc::cpu
