// CPU kernels of the depthwise convolution: what an instruction-set variant offers.
//
// The unit of work is a task: a tile of neighbouring channels, an image, a band of rows. Tasks are independent and do
// not depend on the number of threads. Those of one tile follow each other, so that its weights are laid out once.
#pragma once

#include <algorithm>

#include "../depthwise.h"

namespace pumlc::cpu {

// Rows of a band, a multiple of the largest stride; the float sums of a band go on in double.
constexpr int64_t kDepthwiseBand = 28;

constexpr int64_t depthwise_bands(int64_t rows) { return (rows + kDepthwiseBand - 1) / kDepthwiseBand; }

// Columns of a source row between zeros: K before it, behind it those that a window reaches from the last column on.
constexpr int64_t depthwise_padded(int64_t width) { return width + 48; }

// Scratch of `forward` and `backward`: vectors of a tile's channels, for a ring of rows and a row of results.
constexpr int64_t depthwise_scratch(int64_t kernel_size, int64_t width) {
  return (kernel_size + 1) * depthwise_padded(width);
}

template <typename S, typename A>
struct DepthwiseKernels {
  using Arguments = DepthwiseArguments<S, A>;

  int64_t tile_width;  // channels of a tile

  // Tasks of tiles x images x bands of y. gates: sigma [B, Ho, Wo, heads], where there is a context. scratch, here and
  // in `backward`: [depthwise_scratch(K, W), tile_width], aligned to 64 bytes.
  void (*forward)(const Arguments&, const A* gates, A* scratch, int64_t first, int64_t last);

  // dx and the parts of dweight: tasks of tiles x images x bands of x. partial: [tiles, images x bands, K K,
  // tile_width], where dweight is wanted.
  void (*backward)(const Arguments&, A* partial, A* scratch, int64_t first, int64_t last);

  // dweight and dcentre from the parts, of tiles [first, last).
  void (*sum_parts)(const Arguments&, const A* partial, int64_t first, int64_t last);

  // sigma(gate_scores) -> gates [B, Ho, Wo, heads], of rows [first, last) of images x Ho.
  void (*open_gates)(const Arguments&, A* gates, int64_t first, int64_t last);

  // dgate_scores, and the parts of dcontext and of dshift -> sums [2, images x bands, C]: tasks of images x bands of y.
  // scratch: [3, C]
  void (*global_backward)(const Arguments&, double* sums, A* scratch, int64_t first, int64_t last);
};

}  // namespace pumlc::cpu
