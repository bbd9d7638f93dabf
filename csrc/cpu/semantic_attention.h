// CPU kernels of semantic attention: what an instruction-set variant offers.
#pragma once

#include "../semantic_attention.h"
#include "tiles.h"

namespace pumlc::cpu {

// Forward, threads share tiles of rows (positions of images) by classes; backward, slices of the dimensions, each with
// all rows and classes: what a thread adds up is its own, and the result does not depend on how many threads there are.
// A slice goes through the rows and classes in tiles too, the sums of a tile joining those of the tiles before it.
constexpr int64_t kTileRows = 32;
constexpr int64_t kTileClasses = 32;

template <typename S, typename A>
struct SemanticAttentionWork {
  SemanticAttentionArguments<S, A> arguments;
  const A* upstream;  // [B P, C]   backward: rows as the kernel reads them

  int64_t padded_dimensions() const { return padded_to(arguments.dimensions, kChannelUnit); }
  int64_t class_tiles() const { return (arguments.classes + kTileClasses - 1) / kTileClasses; }
  int64_t tiles() const { return (arguments.rows() + kTileRows - 1) / kTileRows * class_tiles(); }
  int64_t slices() const { return padded_dimensions() / kChannelUnit; }
  // Elements of A that a range of tiles or slices needs.
  int64_t forward_scratch() const { return (kTileRows + kTileClasses + 1) * padded_dimensions(); }
  int64_t backward_scratch() const {
    constexpr int64_t kDouble = sizeof(double) / sizeof(A);
    return (2 * kTileRows + kTileClasses + (1 + kDouble) * arguments.classes) * kChannelUnit;
  }
};

template <typename S, typename A>
struct SemanticAttentionKernels {
  using Work = SemanticAttentionWork<S, A>;
  // The tiles first to last - 1.
  void (*forward)(const Work&, int64_t first, int64_t last, A* scratch);
  // The slices first to last - 1.
  void (*backward)(const Work&, int64_t first, int64_t last, A* scratch);
};

}  // namespace pumlc::cpu
