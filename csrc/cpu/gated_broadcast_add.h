// CPU kernels of the gated broadcast-add: what an instruction-set variant offers.
#pragma once

#include "../gated_broadcast_add.h"
#include "tiles.h"

namespace pumlc::cpu {

// K8 heads: K rounded up to whole blocks; N channels: O rounded up to whole vectors.
template <typename S, typename A>
struct GatedBroadcastAddWork {
  GatedBroadcastAddArguments<S, A> arguments;
  Chunks chunks;
  A* partial;         // [B, chunks, K8, N]   backward, finish: M
  A* partial_totals;  // [B, chunks, N]       backward, finish: sums of the upstream gradient

  int64_t padded_heads() const { return cpu::padded_heads(arguments.heads); }
  int64_t padded_channels() const { return cpu::padded_channels(arguments.channels); }
  int64_t tile() const { return tile_positions(arguments.channels); }
  // Elements of A that a range of chunks needs, in either pass.
  int64_t scratch() const {
    return (padded_heads() + 1) * padded_channels() + tile() * (3 * kHeadBlock + padded_channels());
  }
};

template <typename S, typename A>
struct GatedBroadcastAddKernels {
  using Work = GatedBroadcastAddWork<S, A>;
  // The chunks first to last - 1.
  void (*forward)(const Work&, int64_t first, int64_t last, A* scratch);
  void (*backward)(const Work&, int64_t first, int64_t last, A* scratch);
  // Adds up the chunks for the channels of the units (of kChannelUnit) first to last - 1.
  void (*finish)(const Work&, int64_t first, int64_t last);
};

}  // namespace pumlc::cpu
