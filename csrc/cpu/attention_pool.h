// CPU kernels of attention pooling: what an instruction-set variant offers.
#pragma once

#include "../attention_pool.h"
#include "tiles.h"

namespace pumlc::cpu {

// K8 heads: K rounded up to whole blocks; N channels: C rounded up to whole vectors.
template <typename S, typename A>
struct AttentionPoolWork {
  AttentionPoolArguments<S, A> arguments;
  Chunks chunks;
  A* partial;             // [B, chunks, K8, N]   forward, finish
  A* partial_statistics;  // [B, chunks, 2, K8]   forward, finish

  int64_t padded_heads() const { return cpu::padded_heads(arguments.heads); }
  int64_t padded_channels() const { return cpu::padded_channels(arguments.channels); }
  int64_t tile() const { return tile_positions(arguments.channels); }
  // Elements of A that a range of chunks needs.
  int64_t forward_scratch() const { return padded_heads() * chunks.size + tile() * padded_channels(); }
  int64_t backward_scratch() const {
    return padded_heads() * (padded_channels() + 3) + tile() * 2 * (kHeadBlock + padded_channels());
  }
};

template <typename S, typename A>
struct AttentionPoolKernels {
  using Work = AttentionPoolWork<S, A>;
  // The chunks first to last - 1.
  void (*forward)(const Work&, int64_t first, int64_t last, A* scratch);
  void (*backward)(const Work&, int64_t first, int64_t last, A* scratch);
  // Adds up the chunks of the heads first to last - 1 of all B K.
  void (*finish)(const Work&, int64_t first, int64_t last);
};

}  // namespace pumlc::cpu
