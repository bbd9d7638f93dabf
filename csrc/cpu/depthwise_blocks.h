// Blocks of outputs of a depthwise convolution on the CPU, for one instruction set: y from x, and dx from dy.
//
// The sums of a block stay in registers while the sources of its window pass by: each is loaded once, and multiplied by
// the taps that reach it from either row.
//
// The multiply-adds are the bound (49 for an output at 7 x 7), or else the memory, so nothing but them and the loads
// may be in the loop: vectors are the compiler's vector types, and the loops over columns and taps are unrolled by
// templates, for g++ does not keep an array of sums in registers through a loop that it unrolls late.
#pragma once

#include <vector>

#include "depthwise_window.h"

namespace pumlc::cpu::PUMLC_ISA {

// What the global part adds to y: gate_h(c)(p) context_c + shift_c.
template <typename S, typename A>
class GlobalPart {
 public:
  // gates: [B, Ho, Wo, heads] and kLanes more; null where there is no global part
  GlobalPart(const DepthwiseArguments<S, A>& a, const A* gates) : a_(a), gates_(gates), tiles_(a.channels) {
    if (gates == nullptr) return;
    const int64_t channels_per_head = a.channels / a.heads;
    for (int64_t tile = 0; tile < tiles_.count; ++tile) {
      const int64_t channel = tiles_.first_channel(tile);
      Heads heads{channel / channels_per_head, {}};
      for (int64_t j = 0; j < tiles_.width(); ++j) heads.of_lane[j] = (channel + j) / channels_per_head - heads.first;
      heads_.push_back(heads);
    }
  }

  explicit operator bool() const { return gates_ != nullptr; }

  // A function (row, column, sum) that adds to the sum of a tile at a position of an image of y.
  auto of(int64_t image, int64_t tile) const {
    Vector<A> context;
    Vector<A> shift;
    load_some<A>(a_.context + image * a_.channels + tiles_.first_channel(tile), tiles_.width(), context);
    load_some<A>(a_.shift + tiles_.first_channel(tile), tiles_.width(), shift);
    const Heads heads = heads_[tile];
    const A* const gates = gates_ + image * a_.out_height * a_.out_width * a_.heads + heads.first;
    const int64_t width = a_.out_width;
    const int64_t step = a_.heads;
    return [=](int64_t row, int64_t column, Vector<A>& sum) PUMLC_LAMBDA_INLINE {
      Vector<A> near;  // the gates of as many heads as a tile can have
      std::memcpy(&near, gates + (row * width + column) * step, sizeof(near));
      sum += __builtin_shuffle(near, heads.of_lane) * context + shift;
    };
  }

 private:
  struct Heads {  // of a tile
    int64_t first;
    typename VectorTypes<A>::Indices of_lane;
  };
  const DepthwiseArguments<S, A>& a_;
  const A* gates_;
  Tiles<A> tiles_;
  std::vector<Heads> heads_;
};

// A block of every tile, one after the other: the one of image `index` of a map that begins at `row` and `column`. Of a
// source a vector is read, however few channels there are. weights: [tiles, K, K, lanes]. global: what is added to the
// sums before they are written.
//
// What all tiles share is made once, outside of their loop: it takes as long as the multiply-adds of a 3 x 3. The sums
// are variables of this one function: as members of a class, which has an address, they go through memory.
template <typename Taps, typename S, typename A>
__attribute__((noinline)) void make_blocks(const Image<const S> source, const Image<S> target, int64_t index,
                                           int64_t row, int64_t column, const A* weights,
                                           const GlobalPart<S, A>& global) {
  constexpr int K = Taps::kSize;
  constexpr int kColumns = kBlockColumns<Taps>;
  const Tiles<A> tiles(target.channels);
  const Block<Taps> block(source, target, row, column);
  const Rectangle sources_below = block.sources_below(source, target.width);
  // a processor reads a line before it writes into it
  const Rectangle targets_below = block.targets_below(target.height);

  for (int64_t tile = 0; tile < tiles.count; ++tile) {
    const int64_t channel = tiles.first_channel(tile);
    const A* const of_tile = weights + tile * K * K * kLanes<A>;
    prefetch(source, sources_below, channel);
    prefetch(target, targets_below, channel);

    Vector<A> sums[kBlockRows][kColumns];
    unroll<kColumns>([&](auto t) PUMLC_LAMBDA_INLINE { sums[0][t] = sums[1][t] = Vector<A>{}; });
    // Adds what source rows [r, until) give to the first row of the block, to the second, or to both.
    block.with_source_rows([&](int64_t r, int64_t until, auto to_first, auto to_second) PUMLC_LAMBDA_INLINE {
      constexpr bool kFirst = decltype(to_first)::value;
      constexpr bool kSecond = decltype(to_second)::value;
      for (; r < until; ++r) {
        const A* const of_first = of_tile + Taps::row_tap(r, row) * K * kLanes<A>;
        const A* const of_second = of_tile + Taps::row_tap(r, row + 1) * K * kLanes<A>;
        block.template with_sources<A>(source, r, channel, [&](auto i, const Vector<A>& value) PUMLC_LAMBDA_INLINE {
          unroll<kColumns>([&](auto t) PUMLC_LAMBDA_INLINE {
            constexpr int kTap = Taps::tap(i, t);
            if constexpr (kTap >= 0 && kTap < K) {
              Vector<A> weight;
              if constexpr (kFirst) {
                std::memcpy(&weight, of_first + kTap * kLanes<A>, sizeof(weight));
                sums[0][t] += weight * value;
              }
              if constexpr (kSecond) {
                std::memcpy(&weight, of_second + kTap * kLanes<A>, sizeof(weight));
                sums[1][t] += weight * value;
              }
            }
          });
        });
      }
    });

    const auto each = [&](const auto& f) PUMLC_LAMBDA_INLINE {  // f(row of the block, column of it, sum)
      unroll<kBlockRows * kColumns>([&](auto i) PUMLC_LAMBDA_INLINE {
        constexpr int kRow = i / kColumns;
        constexpr int kColumn = i % kColumns;
        if (kRow < block.rows && kColumn < block.columns) f(kRow, kColumn, sums[kRow][kColumn]);
      });
    };
    if (global) {
      const auto add_global = global.of(index, tile);
      each([&](int64_t r, int64_t t, Vector<A>& sum) PUMLC_LAMBDA_INLINE { add_global(row + r, column + t, sum); });
    }
    S* const to = target.data + row * target.pitch() + column * target.channels + channel;
    if (target.channels >= kLanes<A>) {
      each([&](int64_t r, int64_t t, const Vector<A>& sum)
               PUMLC_LAMBDA_INLINE { store<A>(sum, to + r * target.pitch() + t * target.channels); });
    } else {
      each([&](int64_t r, int64_t t, const Vector<A>& sum) PUMLC_LAMBDA_INLINE {
        const Vector<A> copy = sum;
        store_some<A>(copy, target.channels, to + r * target.pitch() + t * target.channels);
      });
    }
  }
}

// Rows [row, row + kBlockRows) of image `index` of a map, as far as it has them. row: a multiple of kBlockRows.
template <typename Taps, typename S, typename A>
void make_rows(const Image<const S>& source, const Image<S>& target, int64_t index, int64_t row, const A* weights,
               const GlobalPart<S, A>& global) {
  for (int64_t column = 0; column < target.width; column += kBlockColumns<Taps>)
    make_blocks<Taps>(source, target, index, row, column, weights, global);
}

}  // namespace pumlc::cpu::PUMLC_ISA
