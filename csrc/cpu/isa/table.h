// Fills the kernel table of one instruction set: included by baseline.cpp, avx2.cpp and avx512.cpp after they
// have set the compiler's target and named PUMLC_ISA, and PUMLC_VECTOR_BYTES, the size of a register (g++ 12 does not
// define __AVX2__ and the like for a target that a pragma sets). Only headers whose functions are inlined or live in
// namespace PUMLC_ISA belong here: an inline function that two targets share could be linked from the wrong one.
#include "../attention_pool_kernel.h"
#include "../depthwise_kernel.h"
#include "../elementwise_loss_kernel.h"
#include "../gated_broadcast_add_kernel.h"
#include "../kernels.h"
#include "../large_loss_kernel.h"
#include "../mixup_consistency_kernel.h"
#include "../pu_loss_kernel.h"
#include "../semantic_attention_kernel.h"

#define PUMLC_STRING_(x) #x
#define PUMLC_STRING(x) PUMLC_STRING_(x)

namespace pumlc::cpu::PUMLC_ISA {

template <typename S, typename A>
constexpr KernelsOf<S, A> kernels_of() {
  return {pu_loss_kernels<S, A>(),    attention_pool_kernels<S, A>(),    gated_broadcast_add_kernels<S, A>(),
          depthwise_kernels<S, A>(),  mixup_consistency_kernels<S, A>(), elementwise_loss_kernels<S, A>(),
          large_loss_kernels<S, A>(), semantic_attention_kernels<S, A>()};
}

const Kernels kKernels = {
    PUMLC_STRING(PUMLC_ISA),        kernels_of<double, double>(),
    kernels_of<float, float>(),     kernels_of<c10::BFloat16, float>(),
    kernels_of<c10::Half, float>(),
};

}  // namespace pumlc::cpu::PUMLC_ISA
