// Vectors of neighbouring channels of a channels_last map, for one instruction set: loads and stores in every dtype,
// and loops that are unrolled.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstring>
#include <utility>

#if PUMLC_VECTOR_BYTES >= 32
#include <immintrin.h>
#endif

#include "vector.h"

namespace pumlc::cpu::PUMLC_ISA {

#define PUMLC_LAMBDA_INLINE __attribute__((always_inline))

// f(0), ..., f(N - 1), each with its number as a constant.
template <typename F, int... I>
PUMLC_INLINE void unroll(const F& f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>()), ...);
}
template <int N, typename F>
PUMLC_INLINE void unroll(const F& f) {
  PUMLC_ISA::unroll(f, std::make_integer_sequence<int, N>());
}

// A vector of neighbouring channels.
template <typename A, typename S>
PUMLC_INLINE void load(const S* from, Vector<A>& to) {
  if constexpr (std::is_same_v<S, A>) {
    std::memcpy(&to, from, sizeof(to));
  } else if constexpr (std::is_same_v<S, c10::BFloat16>) {
    typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
    typedef uint32_t Wide __attribute__((vector_size(kVectorBytes)));
    Narrow narrow;
    std::memcpy(&narrow, from, sizeof(narrow));
    const Wide wide = __builtin_convertvector(narrow, Wide) << 16;
    std::memcpy(&to, &wide, sizeof(to));
  } else {
#if PUMLC_VECTOR_BYTES == 64
    to = _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif PUMLC_VECTOR_BYTES == 32
    to = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
    for (int j = 0; j < kLanes<A>; ++j) to[j] = static_cast<A>(from[j]);
#endif
  }
}

template <typename A, typename S>
PUMLC_INLINE void store(const Vector<A>& from, S* to) {
  if constexpr (std::is_same_v<S, A>) {
    std::memcpy(to, &from, sizeof(from));
  } else {
    A lanes[kLanes<A>];
    std::memcpy(lanes, &from, sizeof(lanes));
#pragma GCC unroll 1  // unrolled it would be scalar code before it is made a vector's
    for (int j = 0; j < kLanes<A>; ++j) to[j] = static_cast<S>(lanes[j]);
  }
}

// The first `count` channels of a vector alone; 0 in the lanes behind them.
template <typename A, typename S>
PUMLC_INLINE void load_some(const S* from, int64_t count, Vector<A>& to) {
  if (count == kLanes<A>) return load<A>(from, to);
  A lanes[kLanes<A>] = {};
#pragma GCC unroll 1
  for (int64_t j = 0; j < count; ++j) lanes[j] = static_cast<A>(from[j]);
  std::memcpy(&to, lanes, sizeof(to));
}

template <typename A, typename S>
__attribute__((noinline)) void store_some(const Vector<A>& from, int64_t count, S* to) {
  if (count == kLanes<A>) return store<A>(from, to);
  A lanes[kLanes<A>];
  std::memcpy(lanes, &from, sizeof(lanes));
#pragma GCC unroll 1
  for (int64_t j = 0; j < count; ++j) to[j] = static_cast<S>(lanes[j]);
}

}  // namespace pumlc::cpu::PUMLC_ISA
