// The variational positive-unlabelled loss with per-class re-balance (PU-MLC, arXiv 2306.16016).
//
// For every class c over the N rows i of a batch, with logits z and labels y:
//   s   = sqrt(mean_i (z_i - mean z)^2)              biased standard deviation
//   tau = clamp(alpha s, min_temperature, 1)         no gradient
//   p_i = sigma(z_i / tau),  mu = mean_i p_i,  n = #{i: y_i = 1}
//   w   = mu^gamma                                   no gradient
//   L   = w log(mu + eps) - (1/n) sum_{y_i = 1} log p_i             second term 0 where n = 0
//   dL/dz_i = (1/tau) [ w / (mu + eps) p (1 - p) / N  -  1[y_i = 1] (1 - p) / n ]
// The loss of the batch is the sum of L over classes.
#pragma once

#include "elementary.h"

namespace pumlc::math {

// Rows of the statistics tensor [5, C].
enum PuStatistic { kPositives = 0, kTemperature, kMeanProbability, kWeight, kClassLoss, kPuStatisticCount };

// Rows of the moments tensor [S, 4, C]: one set for each part of the batch.
enum PuMoment { kCount = 0, kMean, kSquaredDeviations, kPositiveCount, kPuMomentCount };

// Rows of the probability sums [2, C].
enum PuSum { kProbabilitySum = 0, kLogProbabilitySum, kPuSumCount };

// Count, mean and sum of squared deviations of a set of numbers, and how many are labelled positive.
template <typename T>
struct Moments {
  T count;
  T mean;
  T squared_deviations;
  T positives;
};

// The moments of the union of sets, part(0) to part(parts - 1), in that order (Chan, Golub and LeVeque 1979).
template <typename T, typename Part>
PUMLC_HOST_DEVICE Moments<T> merge_moments(int64_t parts, const Part& part) {
  Moments<T> merged{T(0), T(0), T(0), T(0)};
  for (int64_t s = 0; s < parts; ++s) {
    const Moments<T> m = part(s);
    merged.count += m.count;
    merged.mean += m.count * m.mean;
    merged.positives += m.positives;
  }
  if (merged.count > T(0)) merged.mean /= merged.count;
  for (int64_t s = 0; s < parts; ++s) {
    const Moments<T> m = part(s);
    const T difference = m.mean - merged.mean;
    merged.squared_deviations += m.squared_deviations + m.count * difference * difference;
  }
  return merged;
}

// tau of a class. Comparisons, not fmin and fmax: NaN stays NaN.
template <typename T>
PUMLC_HOST_DEVICE T pu_temperature(T squared_deviations, T count, T alpha, T min_temperature) {
  const T temperature = alpha * sqrt(squared_deviations / count);
  return temperature < min_temperature ? min_temperature : (temperature > T(1) ? T(1) : temperature);
}

// Everything about a class that its gradient needs.
template <typename T>
struct PuClass {
  T temperature;
  T mean_probability;
  T weight;
  T loss;
  T unlabelled;  // w / ((mu + eps) N tau)
  T positive;    // 1 / (n tau), 0 where n = 0
};

template <typename T>
PUMLC_HOST_DEVICE PuClass<T> pu_class(T temperature, T count, T positives, T probability_sum, T log_probability_sum,
                                      T gamma) {
  constexpr T kEpsilon = T(1e-10);
  const T mean_probability = probability_sum / count;
  const T weight = pow(mean_probability, gamma);
  const T positive_term = positives > T(0) ? log_probability_sum / positives : T(0);
  return {temperature,
          mean_probability,
          weight,
          weight * log(mean_probability + kEpsilon) - positive_term,
          weight / ((mean_probability + kEpsilon) * count * temperature),
          positives > T(0) ? T(1) / (positives * temperature) : T(0)};
}

// dL/dz of one element with sigma(z / tau) = s.p.
template <typename T>
PUMLC_HOST_DEVICE T pu_gradient(const SigmoidPair<T>& s, bool is_positive, T unlabelled, T positive) {
  return s.q * (s.p * unlabelled - (is_positive ? positive : T(0)));
}

}  // namespace pumlc::math
