// What the depthwise kernels of both devices are called with: raw pointers and sizes.
#pragma once

#include <cstdint>

namespace pumlc {

// Feature maps are channels_last in memory. S is their dtype; A accumulates, and the parameters are given in it: float
// for float, bfloat16 and half, double for double. Null is what is absent or not wanted.
template <typename S, typename A>
struct DepthwiseArguments {
  int64_t batch;
  int64_t channels;
  int64_t height;  // of x
  int64_t width;
  int64_t out_height;  // of y
  int64_t out_width;
  int kernel_size;
  int stride;

  const S* x;               // [B, H, W, C]
  const A* weight;          // [C, K, K]
  const A* centre;          // [C], or null
  const A* context;         // [B, C], or null: then there is no global part, and gate_scores and shift are null too
  const A* shift;           // [C]
  const S* gate_scores;     // [B, heads, H, W] with the strides below
  int64_t gate_strides[4];  // in elements
  int64_t heads;

  S* y;  // [B, Ho, Wo, C]

  // gradients
  const S* dy;      // [B, Ho, Wo, C]
  S* dx;            // [B, H, W, C]
  A* dweight;       // [C, K, K]
  A* dcentre;       // [C], where dweight is wanted and there is a centre
  A* dcontext;      // [B, C]
  S* dgate_scores;  // [B, H, W, heads]
  A* dshift;        // [C]
};

}  // namespace pumlc
