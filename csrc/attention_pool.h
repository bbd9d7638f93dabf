// What the attention-pool kernels of both devices are called with: raw pointers, sizes, strides.
#pragma once

#include "head_map.h"

namespace pumlc {

// Rows of the softmax statistics [B, 2, K].
enum SoftmaxStatistic { kLargestScore = 0, kSumOfTerms, kSoftmaxStatisticCount };

// S is the dtype of the tensors; A accumulates: float for float, bfloat16 and half, double for double.
// B images, P = H W positions, C channels, K heads; K' is 1 where grouped, else K. Each pass uses the members named
// beside it; the others are null.
template <typename S, typename A>
struct AttentionPoolArguments {
  int64_t images;
  int64_t positions;
  int64_t channels;
  int64_t heads;
  bool grouped;
  const S* x;                  // [B, P, C]
  HeadMap<const S> scores;     // [B, K, P]
  S* pooled;                   // [B, K', C]      forward
  A* means_out;                // [B, K', C]      forward: pooled before rounding, or null where S is A
  A* statistics_out;           // [B, 2, K]       forward
  const S* upstream;           // [B, K', C]      backward
  const A* means;              // [B, K', C]      backward
  const A* statistics;         // [B, 2, K]       backward
  S* x_gradient;               // [B, P, C]       backward
  bool adds_to_x_gradient;     //                 backward: to what is there already
  HeadMap<S> scores_gradient;  // [B, K, P]       backward

  PUMLC_HOST_DEVICE int64_t rows() const { return grouped ? 1 : heads; }                 // K'
  PUMLC_HOST_DEVICE int64_t head_of(int64_t c) const { return c / (channels / heads); }  // where grouped
};

}  // namespace pumlc
