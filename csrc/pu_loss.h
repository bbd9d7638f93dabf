// What the PU-loss kernels of both devices are called with: raw pointers, sizes, strides.
#pragma once

#include <cstdint>

namespace pumlc {

// S is the dtype of the logits; A accumulates: float for float, bfloat16 and half, double for double.
// Each phase uses the members named beside it; the others are null.
template <typename S, typename A>
struct PuLossArguments {
  const S* logits;        // [rows, columns]
  int64_t logits_stride;  // elements between rows; 1 between columns
  const int8_t* labels;   // [rows, columns]
  int64_t labels_stride;
  int64_t rows;
  int64_t columns;
  A alpha;
  A gamma;
  A min_temperature;
  A gradient_scale;
  const A* moments;  // [parts, 4, columns]   probability_sums, finish
  int64_t parts;
  const A* sums;   // [2, columns]            finish
  A* moments_out;  // [4, columns]            moments
  A* sums_out;     // [2, columns]            probability_sums
  A* loss;         // []                      fused, finish
  A* statistics;   // [5, columns]            fused, finish
  S* gradient;     // [rows, columns], or null where none is wanted
};

}  // namespace pumlc
