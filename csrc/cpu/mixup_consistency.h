// CPU kernel of the mixup regulariser: what an instruction-set variant offers.
//
// The unit of work is a pair with all its classes. A row of the gradient belongs to one pair, and each pair has a sum
// of its own: the result does not depend on how threads share them.
#pragma once

#include "../mixup_consistency.h"

namespace pumlc::cpu {

template <typename S, typename A>
struct MixupConsistencyKernels {
  // The pairs first to last - 1; pair_losses [pairs]: their sums of squares.
  void (*run)(const MixupConsistencyArguments<S, A>&, int64_t first, int64_t last, double* pair_losses);
};

}  // namespace pumlc::cpu
