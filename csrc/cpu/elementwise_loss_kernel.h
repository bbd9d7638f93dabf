// The CPU kernels of the elementwise losses (math/elementwise_loss.h), for one instruction set: isa/*.cpp include this
// file with PUMLC_ISA naming a namespace and the compiler's target set.
//
// A chunk is read kLossBlock elements at a time. Loops run over those, so that the compiler makes vector code of them.
#include <algorithm>

#include "../math/elementwise_loss.h"
#include "elementwise_loss.h"

namespace pumlc::cpu::PUMLC_ISA {

// Elements at a time: what is kept of them stays in the L1 cache, and their sum, in the accumulation type, is short.
constexpr int kLossBlock = 128;
constexpr int kLossSumLanes = 16;  // sums that a vector adds to at once, the same in every instruction set
static_assert(kLossBlock % kLossSumLanes == 0, "the lanes divide a block");
static_assert(kLossChunk % kLossBlock == 0, "the blocks divide a chunk");

// `width` numbers, and zeros up to kLossBlock.
template <typename A, typename T>
PUMLC_HOST_DEVICE void read_block(const T* __restrict__ from, int64_t width, A* __restrict__ to) {
  if (width == kLossBlock) {
    for (int j = 0; j < kLossBlock; ++j) to[j] = static_cast<A>(from[j]);
  } else {
    for (int64_t j = 0; j < width; ++j) to[j] = static_cast<A>(from[j]);
    std::fill(to + width, to + kLossBlock, A(0));
  }
}

// The sum of the terms of up to kLossBlock elements of one row; writes their gradient where that is not null.
template <typename S, typename A, typename Loss>
double run_loss_block(const S* logits, const int8_t* labels, int64_t width, const Loss loss, A scale, S* gradient) {
  A z[kLossBlock];
  A y[kLossBlock];
  A values[kLossBlock];
  A slopes[kLossBlock];
  read_block(logits, width, z);
  read_block(labels, width, y);
  for (int j = 0; j < kLossBlock; ++j) {
    const auto term = loss(z[j], y[j]);
    values[j] = term.value;
    slopes[j] = scale * term.slope;
  }
  if (gradient != nullptr)
    for (int64_t j = 0; j < width; ++j) gradient[j] = static_cast<S>(slopes[j]);
  std::fill(values + width, values + kLossBlock, A(0));
  A sums[kLossSumLanes] = {};
  for (int j = 0; j < kLossBlock; j += kLossSumLanes)
    for (int k = 0; k < kLossSumLanes; ++k) sums[k] += values[j + k];
  A sum = A(0);
  for (const A lane : sums) sum += lane;
  return sum;
}

template <typename S, typename A, typename Loss>
void elementwise_loss(const ElementwiseLossArguments<S, A>& a, const Loss& loss, int64_t first, int64_t last,
                      double* sums) {
  const int64_t chunks = chunks_of_row(a);
  for (int64_t chunk = first; chunk < last; ++chunk) {
    const int64_t row = chunk / chunks;
    const int64_t begin = chunk % chunks * kLossChunk;
    const int64_t end = std::min(begin + kLossChunk, a.columns);
    double sum = 0.0;
    for (int64_t c = begin; c < end; c += kLossBlock)
      sum += run_loss_block(a.logits + row * a.logits_stride + c, a.labels + row * a.labels_stride + c,
                            std::min<int64_t>(kLossBlock, end - c), loss, a.scale,
                            a.gradient == nullptr ? nullptr : a.gradient + row * a.columns + c);
    sums[chunk] = sum;
  }
}

template <typename S, typename A>
constexpr ElementwiseLossKernels<S, A> elementwise_loss_kernels() {
  return {elementwise_loss<S, A, math::CrossEntropy<A>>, elementwise_loss<S, A, math::Focal<A>>,
          elementwise_loss<S, A, math::Asymmetric<A>>,   elementwise_loss<S, A, math::Hill<A>>,
          elementwise_loss<S, A, math::Entropy<A>>,      elementwise_loss<S, A, math::Robust<A>>};
}

}  // namespace pumlc::cpu::PUMLC_ISA
