// The table of CPU kernels. Each instruction set fills one; the widest that the processor has is used.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "pu_loss.h"

namespace pumlc::cpu {

struct Kernels {
  const char* instruction_set;
  PuLossKernels<double, double> pu_loss_double;
  PuLossKernels<float, float> pu_loss_float;
  PuLossKernels<c10::BFloat16, float> pu_loss_bfloat16;
  PuLossKernels<c10::Half, float> pu_loss_half;

  template <typename S>
  const auto& pu_loss() const {
    if constexpr (std::is_same_v<S, double>)
      return pu_loss_double;
    else if constexpr (std::is_same_v<S, float>)
      return pu_loss_float;
    else if constexpr (std::is_same_v<S, c10::BFloat16>)
      return pu_loss_bfloat16;
    else
      return pu_loss_half;
  }
};

namespace baseline {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}

// The table for this processor; PUMLC_CPU_ISA=baseline|avx2|avx512 asks for a narrower one.
const Kernels& kernels();

}  // namespace pumlc::cpu
