// How the CPU kernels of feature maps [B, P, C] divide their work; the same for every instruction set.
//
// An image's P positions are cut into chunks, which threads share and whose sums are added in their order: the result
// does not depend on how many threads there are. A chunk is read in tiles that stay in the L1 or L2 cache.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../math/elementary.h"

namespace pumlc::cpu {

constexpr int kHeadBlock = 8;     // heads at a time: their accumulators fit the registers
constexpr int kChannelUnit = 16;  // tiles have a multiple of so many channels: whole vectors of any instruction set
constexpr int kPositionUnit = 4;  // scores are read in multiples of so many positions: 32 at a time

PUMLC_HOST_DEVICE constexpr int64_t padded_to(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }
PUMLC_HOST_DEVICE constexpr int64_t padded_channels(int64_t channels) { return padded_to(channels, kChannelUnit); }
PUMLC_HOST_DEVICE constexpr int64_t padded_heads(int64_t heads) { return padded_to(heads, kHeadBlock); }

// Positions of a tile: 32 KB of floats at most.
PUMLC_HOST_DEVICE constexpr int64_t tile_positions(int64_t channels) {
  return padded_to(std::clamp<int64_t>((1 << 13) / padded_channels(channels), 8, 32), kPositionUnit);
}

// The chunks of a feature map.
struct Chunks {
  int64_t size;  // positions of a chunk; the last of an image may have fewer
  int64_t per_image;
  int64_t count;

  Chunks(int64_t images, int64_t positions, int64_t channels) {
    // 256 KB of floats; the sums of a chunk, as many as 8 positions have channels, weigh little beside it;
    // no more positions, for rounding errors add up along them
    size = padded_to(std::clamp<int64_t>((1 << 16) / padded_channels(channels), 64, 1024), kPositionUnit);
    per_image = (positions + size - 1) / size;
    count = images * per_image;
  }
};

}  // namespace pumlc::cpu
