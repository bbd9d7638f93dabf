// The CPU kernel of the mixup regulariser (math/mixup_consistency.h), for one instruction set: isa/*.cpp include this
// file with PUMLC_ISA naming a namespace and the compiler's target set.
//
// A pair is read kClassBlock classes at a time. Loops run over those, so that the compiler makes vector code of them.
#include <algorithm>
#include <limits>

#include "../math/mixup_consistency.h"
#include "mixup_consistency.h"

namespace pumlc::cpu::PUMLC_ISA {

// Classes at a time: what is kept of them stays in the L1 cache, and their sum, in the accumulation type, is short.
constexpr int kClassBlock = 64;
constexpr int kSumLanes = 16;  // sums that a vector adds to at once, the same in every instruction set
static_assert(kClassBlock % kSumLanes == 0, "the lanes divide a block");

template <typename S, typename A>
class MixupPairs {
 public:
  explicit MixupPairs(const MixupConsistencyArguments<S, A>& arguments)
      : a_(arguments), mix_(*arguments.mix), scale_(A(2) / static_cast<A>(arguments.pairs())) {}

  // Sum of squares of a pair, or NaN where its entry of the permutation is no row; writes its rows of the gradients.
  double run(int64_t pair) const {
    const int64_t first_row = a_.permutation[pair];
    if (first_row < 0 || first_row >= a_.pairs()) return std::numeric_limits<double>::quiet_NaN();
    double sum = 0.0;
    for (int64_t c = 0; c < a_.columns; c += kClassBlock) sum += run(pair, first_row, c);
    return sum;
  }

 private:
  // What a pair says of kClassBlock classes.
  struct Block {
    A first[kClassBlock];   // dL/dz of its first row
    A second[kClassBlock];  // dL/dz of its second row
    A mixed[kClassBlock];   // dL/dz~
    A sum;
  };

  double run(int64_t pair, int64_t first_row, int64_t c) const {
    const int64_t width = std::min<int64_t>(kClassBlock, a_.columns - c);
    Block block;
    take(pair, first_row, c, width, block);
    if (a_.mixed_gradient != nullptr) write(a_.mixed_gradient, pair, c, width, block.mixed);
    if (a_.gradient == nullptr) return block.sum;
    const int64_t second_row = a_.second_row(pair);
    const bool is_odd = a_.rows % 2 != 0;
    if (is_odd && first_row == a_.second_row(0)) {  // the middle row is also the second one of pair 0
      Block other;
      if (pair == 0)
        std::copy_n(block.second, kClassBlock, other.second);
      else
        take(0, a_.permutation[0], c, width, other);
      for (int j = 0; j < kClassBlock; ++j) block.first[j] += other.second[j];
    }
    write(a_.gradient, first_row, c, width, block.first);
    if (!is_odd || pair != 0) write(a_.gradient, second_row, c, width, block.second);
    return block.sum;
  }

  void take(int64_t pair, int64_t first_row, int64_t c, int64_t width, Block& block) const {
    const int64_t second_row = a_.second_row(pair);
    A logits[2][kClassBlock];
    A mixed[kClassBlock];
    A positive[2][kClassBlock];
    read(a_.logits + first_row * a_.logits_stride + c, width, logits[0]);
    read(a_.logits + second_row * a_.logits_stride + c, width, logits[1]);
    read(a_.mixed + pair * a_.mixed_stride + c, width, mixed);
    read(a_.labels + first_row * a_.labels_stride + c, width, positive[0]);
    read(a_.labels + second_row * a_.labels_stride + c, width, positive[1]);
    const A mix = mix_, scale = scale_, epsilon = a_.epsilon;  // which the compiler would read again after every store
    A squares[kClassBlock];
    for (int j = 0; j < kClassBlock; ++j) {
      const auto first = math::mixup_target(logits[0][j], positive[0][j] > A(0), epsilon);
      const auto second = math::mixup_target(logits[1][j], positive[1][j] > A(0), epsilon);
      const auto term = math::mixup_term(first, second, mixed[j], mix, epsilon);
      squares[j] = term.difference * term.difference;
      block.first[j] = scale * mix * term.target * first.slope;
      block.second[j] = scale * (A(1) - mix) * term.target * second.slope;
      block.mixed[j] = scale * term.mixed;
    }
    std::fill(squares + width, squares + kClassBlock, A(0));
    A sums[kSumLanes] = {};
    for (int j = 0; j < kClassBlock; j += kSumLanes)
      for (int k = 0; k < kSumLanes; ++k) sums[k] += squares[j + k];
    block.sum = A(0);
    for (const A sum : sums) block.sum += sum;
  }

  // `width` numbers, and zeros up to kClassBlock.
  template <typename T>
  static void read(const T* __restrict__ from, int64_t width, A* __restrict__ to) {
    if (width == kClassBlock) {
      for (int j = 0; j < kClassBlock; ++j) to[j] = static_cast<A>(from[j]);
    } else {
      for (int64_t j = 0; j < width; ++j) to[j] = static_cast<A>(from[j]);
      std::fill(to + width, to + kClassBlock, A(0));
    }
  }

  void write(S* to, int64_t row, int64_t c, int64_t width, const A* __restrict__ from) const {
    S* __restrict__ at = to + row * a_.columns + c;
    for (int64_t j = 0; j < width; ++j) at[j] = static_cast<S>(from[j]);
  }

  const MixupConsistencyArguments<S, A>& a_;
  const A mix_;
  const A scale_;
};

template <typename S, typename A>
void mixup_consistency(const MixupConsistencyArguments<S, A>& arguments, int64_t first, int64_t last,
                       double* pair_losses) {
  const MixupPairs<S, A> pairs(arguments);
  for (int64_t pair = first; pair < last; ++pair) pair_losses[pair] = pairs.run(pair);
}

template <typename S, typename A>
constexpr MixupConsistencyKernels<S, A> mixup_consistency_kernels() {
  return {mixup_consistency<S, A>};
}

}  // namespace pumlc::cpu::PUMLC_ISA
