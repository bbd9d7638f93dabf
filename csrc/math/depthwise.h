// Depthwise convolution with padding K / 2, and the local-global form built on it.
//
// With s the stride, P = K / 2, p = (row, column) of the output and k = (k_row, k_column) of the kernel:
//   y_c(p)     = sum_k weight_c(k) x_c(s p + k - P)  [ + gate_h(p) context_c + shift_c ]
//   gate_h(p)  = sigma(gate_scores_h(s p)),  h = c / (C / heads)
// The weights that a kernel works with hold centre_c in their centre tap, which stands at s p. Derivatives:
//   dx_c(i)       = sum of weight_c(k) dy_c(p) over the pairs with s p + k - P = i
//   dweight_c(k)  = sum_p x_c(s p + k - P) dy_c(p),   dcentre_c = dweight_c(centre),   dshift_c = sum_p dy_c(p)
//   dcontext_c    = sum_p gate_h(p) dy_c(p)
//   dscores_h(sp) = gate_h(p) (1 - gate_h(p)) sum over the channels c of head h of dy_c(p) context_c
#pragma once

#include "elementary.h"

namespace pumlc::math {

constexpr int64_t depthwise_output(int64_t size, int64_t stride) { return (size + stride - 1) / stride; }

// Both y and dx are gathered: a block of neighbouring columns from a window of neighbouring source columns. The two
// structures below say which source a tap takes, row after row of the kernel or of the source; columns follow the rule
// of rows.

// y from x.
template <int K, int kStride>
struct OutputTaps {
  static constexpr int kSize = K;
  static constexpr int kRowStep = 1;
  static constexpr int kBlockStep = 1;  // blocks begin at multiples of it
  static constexpr int window(int columns) { return (columns - 1) * kStride + K; }
  static PUMLC_HOST_DEVICE int64_t window_begin(int64_t column) { return column * kStride - K / 2; }
  // Tap by which source i of the window contributes to column t of the block: in [0, K), or there is none.
  static constexpr int tap(int i, int t) { return i - t * kStride; }
  static PUMLC_HOST_DEVICE int first_row_tap(int64_t) { return 0; }
  static PUMLC_HOST_DEVICE int64_t source_row(int64_t row, int tap) { return row * kStride + tap - K / 2; }
  // The same the other way round: the tap by which a source row contributes to a row, and the first and the last source
  // row of a row, which may lie outside of the map.
  static PUMLC_HOST_DEVICE int64_t row_tap(int64_t source, int64_t row) { return source - source_row(row, 0); }
  static PUMLC_HOST_DEVICE int64_t first_source_row(int64_t row) { return source_row(row, 0); }
  static PUMLC_HOST_DEVICE int64_t last_source_row(int64_t row) { return source_row(row, K - 1); }
};

// dx from dy.
template <int K, int kStride>
struct InputGradientTaps {
  static constexpr int kSize = K;
  static constexpr int kRowStep = kStride;
  static constexpr int kBlockStep = kStride;
  static constexpr int kReach = K / 2 / kStride;  // outputs before column / stride that it contributed to
  static constexpr int window(int columns) { return kReach + (columns - 1 + K / 2) / kStride + 1; }
  static PUMLC_HOST_DEVICE int64_t window_begin(int64_t column) { return column / kStride - kReach; }
  static constexpr int tap(int i, int t) { return t + K / 2 - kStride * (i - kReach); }
  static PUMLC_HOST_DEVICE int first_row_tap(int64_t row) { return static_cast<int>((row + K / 2) % kStride); }
  static PUMLC_HOST_DEVICE int64_t source_row(int64_t row, int tap) { return (row + K / 2 - tap) / kStride; }
  // Likewise the other way round; of the first source row, where it is negative, no more than that is said.
  static PUMLC_HOST_DEVICE int64_t row_tap(int64_t source, int64_t row) { return row + K / 2 - kStride * source; }
  static PUMLC_HOST_DEVICE int64_t first_source_row(int64_t row) { return (row - K / 2 + kStride - 1) / kStride; }
  static PUMLC_HOST_DEVICE int64_t last_source_row(int64_t row) { return (row + K / 2) / kStride; }
};

}  // namespace pumlc::math
