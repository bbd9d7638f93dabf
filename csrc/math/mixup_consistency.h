// The mixup regulariser of PU-MLC (arXiv 2306.16016): what the model says of a mixture of two images against the
// mixture of what it says of each.
//
// Pair i of h has the rows f = pi(i) and s = B - h + i of the batch, and row i of the mixed logits z~. For every class:
//   t   = 1 where labelled positive, else sigma(z) + eps
//   a   = lambda t_f + (1 - lambda) t_s + eps,   b = sigma(z~) + eps
//   d   = log a - log b
//   L   = (1/h) sum over pairs and classes of d^2
//   dL/dz~ = -(2/h) d p~ (1 - p~) / b
//   dL/dz_f = (2/h) d / a lambda p_f (1 - p_f),  dL/dz_s = (2/h) d / a (1 - lambda) p_s (1 - p_s)      0 at positives
#pragma once

#include "elementary.h"

namespace pumlc::math {

// A target t, with 1 - t to full relative accuracy and dt/dz.
template <typename T>
struct MixupTarget {
  T value;
  T complement;
  T slope;
};

template <typename T>
PUMLC_HOST_DEVICE MixupTarget<T> mixup_target(T logit, bool is_positive, T epsilon) {
  const SigmoidPair<T> s = sigmoid_pair(logit);
  return {is_positive ? T(1) : s.p + epsilon, is_positive ? T(0) : s.q - epsilon, is_positive ? T(0) : s.p * s.q};
}

// One class of one pair.
template <typename T>
struct MixupTerm {
  T difference;  // d
  T target;      // d / a
  T mixed;       // -d p~ (1 - p~) / b
};

template <typename T>
PUMLC_HOST_DEVICE MixupTerm<T> mixup_term(const MixupTarget<T>& first, const MixupTarget<T>& second, T mixed_logit,
                                          T lambda, T epsilon) {
  const T rest = T(1) - lambda;
  const T a = lambda * first.value + rest * second.value + epsilon;
  const T a_complement = lambda * first.complement + rest * second.complement - epsilon;
  const SigmoidPair<T> s = sigmoid_pair(mixed_logit);
  const T b = s.p + epsilon;
  const T difference = log_with_complement(a, a_complement) - log_with_complement(b, s.q - epsilon);
  return {difference, difference / a, -difference * (s.p * s.q / b)};
}

}  // namespace pumlc::math
