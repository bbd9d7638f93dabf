// What the elementwise-loss kernels of both devices are called with: raw pointers, sizes, strides.
#pragma once

#include <cstdint>

#include "math/elementwise_loss.h"

namespace pumlc {

// S is the dtype of the logits; A accumulates: float for float, bfloat16 and half, double for double.
template <typename S, typename A>
struct ElementwiseLossArguments {
  const S* logits;        // [rows, columns]
  int64_t logits_stride;  // elements between rows; 1 between columns
  const int8_t* labels;   // [rows, columns]
  int64_t labels_stride;
  int64_t rows;
  int64_t columns;
  double divisor;  // of the sum of the terms
  A scale;         // of their derivatives: its reciprocal
  A* loss;         // []
  S* gradient;     // [rows, columns], or null where it is not wanted
};

}  // namespace pumlc
