// CPU kernels of the depthwise convolution: what an instruction-set variant offers.
//
// The unit of work is a task, independent of the others: two rows of an image of y or of dx, or a band of rows of an
// image and some neighbouring tiles of channels for dweight. Results do not depend on who does which.
#pragma once

#include <algorithm>

#include "../depthwise.h"

namespace pumlc::cpu {

// Rows of y or of dx that are made together, a multiple of the largest stride.
constexpr int64_t kDepthwiseBlockRows = 2;

constexpr int64_t depthwise_row_pairs(int64_t rows) { return (rows + kDepthwiseBlockRows - 1) / kDepthwiseBlockRows; }

// Rows of a band, a multiple of kDepthwiseBlockRows; the float sums of a band go on in double.
constexpr int64_t kDepthwiseBand = 28;

constexpr int64_t depthwise_bands(int64_t rows) { return (rows + kDepthwiseBand - 1) / kDepthwiseBand; }

// The most tiles of a task of dweight: neighbours share the lines of a map, and their sums stay in the L2 cache.
constexpr int64_t kDepthwiseTileGroup = 16;

// Groups of as equal numbers of tiles as can be, so many that there are `tasks` of them, or pairs: the first tile of a
// group is group * tiles / groups.
constexpr int64_t depthwise_tile_groups(int64_t tiles, int64_t tasks) {
  return std::max<int64_t>(
      {1, (tiles + kDepthwiseTileGroup - 1) / kDepthwiseTileGroup, std::min(tasks, (tiles + 1) / 2)});
}

template <typename S, typename A>
struct DepthwiseKernels {
  using Arguments = DepthwiseArguments<S, A>;

  int64_t tile_width;  // channels of a tile

  // Weights of tiles [first, last) -> to [tiles, K K, tile_width], with the centre in the centre tap. flipped: in
  // reverse order. dx is, at a stride of 1, what y is from dy with such weights.
  void (*lay_out_weights)(const Arguments&, bool flipped, A* to, int64_t first, int64_t last);

  // Tasks of images x pairs of rows of y. x: may be read a vector behind its end where it has fewer channels than a
  // tile, likewise dy below. gates: sigma [B, Ho, Wo, heads] where there is a context, and behind them readable memory
  // for tile_width more.
  void (*forward)(const Arguments&, const A* weights, const A* gates, int64_t first, int64_t last);

  // dx: tasks of images x pairs of rows of x. weights: flipped at a stride of 1.
  void (*input_gradient)(const Arguments&, const A* weights, int64_t first, int64_t last);

  // The parts of dweight -> partial [images x bands, tiles, K K, tile_width]: tasks of images x bands of y x groups of
  // tiles. x and dy: as above.
  void (*weight_parts)(const Arguments&, A* partial, int64_t groups, int64_t first, int64_t last);

  // dweight and dcentre from the parts, of tiles [first, last).
  void (*sum_parts)(const Arguments&, const A* partial, int64_t first, int64_t last);

  // sigma(gate_scores) -> gates [B, Ho, Wo, heads], of rows [first, last) of images x Ho.
  void (*open_gates)(const Arguments&, A* gates, int64_t first, int64_t last);

  // dgate_scores, and the parts of dcontext and of dshift -> sums [2, images x bands, C]: tasks of images x bands of y.
  // scratch: [3, C]
  void (*global_backward)(const Arguments&, double* sums, A* scratch, int64_t first, int64_t last);
};

}  // namespace pumlc::cpu
