// A register of one instruction set as a type, for kernels whose sums must stay in registers, which plain loops do not
// achieve. isa/*.cpp name PUMLC_ISA and the size of a register, PUMLC_VECTOR_BYTES.
#pragma once

#include <cstdint>
#include <type_traits>

#define PUMLC_INLINE inline __attribute__((always_inline))

namespace pumlc::cpu::PUMLC_ISA {

constexpr int kVectorBytes = PUMLC_VECTOR_BYTES;

template <typename A>
struct VectorTypes {
  using Index = std::conditional_t<sizeof(A) == 8, int64_t, int32_t>;
  typedef A Vector __attribute__((vector_size(kVectorBytes)));
  typedef Index Indices __attribute__((vector_size(kVectorBytes)));
};
template <typename A>
using Vector = typename VectorTypes<A>::Vector;
template <typename A>
constexpr int kLanes = kVectorBytes / sizeof(A);

}  // namespace pumlc::cpu::PUMLC_ISA
