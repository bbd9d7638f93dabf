// The CPU kernels of the gated broadcast-add (math/gated_broadcast_add.h), for one instruction set: isa/*.cpp include
// this file with PUMLC_ISA naming a namespace and the compiler's target set.
//
// Each pass reads its feature map once, in tiles. Backward, a chunk of positions has sums of its own, which finish()
// adds in their order.
#include <algorithm>

#include "../math/gated_broadcast_add.h"
#include "gated_broadcast_add.h"
#include "position_products.h"

namespace pumlc::cpu::PUMLC_ISA {

// The vectors v [K8, N] of image b, scale u with zeros for heads and channels that do not exist.
template <typename S, typename A>
void scaled_vectors(const GatedBroadcastAddWork<S, A>& work, int64_t b, A* v) {
  const auto& a = work.arguments;
  const int64_t channels = work.padded_channels();
  std::fill(v, v + work.padded_heads() * channels, A(0));
  const A* const u = a.u + b * a.channels * a.heads;
  for (int64_t k = 0; k < a.heads; ++k)
    for (int64_t o = 0; o < a.channels; ++o) v[k * channels + o] = a.scale[o] * u[o * a.heads + k];
}

template <typename S, typename A>
void gated_broadcast_add_forward(const GatedBroadcastAddWork<S, A>& work, int64_t first, int64_t last, A* scratch) {
  const auto& a = work.arguments;
  const int64_t heads = work.padded_heads();
  const int64_t channels = work.padded_channels();
  A* const v = scratch;                   // [K8, N]
  A* const shift = v + heads * channels;  // [N]
  A* const gates = shift + channels;      // [tile, 8]
  const TileRows<S, A> tile(a.channels, gates + work.tile() * kHeadBlock);
  std::fill(std::copy(a.shift, a.shift + a.channels, shift), shift + channels, A(0));
  int64_t current = -1;
  for (int64_t unit = first; unit < last; ++unit) {
    const int64_t b = unit / work.chunks.per_image;
    const int64_t begin = unit % work.chunks.per_image * work.chunks.size;
    const int64_t end = std::min(begin + work.chunks.size, a.positions);
    if (b != current) scaled_vectors(work, b, v);
    current = b;
    for (int64_t p = begin; p < end; p += work.tile()) {
      const int64_t rows = std::min(work.tile(), end - p);
      const int64_t at = (b * a.positions + p) * a.channels;
      const A* y = tile.read(a.y + at, rows);
      A* const out = tile.target(a.out + at);
      for (int64_t k = 0; k < heads; k += kHeadBlock) {
        read_scores(a.gate_scores, b, k / kHeadBlock, a.heads, p, rows, gates);
        for (int64_t i = 0; i < rows * kHeadBlock; ++i) gates[i] = math::gate(gates[i]);
        spread(gates, v + k * channels, rows, channels, out, [&](int64_t i, int64_t c, Vector<A>& sum) {
          sum += k == 0 ? load(y + i * channels + c) + load(shift + c) : load(out + i * channels + c);
        });
      }
      tile.write(a.out + at, rows);
    }
  }
}

template <typename S, typename A>
void gated_broadcast_add_backward(const GatedBroadcastAddWork<S, A>& work, int64_t first, int64_t last, A* scratch) {
  const auto& a = work.arguments;
  const int64_t heads = work.padded_heads();
  const int64_t channels = work.padded_channels();
  A* const v = scratch;                                // [K8, N]
  A* const gates = v + heads * channels;               // [tile, 8]
  A* const slopes = gates + work.tile() * kHeadBlock;  // [tile, 8]
  A* const d = slopes + work.tile() * kHeadBlock;      // [tile, 8]
  const TileRows<S, A> tile(a.channels, d + work.tile() * kHeadBlock);
  int64_t current = -1;
  for (int64_t unit = first; unit < last; ++unit) {
    const int64_t b = unit / work.chunks.per_image;
    const int64_t begin = unit % work.chunks.per_image * work.chunks.size;
    const int64_t end = std::min(begin + work.chunks.size, a.positions);
    if (b != current) scaled_vectors(work, b, v);
    current = b;
    A* const sums = work.partial + unit * heads * channels;
    A* const totals = work.partial_totals + unit * channels;
    std::fill(sums, sums + heads * channels, A(0));
    std::fill(totals, totals + channels, A(0));
    for (int64_t p = begin; p < end; p += work.tile()) {
      const int64_t rows = std::min(work.tile(), end - p);
      const A* g = tile.read(a.upstream + (b * a.positions + p) * a.channels, rows);
      for (int64_t k = 0; k < heads; k += kHeadBlock) {
        read_scores(a.gate_scores, b, k / kHeadBlock, a.heads, p, rows, gates);
        for (int64_t i = 0; i < rows * kHeadBlock; ++i) {
          slopes[i] = math::gate_slope(gates[i]);
          gates[i] = math::gate(gates[i]);
        }
        if (k == 0)
          accumulate<true>(g, gates, rows, channels, sums, totals);
        else
          accumulate<false>(g, gates, rows, channels, sums + k * channels);
        dots(g, v + k * channels, rows, channels, d);
        for (int64_t i = 0; i < rows * kHeadBlock; ++i) d[i] *= slopes[i];
        write_scores(a.gate_gradient, b, k / kHeadBlock, a.heads, p, rows, d);
      }
    }
  }
}

template <typename S, typename A>
void gated_broadcast_add_finish(const GatedBroadcastAddWork<S, A>& work, int64_t first, int64_t last) {
  const auto& a = work.arguments;
  const int64_t heads = work.padded_heads();
  const int64_t channels = work.padded_channels();
  for (int64_t begin = first * kChannelUnit; begin < last * kChannelUnit; begin += kChannelUnit) {
    const int64_t width = std::min<int64_t>(kChannelUnit, a.channels - begin);
    double scale_gradient[kChannelUnit] = {};
    double shift_gradient[kChannelUnit] = {};
    for (int64_t b = 0; b < a.images; ++b) {
      const int64_t unit = b * work.chunks.per_image;
      for (int64_t j = unit; j < unit + work.chunks.per_image; ++j)
        for (int o = 0; o < kChannelUnit; ++o) shift_gradient[o] += work.partial_totals[j * channels + begin + o];
      for (int64_t k = 0; k < a.heads; ++k) {
        A sums[kChannelUnit] = {};
        for (int64_t j = unit; j < unit + work.chunks.per_image; ++j)
          for (int o = 0; o < kChannelUnit; ++o) sums[o] += work.partial[(j * heads + k) * channels + begin + o];
        for (int64_t o = 0; o < width; ++o) {
          const int64_t at = (b * a.channels + begin + o) * a.heads + k;
          scale_gradient[o] += static_cast<double>(sums[o]) * a.u[at];
          a.u_gradient[at] = a.scale[begin + o] * sums[o];
        }
      }
    }
    for (int64_t o = 0; o < width; ++o) {
      a.scale_gradient[begin + o] = static_cast<A>(scale_gradient[o]);
      a.shift_gradient[begin + o] = static_cast<A>(shift_gradient[o]);
    }
  }
}

template <typename S, typename A>
constexpr GatedBroadcastAddKernels<S, A> gated_broadcast_add_kernels() {
  return {gated_broadcast_add_forward<S, A>, gated_broadcast_add_backward<S, A>, gated_broadcast_add_finish<S, A>};
}

}  // namespace pumlc::cpu::PUMLC_ISA
