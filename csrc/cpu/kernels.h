// The table of CPU kernels. Each instruction set fills one; the widest that the processor has is used.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <type_traits>

#include "attention_pool.h"
#include "depthwise.h"
#include "elementwise_loss.h"
#include "gated_broadcast_add.h"
#include "large_loss.h"
#include "mixup_consistency.h"
#include "pu_loss.h"
#include "semantic_attention.h"

namespace pumlc::cpu {

// The kernels of one dtype: S stores, A accumulates.
template <typename S, typename A>
struct KernelsOf {
  PuLossKernels<S, A> pu_loss;
  AttentionPoolKernels<S, A> attention_pool;
  GatedBroadcastAddKernels<S, A> gated_broadcast_add;
  DepthwiseKernels<S, A> depthwise;
  MixupConsistencyKernels<S, A> mixup_consistency;
  ElementwiseLossKernels<S, A> elementwise_loss;
  LargeLossKernels<S, A> large_loss;
  SemanticAttentionKernels<S, A> semantic_attention;
};

struct Kernels {
  const char* instruction_set;
  KernelsOf<double, double> of_double;
  KernelsOf<float, float> of_float;
  KernelsOf<c10::BFloat16, float> of_bfloat16;
  KernelsOf<c10::Half, float> of_half;

  template <typename S>
  const auto& of() const {
    if constexpr (std::is_same_v<S, double>)
      return of_double;
    else if constexpr (std::is_same_v<S, float>)
      return of_float;
    else if constexpr (std::is_same_v<S, c10::BFloat16>)
      return of_bfloat16;
    else
      return of_half;
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
