// What the gated broadcast-add kernels of both devices are called with: raw pointers, sizes, strides.
#pragma once

#include "head_map.h"

namespace pumlc {

// S is the dtype of the maps; A that of everything else: float for float, bfloat16 and half, double for double.
// B images, P = H W positions, O channels, K heads. Each pass uses the members named beside it; the others are null.
template <typename S, typename A>
struct GatedBroadcastAddArguments {
  int64_t images;
  int64_t positions;
  int64_t channels;
  int64_t heads;
  HeadMap<const S> gate_scores;  // [B, K, P]
  const A* u;                    // [B, O, K]
  const A* scale;                // [O]
  const A* shift;                // [O]             forward
  const S* y;                    // [B, P, O]       forward
  S* out;                        // [B, P, O]       forward
  const S* upstream;             // [B, P, O]       backward
  HeadMap<S> gate_gradient;      // [B, K, P]       backward
  A* u_gradient;                 // [B, O, K]       backward
  A* scale_gradient;             // [O]             backward
  A* shift_gradient;             // [O]             backward
};

}  // namespace pumlc
