// What the mixup-consistency kernels of both devices are called with: raw pointers, sizes, strides.
#pragma once

#include <cstdint>

#include "math/elementary.h"

namespace pumlc {

// S is the dtype of the logits; A accumulates: float for float, bfloat16 and half, double for double.
// Pair i has the rows permutation[i] and second_row(i) of the batch and row i of the mixed logits.
template <typename S, typename A>
struct MixupConsistencyArguments {
  const S* logits;        // [rows, columns]
  int64_t logits_stride;  // elements between rows; 1 between columns
  const int8_t* labels;   // [rows, columns]
  int64_t labels_stride;
  const S* mixed;  // [pairs, columns]
  int64_t mixed_stride;
  const int64_t* permutation;  // [pairs]
  const A* mix;                // []: lambda, the share of row permutation[i]
  int64_t rows;
  int64_t columns;
  A epsilon;
  A* loss;            // []
  S* gradient;        // [rows, columns], or null where none is wanted
  S* mixed_gradient;  // [pairs, columns], or null where none is wanted

  // Half of the rows; of an odd number the middle one stands in both halves.
  PUMLC_HOST_DEVICE int64_t pairs() const { return (rows + 1) / 2; }
  PUMLC_HOST_DEVICE int64_t second_row(int64_t pair) const { return rows / 2 + pair; }
};

}  // namespace pumlc
