// What the semantic-attention kernels of both devices are called with: raw pointers and sizes.
#pragma once

#include <cstdint>

#include "math/elementary.h"

namespace pumlc {

// S is the dtype of the features; A accumulates: float for float, bfloat16 and half, double for double.
// B images, P positions, C classes, D dimensions. Each pass uses the members named beside it; the others are null.
template <typename S, typename A>
struct SemanticAttentionArguments {
  int64_t images;
  int64_t positions;
  int64_t classes;
  int64_t dimensions;
  const S* features;     // [B, P, D]
  const A* words;        // [C, D]
  const A* v;            // [D]
  S* out;                // [B, C, P]   forward
  const S* upstream;     // [B, C, P]   backward
  S* features_gradient;  // [B, P, D]   backward
  A* words_gradient;     // [C, D]      backward
  A* v_gradient;         // [D]         backward

  PUMLC_HOST_DEVICE int64_t rows() const { return images * positions; }

  // Where class c and position p of image b, row b P + p of the features, lie in out and upstream.
  PUMLC_HOST_DEVICE int64_t place(int64_t row, int64_t c) const {
    const int64_t b = row / positions;
    return (b * classes + c) * positions + (row - b * positions);
  }
};

}  // namespace pumlc
