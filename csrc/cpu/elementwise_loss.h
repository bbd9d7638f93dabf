// CPU kernels of the elementwise losses: what an instruction-set variant offers.
//
// The unit of work is a chunk of a row, with a sum of its own: the result does not depend on how threads share them.
#pragma once

#include "../elementwise_loss.h"

namespace pumlc::cpu {

constexpr int64_t kLossChunk = 1 << 12;  // elements: 16 KB of floats

template <typename S, typename A>
PUMLC_HOST_DEVICE int64_t chunks_of_row(const ElementwiseLossArguments<S, A>& a) {
  return (a.columns + kLossChunk - 1) / kLossChunk;
}

template <typename S, typename A>
struct ElementwiseLossKernels {
  // The chunks first to last - 1, counted row by row; sums [rows * chunks_of_row]: of the terms of each.
  template <typename Loss>
  using Kernel = void (*)(const ElementwiseLossArguments<S, A>&, const Loss&, int64_t first, int64_t last,
                          double* sums);

  Kernel<math::CrossEntropy<A>> cross_entropy;
  Kernel<math::Focal<A>> focal;
  Kernel<math::Asymmetric<A>> asymmetric;
  Kernel<math::Hill<A>> hill;
  Kernel<math::Entropy<A>> entropy;
  Kernel<math::Robust<A>> robust;

  auto of(const math::CrossEntropy<A>&) const { return cross_entropy; }
  auto of(const math::Focal<A>&) const { return focal; }
  auto of(const math::Asymmetric<A>&) const { return asymmetric; }
  auto of(const math::Hill<A>&) const { return hill; }
  auto of(const math::Entropy<A>&) const { return entropy; }
  auto of(const math::Robust<A>&) const { return robust; }
};

}  // namespace pumlc::cpu
