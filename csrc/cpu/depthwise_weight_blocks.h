// The weight gradient of a depthwise convolution on the CPU, for one instruction set, block by block of dy.
//
// The gradients of a block stay in registers (where there are 32 of them) while the sources of its window pass by, as
// the sums do where y is made; the taps of the two kernel rows that a source row belongs to are summed in registers,
// too. Where a row ends within a block, gradients of 0 meet sources: one that is not finite reaches the row's other
// taps.
#pragma once

#include "depthwise_window.h"

namespace pumlc::cpu::PUMLC_ISA {

// Adds to sums [last - first, K, K, lanes] of tiles [first, last) what the block of dy that begins at `row` and
// `column` gives to dweight. Of a position a vector is read, however few channels there are.
template <typename Taps, typename S, typename A>
__attribute__((noinline)) void add_weight_blocks(const Image<const S> x, const Image<const S> dy, int64_t row,
                                                 int64_t column, int64_t first, int64_t last, A* sums) {
  constexpr int K = Taps::kSize;
  constexpr int kColumns = kBlockColumns<Taps>;
  const Tiles<A> tiles(x.channels);
  const Block<Taps> block(x, dy, row, column);
  const Rectangle sources_below = block.sources_below(x, dy.width);
  const Rectangle gradients_below = block.targets_below(dy.height);

  for (int64_t tile = first; tile < last; ++tile) {
    const int64_t channel = tiles.first_channel(tile);
    A* const of_tile = sums + (tile - first) * K * K * kLanes<A>;
    prefetch(x, sources_below, channel);
    prefetch(dy, gradients_below, channel);

    Vector<A> gradients[kBlockRows][kColumns];
    const S* const from = dy.data + channel + row * dy.pitch() + column * dy.channels;
    unroll<kBlockRows * kColumns>([&](auto i) PUMLC_LAMBDA_INLINE {
      constexpr int kRow = i / kColumns;
      constexpr int kColumn = i % kColumns;
      const bool is_there = kRow < block.rows && kColumn < block.columns;
      Vector<A> gradient;
      load<A>(is_there ? from + kRow * dy.pitch() + kColumn * dy.channels : kZeros<S, A>, gradient);
      gradients[kRow][kColumn] = gradient;
    });

    block.with_source_rows([&](int64_t r, int64_t until, auto of_first, auto of_second) PUMLC_LAMBDA_INLINE {
      constexpr bool kFirst = decltype(of_first)::value;
      constexpr bool kSecond = decltype(of_second)::value;
      for (; r < until; ++r) {
        Vector<A> of_taps[kBlockRows][K];
        unroll<K>([&](auto k) PUMLC_LAMBDA_INLINE { of_taps[0][k] = of_taps[1][k] = Vector<A>{}; });
        block.template with_sources<A>(x, r, channel, [&](auto i, const Vector<A>& value) PUMLC_LAMBDA_INLINE {
          unroll<kColumns>([&](auto t) PUMLC_LAMBDA_INLINE {
            constexpr int kTap = Taps::tap(i, t);
            if constexpr (kTap >= 0 && kTap < K) {
              if constexpr (kFirst) of_taps[0][kTap] += value * gradients[0][t];
              if constexpr (kSecond) of_taps[1][kTap] += value * gradients[1][t];
            }
          });
        });
        const auto add_to = [&](int64_t k_row, const auto& taps) PUMLC_LAMBDA_INLINE {
          unroll<K>([&](auto k) PUMLC_LAMBDA_INLINE {
            Vector<A> sum;
            A* const to = of_tile + (k_row * K + k) * kLanes<A>;
            std::memcpy(&sum, to, sizeof(sum));
            sum += taps[k];
            std::memcpy(to, &sum, sizeof(sum));
          });
        };
        if constexpr (kFirst) add_to(Taps::row_tap(r, row), of_taps[0]);
        if constexpr (kSecond) add_to(Taps::row_tap(r, row + 1), of_taps[1]);
      }
    });
  }
}

}  // namespace pumlc::cpu::PUMLC_ISA
