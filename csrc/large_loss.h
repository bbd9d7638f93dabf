// What the large-loss kernels of both devices are called with: raw pointers, sizes, strides.
#pragma once

#include <cstdint>

#include "math/large_loss.h"

namespace pumlc {

// S is the dtype of the logits; A accumulates: float for float, bfloat16 and half, double for double.
// Inputs without gaps come as one row, so that the kernels run through them without a seam.
template <typename S, typename A>
struct LargeLossArguments {
  const S* logits;        // [rows, columns]
  int64_t logits_stride;  // elements between rows; 1 between columns
  const int8_t* labels;   // [rows, columns]
  int64_t labels_stride;
  int64_t rows;
  int64_t columns;
  int64_t k;        // how many unobserved entries have a large loss; from 0 to rows * columns
  bool corrects;    // large losses are corrected; else rejected
  A* loss;          // []
  bool* corrected;  // [rows, columns]
  S* gradient;      // [rows, columns], or null where none is wanted

  PUMLC_HOST_DEVICE int64_t elements() const { return rows * columns; }
  PUMLC_HOST_DEVICE A scale() const { return A(1) / static_cast<A>(elements()); }
};

}  // namespace pumlc
