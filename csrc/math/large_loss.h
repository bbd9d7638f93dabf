// Large losses on unobserved labels, rejected or corrected (Large Loss Matters, arXiv 2206.03740).
//
// With t = 1 at observed positives and 0 elsewhere, per entry of [B, C]:
//   l(z, t) = -log sigma(z) where t = 1, else -log(1 - sigma(z))      dl/dz = sigma(z) - t
//   R       = the k-th largest l over the unobserved entries
//   L       = mean of l, but of 0 ("reject") or l(z, 1) ("correct") at unobserved entries with l >= R
//
// At unobserved entries l = log(1 + e^z) grows strictly with z, so that R is found, and compared, on the logits
// themselves, where no rounding makes unequal losses equal: l >= R is z >= the k-th largest logit.
//
// That logit is found digit by digit. The bits of a number, made to an unsigned key of the same order, are cut into
// digits of kDigitBits; a histogram of the first digit says which digit the k-th largest key has, a histogram of the
// second digit over the keys that begin so says the next, and so on. Key 0 stands for entries that cannot be chosen.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "elementary.h"

namespace pumlc::math {

// The bits of a number format, and those of infinity in it.
template <typename S>
struct NumberBits;
template <>
struct NumberBits<double> {
  using Bits = uint64_t;
  static constexpr Bits kInfinity = 0x7ff0000000000000u;
};
template <>
struct NumberBits<float> {
  using Bits = uint32_t;
  static constexpr Bits kInfinity = 0x7f800000u;
};
template <>
struct NumberBits<c10::BFloat16> {
  using Bits = uint16_t;
  static constexpr Bits kInfinity = 0x7f80u;
};
template <>
struct NumberBits<c10::Half> {
  using Bits = uint16_t;
  static constexpr Bits kInfinity = 0x7c00u;
};
template <typename S>
using Bits = typename NumberBits<S>::Bits;

constexpr int kDigitBits = 11;  // three digits of a float; a histogram of 2,048 bins fits in a cache and in a block
constexpr int kDigits = 1 << kDigitBits;

template <typename S>
constexpr int kKeyBits = 8 * static_cast<int>(sizeof(S));
template <typename S>
constexpr int kDigitPasses = (kKeyBits<S> + kDigitBits - 1) / kDigitBits;
template <typename S>
constexpr Bits<S> kSignBit = static_cast<Bits<S>>(Bits<S>(1) << (kKeyBits<S> - 1));
// The key of -infinity, which is that of no number below it.
template <typename S>
constexpr Bits<S> kLeastKey = static_cast<Bits<S>>(~(NumberBits<S>::kInfinity | kSignBit<S>));

// Keys are ordered as the numbers are, 0 and -0 alike; 0 for NaN.
template <typename S>
PUMLC_HOST_DEVICE Bits<S> ordered_key(Bits<S> bits) {
  const auto magnitude = static_cast<Bits<S>>(bits & static_cast<Bits<S>>(~kSignBit<S>));
  const bool is_negative = bits > kSignBit<S>;  // which -0 is not
  const auto key = static_cast<Bits<S>>(is_negative ? kSignBit<S> - magnitude - 1 : kSignBit<S> + magnitude);
  return magnitude > NumberBits<S>::kInfinity ? Bits<S>(0) : key;
}

template <typename S>
PUMLC_HOST_DEVICE Bits<S> bits_of_number(S number) {
  Bits<S> bits;
  std::memcpy(&bits, &number, sizeof(bits));
  return bits;
}

// The key by which an entry is chosen; 0 where it is observed, or NaN.
template <typename S>
PUMLC_HOST_DEVICE Bits<S> selection_key(S logit, int8_t label) {
  const Bits<S> key = ordered_key<S>(bits_of_number(logit));
  return label == 0 ? key : Bits<S>(0);
}

// The digit of a pass; the last one overlaps the one before, where the bits do not divide evenly.
template <typename S>
PUMLC_HOST_DEVICE int digit_shift(int pass) {
  const int shift = kKeyBits<S> - (pass + 1) * kDigitBits;
  return shift > 0 ? shift : 0;
}
template <typename S>
PUMLC_HOST_DEVICE int digit_of(Bits<S> key, int shift) {
  return static_cast<int>((key >> shift) & (kDigits - 1));
}

// What is known of the k-th largest key. Fields of one size: a copy reads nothing that was not written.
template <typename S>
struct Selection {
  uint64_t prefix;    // its first bits, the others 0
  uint64_t mask;      // which those are
  int64_t rank;       // its place among the keys that begin so, from 1
  uint64_t is_found;  // 1 where the keys from prefix on are the k largest and their equals, else 0

  PUMLC_HOST_DEVICE bool has(Bits<S> key) const {
    return (key & static_cast<Bits<S>>(mask)) == static_cast<Bits<S>>(prefix) && key != 0;
  }

  // The key has this digit, which `count` of the keys that begin so have; `above` have larger ones.
  PUMLC_HOST_DEVICE void refine(int digit, int shift, int64_t above, int64_t count) {
    prefix |= static_cast<uint64_t>(digit) << shift;
    mask |= static_cast<uint64_t>(kDigits - 1) << shift;
    rank -= above;
    is_found = shift == 0 || rank == count;
  }

  // There are fewer keys than were asked for.
  PUMLC_HOST_DEVICE void take_all() { is_found = 1; }

  // The number from which on unobserved logits are chosen, once it is found.
  PUMLC_HOST_DEVICE S threshold() const {
    const auto key = prefix < kLeastKey<S> ? kLeastKey<S> : static_cast<Bits<S>>(prefix);
    const auto bits = static_cast<Bits<S>>(key >= kSignBit<S> ? key - kSignBit<S> : ~key);
    S number;
    std::memcpy(&number, &bits, sizeof(number));
    return number;
  }
};

template <typename S>
PUMLC_HOST_DEVICE Selection<S> select_largest(int64_t k) {
  return {0, 0, k, 0};
}

// The threshold of k = 0: no comparison with it is true.
template <typename T>
PUMLC_HOST_DEVICE T no_threshold() {
  return static_cast<T>(NAN);
}

// One entry: its part of the loss, before the mean, with the derivative by its logit.
template <typename T>
struct LargeLossTerm {
  T loss;
  T gradient;
  T large;  // 1 where it is rejected or corrected, else 0: numbers of one size, of which a compiler makes vector code
};

// kCorrects: large losses are corrected, else rejected.
template <bool kCorrects, typename T>
PUMLC_HOST_DEVICE LargeLossTerm<T> large_loss_term(T logit, bool is_positive, bool is_unobserved, T threshold) {
  const SigmoidPair<T> s = sigmoid_pair(logit);
  const T tail = log1p_nonnegative(exp_nonpositive(-abs(logit)));
  const T least = is_unobserved ? threshold : no_threshold<T>();
  const T of_large_loss = kCorrects ? softplus(-logit, tail) : T(0);
  const T of_large_gradient = kCorrects ? -s.q : T(0);
  const T loss = softplus(is_positive ? -logit : logit, tail);
  const T gradient = is_positive ? -s.q : s.p;
  const bool is_large = logit >= least;
  return {is_large ? of_large_loss : loss, is_large ? of_large_gradient : gradient, is_large ? T(1) : T(0)};
}

}  // namespace pumlc::math
