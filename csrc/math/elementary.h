// Elementary functions that both the CPU and the CUDA kernels are written with.
//
// On the host the float versions are branch-free polynomials, so that a plain loop over them becomes vector
// code; the C library's expf would stop the vectoriser. On the device they are CUDA's own functions.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define PUMLC_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define PUMLC_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace pumlc::math {

// e^x = (mantissa + 1) * power for a float x that is not NaN; below the smallest normal number, that number.
struct ExpParts {
  float mantissa;  // e^r - 1 to full relative accuracy, |r| <= log(2) / 2
  float power;     // of two
};

constexpr float kSmallestExponent = -87.336544f;  // log(2^-126)

PUMLC_HOST_DEVICE ExpParts exp_parts(float x) {
  constexpr float kRound = 12582912.0f;                                 // 1.5 * 2^23: adding it rounds to an integer
  const float clamped = x < kSmallestExponent ? kSmallestExponent : x;  // the comparison lets NaN through
  const float shifted = clamped * 1.44269504f + kRound;
  const float n = shifted - kRound;
  // r = x - n log 2, with log 2 in two parts so that the product with n is exact; |r| <= log(2) / 2
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  // degree-6 minimax polynomial of (e^r - 1 - r) / r^2 (Cephes, Moshier 1989)
  float polynomial = 1.9875691500e-4f;
  polynomial = polynomial * r + 1.3981999507e-3f;
  polynomial = polynomial * r + 8.3334519073e-3f;
  polynomial = polynomial * r + 4.1665795894e-2f;
  polynomial = polynomial * r + 1.6666665459e-1f;
  polynomial = polynomial * r + 5.0000001201e-1f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  const uint32_t exponent = (bits + 127u) << 23;  // the low bits of `shifted` hold n
  float power;
  std::memcpy(&power, &exponent, sizeof(power));
  return {polynomial * r * r + r, power};
}

// e^x for x <= 0, to 2 ulp in float; 0 below the smallest normal number, NaN for NaN.
PUMLC_HOST_DEVICE float exp_nonpositive(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  const ExpParts parts = exp_parts(x);
  return x < kSmallestExponent ? 0.0f : (parts.mantissa + 1.0f) * parts.power;
#endif
}

PUMLC_HOST_DEVICE double exp_nonpositive(double x) { return ::exp(x); }

// e^x and e^x - 1 for x <= 0, each to full relative accuracy.
template <typename T>
struct ExpPair {
  T value;
  T minus_one;
};

PUMLC_HOST_DEVICE ExpPair<float> exp_pair(float x) {
#if defined(__CUDA_ARCH__)
  return {expf(x), expm1f(x)};
#else
  const ExpParts parts = exp_parts(x);
  return {exp_nonpositive(x), parts.mantissa * parts.power + (parts.power - 1.0f)};
#endif
}

PUMLC_HOST_DEVICE ExpPair<double> exp_pair(double x) { return {::exp(x), ::expm1(x)}; }

PUMLC_HOST_DEVICE float log1p(float x) { return ::log1pf(x); }
PUMLC_HOST_DEVICE double log1p(double x) { return ::log1p(x); }

PUMLC_HOST_DEVICE float log(float x) { return ::logf(x); }
PUMLC_HOST_DEVICE double log(double x) { return ::log(x); }

// log x for x of at least the smallest normal number, to 1 ulp in float; NaN for NaN.
PUMLC_HOST_DEVICE float log_positive(float x) {
#if defined(__CUDA_ARCH__)
  return logf(x);
#else
  constexpr int32_t kRootHalf = 0x3f3504f3;  // bits of sqrt(1/2): the mantissa m lies between it and sqrt(2)
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const int32_t n = (bits - kRootHalf) >> 23;
  bits -= n * (1 << 23);
  float m;
  std::memcpy(&m, &bits, sizeof(m));
  const float r = m - 1.0f;
  // degree-8 minimax polynomial of (log(1 + r) - r + r^2 / 2) / r^3 (Cephes, Moshier 1989)
  float polynomial = 7.0376836292e-2f;
  polynomial = polynomial * r - 1.1514610310e-1f;
  polynomial = polynomial * r + 1.1676998740e-1f;
  polynomial = polynomial * r - 1.2420140846e-1f;
  polynomial = polynomial * r + 1.4249322787e-1f;
  polynomial = polynomial * r - 1.6668057665e-1f;
  polynomial = polynomial * r + 2.0000714765e-1f;
  polynomial = polynomial * r - 2.4999993993e-1f;
  polynomial = polynomial * r + 3.3333331174e-1f;
  // log 2 in two parts, of which the product with the larger is exact
  const float exponent = static_cast<float>(n);
  const float small = polynomial * r * r * r + exponent * -2.12194440e-4f - 0.5f * r * r;
  return (r + small) + exponent * 0.693359375f + (x - x);  // the last for NaN, which the bits lose
#endif
}

PUMLC_HOST_DEVICE double log_positive(double x) { return ::log(x); }

// log(1 + x) for x >= 0, to 2 ulp in float.
PUMLC_HOST_DEVICE float log1p_nonnegative(float x) {
#if defined(__CUDA_ARCH__)
  return log1pf(x);
#else
  const float sum = 1.0f + x;
  return log_positive(sum) + (x - (sum - 1.0f)) / sum;  // with what the sum lost
#endif
}

PUMLC_HOST_DEVICE double log1p_nonnegative(double x) { return ::log1p(x); }

// log of `value`, which is positive, given complement = 1 - value to full relative accuracy: near 1, where a rounded
// value has lost the digits of its logarithm, those of the complement count.
template <typename T>
PUMLC_HOST_DEVICE T log_with_complement(T value, T complement) {
  const bool is_near_one = value > T(0.5);
  const T rounded = is_near_one ? T(1) - complement : value;
  const T lost = is_near_one ? (T(1) - rounded) - complement : T(0);  // exact
  return log_positive(rounded) + lost / rounded;
}

PUMLC_HOST_DEVICE float pow(float x, float y) { return ::powf(x, y); }
PUMLC_HOST_DEVICE double pow(double x, double y) { return ::pow(x, y); }

PUMLC_HOST_DEVICE float sqrt(float x) { return ::sqrtf(x); }
PUMLC_HOST_DEVICE double sqrt(double x) { return ::sqrt(x); }

PUMLC_HOST_DEVICE float abs(float x) { return ::fabsf(x); }
PUMLC_HOST_DEVICE double abs(double x) { return ::fabs(x); }

PUMLC_HOST_DEVICE float copysign(float magnitude, float sign) { return ::copysignf(magnitude, sign); }
PUMLC_HOST_DEVICE double copysign(double magnitude, double sign) { return ::copysign(magnitude, sign); }

PUMLC_HOST_DEVICE bool has_sign(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits < 0;
}
PUMLC_HOST_DEVICE bool has_sign(double x) {
  int64_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits < 0;
}

// sigma(x) and sigma(-x) = 1 - sigma(x), each to full relative accuracy.
template <typename T>
struct SigmoidPair {
  T p;       // sigma(x)
  T q;       // sigma(-x)
  T packed;  // both in one number: the smaller one, with a sign (on zero too) where that is sigma(-x)
};

template <typename T>
PUMLC_HOST_DEVICE SigmoidPair<T> sigmoid_pair(T x) {
  const T e = exp_nonpositive(-abs(x));
  const T larger = T(1) / (T(1) + e);
  const T smaller = e * larger;
  return {x >= T(0) ? larger : smaller, x >= T(0) ? smaller : larger, copysign(smaller, -x)};
}

template <typename T>
PUMLC_HOST_DEVICE SigmoidPair<T> unpack(T packed) {
  const T smaller = abs(packed);
  const T larger = T(1) - smaller;
  const bool negative = has_sign(packed);
  return {negative ? larger : smaller, negative ? smaller : larger, packed};
}

// log sigma(x); finite wherever x is.
template <typename T>
PUMLC_HOST_DEVICE T log_sigmoid(T x) {
  return (x < T(0) ? x : T(0)) - log1p(exp_nonpositive(-abs(x)));
}

// log(1 + e^x) = -log sigma(-x), finite wherever x is, given tail = log(1 + e^-|x|), which is also that of -x.
template <typename T>
PUMLC_HOST_DEVICE T softplus(T x, T tail) {
  return (x > T(0) ? x : T(0)) + tail;
}

// tanh(x) and its derivative 1 - tanh(x)^2, each to full relative accuracy in float.
template <typename T>
struct TanhPair {
  T value;
  T slope;
};

// For T a float, or on the host a register of floats; Bits holds their bits as uint32_t. With m = e^(-2|x|) - 1, which
// loses no digits near 0:  tanh|x| = -m / (2 + m),  slope = 4 (1 + m) / (2 + m)^2.
template <typename Bits, typename T>
PUMLC_HOST_DEVICE TanhPair<T> tanh_pair_of(T x) {
  const T zero{};
  const T smallest = zero - 38.123096f;  // 55 log 2: beyond it tanh is 1 in double too, and its slope 0
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const T y = (x < zero ? x : -x) * 2.0f;
  const T clamped = y < smallest ? smallest : y;  // the comparisons let NaN through
  const T shifted = clamped * 1.44269504f + kRound;
  const T n = shifted - kRound;
  // the reduction and the polynomial of exp_nonpositive, without the 1 that would swallow the digits of a small x
  const T r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  T polynomial = r * 1.9875691500e-4f + 1.3981999507e-3f;
  polynomial = polynomial * r + 8.3334519073e-3f;
  polynomial = polynomial * r + 4.1665795894e-2f;
  polynomial = polynomial * r + 1.6666665459e-1f;
  polynomial = polynomial * r + 5.0000001201e-1f;
  const T mantissa = polynomial * (r * r) + r;  // e^r - 1
  Bits bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  const Bits exponent = (bits + 127u) << 23;  // the low bits of `shifted` hold n
  T power;
  std::memcpy(&power, &exponent, sizeof(power));
  const T m = mantissa * power + (power - 1.0f);
#if defined(__CUDA_ARCH__)
  const T reciprocal = __fdividef(1.0f, m + 2.0f);  // of a number in (1, 2]: to 2 ulp, without the branch for others
#else
  const T reciprocal = 1.0f / (m + 2.0f);
#endif
  const T t = m * reciprocal;  // -tanh|x|
  const T slope = (mantissa * power + power) * (reciprocal * reciprocal) * 4.0f;
  return {x < zero ? t : -t, y < smallest ? zero : slope};
}

PUMLC_HOST_DEVICE TanhPair<float> tanh_pair(float x) { return tanh_pair_of<uint32_t>(x); }
PUMLC_HOST_DEVICE TanhPair<double> tanh_pair(double x) {
  const double t = ::tanh(x);
  return {t, 1.0 - t * t};
}

}  // namespace pumlc::math
