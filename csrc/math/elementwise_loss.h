// The losses that are a sum of one term per image and class: value and derivative of each.
//
// With z a logit and y its label, 1 positive, 0 unobserved, -1 known negative, let u be the logit of the wrong answer,
// -z at positives and z elsewhere, p = sigma(u) and q = 1 - p. A label that is known costs -log q, with dL/du = p,
// where a loss below does not say otherwise.
//
//   CrossEntropy  w [-(1 - e) log q - e log p],  w = 1 where the label is known      an, ignore, wan, ls
//   Focal         -p^g log q;  u = m - z at positives;  an unobserved z above a threshold is a positive without margin
//                                                                                    focal, splc
//   Asymmetric    -r^g log(1 - r),  r = max(p - m, 0);  m = 0 and a g of its own at positives          asl
//   Hill          Focal at positives, (lambda - p) p^2 elsewhere                                       hill
//   Entropy       a (p log p + q log q) where unobserved                                               em
//   Robust        v [k (1 - p^q2) / q2 + (1 - k) (1 - q^q3) / q3] where unobserved,
//                 k = sigma(w p + b) and v = exp(-((p - mu) / s)^2 / 2) held constant                  gr
//
// Powers are exponentials of logarithms that are exact at both ends, and no probability is divided by or logged that
// may be 0: value and derivative are finite for any finite logit.
#pragma once

#include "elementary.h"

namespace pumlc::math {

template <typename T>
struct LossTerm {
  T value;
  T slope;  // by z; of the helpers, by u
};

// sigma(u) and sigma(-u) with their logarithms, each to full relative accuracy.
template <typename T>
struct WrongAnswer {
  T u;
  T p;
  T q;
  T log_p;
  T log_q;
};

template <typename T>
PUMLC_HOST_DEVICE WrongAnswer<T> wrong_answer(T u) {
  const SigmoidPair<T> s = sigmoid_pair(u);
  const T rest = log1p_nonnegative(exp_nonpositive(-abs(u)));
  return {u, s.p, s.q, (u < T(0) ? u : T(0)) - rest, (u > T(0) ? -u : T(0)) - rest};
}

// What is by u as a thing by z.
template <typename T>
PUMLC_HOST_DEVICE LossTerm<T> by_logit(T value, T slope, bool is_positive) {
  return {value, is_positive ? -slope : slope};
}

template <typename T>
struct CrossEntropy {
  T smoothing;          // e
  T unobserved_weight;  // w where unobserved

  PUMLC_HOST_DEVICE LossTerm<T> operator()(T z, T label) const {
    const bool is_positive = label > T(0);
    const WrongAnswer<T> a = wrong_answer(is_positive ? -z : z);
    const T weight = label == T(0) ? unobserved_weight : T(1);
    const T rest = T(1) - smoothing;
    return by_logit(weight * (-rest * a.log_q - smoothing * a.log_p), weight * (rest * a.p - smoothing * a.q),
                    is_positive);
  }
};

template <typename T>
PUMLC_HOST_DEVICE LossTerm<T> focal_term(const WrongAnswer<T>& a, T gamma) {
  const T weight = exp_nonpositive(gamma * a.log_p);
  return {-weight * a.log_q, weight * (a.p - gamma * a.q * a.log_q)};
}

template <typename T>
struct Focal {
  T gamma;
  T margin;
  T threshold;  // a logit

  PUMLC_HOST_DEVICE LossTerm<T> operator()(T z, T label) const {
    const bool is_labelled = label > T(0);
    const bool is_corrected = (label == T(0)) & (z > threshold);
    const bool is_positive = is_labelled | is_corrected;
    const T right = z - (is_labelled ? margin : T(0));
    const LossTerm<T> term = focal_term(wrong_answer(is_positive ? -right : right), gamma);
    return by_logit(term.value, term.slope, is_positive);
  }
};

template <typename T>
struct Asymmetric {
  T negative_gamma;
  T positive_gamma;
  T margin;

  PUMLC_HOST_DEVICE LossTerm<T> operator()(T z, T label) const {
    constexpr T kSmallest = T(1.2e-38);  // a normal number in float
    const bool is_positive = label > T(0);
    const WrongAnswer<T> a = wrong_answer(is_positive ? -z : z);
    const T gamma = is_positive ? positive_gamma : negative_gamma;
    const T m = is_positive ? T(0) : margin;
    const bool is_shifted = m > kSmallest;
    const bool is_below = a.p < m;  // which NaN is not; of !(p <= m), g++ 12 makes p > m in vector code
    const T r = is_below ? T(0) : a.p - m;
    const T divisor = r > kSmallest ? r : kSmallest;
    const T log_rest = is_shifted ? log_with_complement(is_shifted ? a.q + m : T(1), r) : a.log_q;  // log(1 - r)
    const T weight = exp_nonpositive(gamma * (is_shifted ? log_positive(divisor) : a.log_p));
    // p q / (1 - r) and p q / r
    const T by_rest = is_shifted ? a.p * a.q / (a.q + m) : a.p;
    const T by_r = is_shifted ? a.p * a.q / divisor : a.q;
    const T slope = weight * (by_rest - gamma * by_r * log_rest);
    return by_logit(-weight * log_rest, is_below ? T(0) : slope, is_positive);
  }
};

template <typename T>
struct Hill {
  T margin;
  T gamma;
  T lambda;

  PUMLC_HOST_DEVICE LossTerm<T> operator()(T z, T label) const {
    const bool is_positive = label > T(0);
    const WrongAnswer<T> a = wrong_answer(is_positive ? margin - z : z);
    const LossTerm<T> focal = focal_term(a, gamma);
    const T square = a.p * a.p;
    return by_logit(is_positive ? focal.value : (lambda - a.p) * square,
                    is_positive ? focal.slope : square * a.q * (T(2) * lambda - T(3) * a.p), is_positive);
  }
};

template <typename T>
struct Entropy {
  T alpha;

  PUMLC_HOST_DEVICE LossTerm<T> operator()(T z, T label) const {
    const bool is_positive = label > T(0);
    const bool is_known = label != T(0);
    const WrongAnswer<T> a = wrong_answer(is_positive ? -z : z);
    return by_logit(is_known ? -a.log_q : alpha * (a.p * a.log_p + a.q * a.log_q),
                    is_known ? a.p : alpha * (a.p * a.q) * a.u, is_positive);
  }
};

template <typename T>
struct Robust {
  T weight;  // w
  T bias;    // b
  T mean;    // mu
  T deviation;
  T positive_power;  // q2
  T negative_power;  // q3

  PUMLC_HOST_DEVICE LossTerm<T> operator()(T z, T label) const {
    const bool is_positive = label > T(0);
    const bool is_known = label != T(0);
    const WrongAnswer<T> a = wrong_answer(is_positive ? -z : z);
    const SigmoidPair<T> k = sigmoid_pair(weight * a.p + bias);
    const T distance = (a.p - mean) / deviation;
    const T v = exp_nonpositive(T(-0.5) * distance * distance);
    const ExpPair<T> of_p = exp_pair(positive_power * a.log_p);
    const ExpPair<T> of_q = exp_pair(negative_power * a.log_q);
    const T value = -v * (k.p * of_p.minus_one / positive_power + k.q * of_q.minus_one / negative_power);
    const T slope = v * (k.q * of_q.value * a.p - k.p * of_p.value * a.q);
    return by_logit(is_known ? -a.log_q : value, is_known ? a.p : slope, is_positive);
  }
};

}  // namespace pumlc::math
