// Rows of the weight gradient of a depthwise convolution on the CPU, for one instruction set.
//
// A tile is one vector register of channels. Its source rows are copied to a ring of K rows [padded width, lanes] that
// stays in the L1 cache: in the accumulation dtype, between columns of zeros. Each of its columns is read by K taps of
// K rows of dy; in the map they lie as far apart as it has channels. The taps of a kernel row are summed in registers.
#pragma once

#include <algorithm>

#include "../math/depthwise.h"
#include "channels.h"
#include "depthwise.h"

namespace pumlc::cpu::PUMLC_ISA {

// Source rows of a tile in the accumulation dtype. Row r lies in slot r mod K, between K columns of zeros and at least
// as many again.
template <typename S, typename A, int K>
class Ring {
 public:
  // map [height, width, channels] of an image, from the first channel of the tile on; `count` channels of it exist.
  // memory: [K, depthwise_padded(width), lanes]
  Ring(const S* map, int64_t height, int64_t width, int64_t channels, int64_t count, A* memory)
      : map_(map),
        height_(height),
        width_(width),
        channels_(channels),
        count_(count),
        padded_(depthwise_padded(width)),
        memory_(memory) {
    for (int slot = 0; slot < K; ++slot) {
      A* const row = memory_ + slot * padded_ * kLanes<A>;
      std::fill(row, row + K * kLanes<A>, A(0));
      std::fill(row + (K + width_) * kLanes<A>, row + padded_ * kLanes<A>, A(0));
    }
  }

  // Copies the rows of [begin, end) that exist and are not there yet; end - begin is at most K.
  void bring(int64_t begin, int64_t end) {
    end = std::min(end, height_);
    for (int64_t row = std::max<int64_t>({begin, filled_, 0}); row < end; ++row) {
      copy_row(map_ + row * width_ * channels_, channels_, count_, width_, slot(row));
      filled_ = row + 1;
    }
  }

  // Column 0 of a row, or null where the map has no such row.
  const A* row(int64_t row) const { return row < 0 || row >= height_ ? nullptr : slot(row); }

  // width columns [width, channels] -> [width, lanes], 0 in lanes beyond the last channel.
  static void copy_row(const S* __restrict__ from, int64_t channels, int64_t count, int64_t width, A* __restrict__ to) {
    for (int64_t column = 0; column < width; ++column, from += channels, to += kLanes<A>) {
      Vector<A> value;
      load_some<A>(from, count, value);
      std::memcpy(to, &value, sizeof(value));
      __builtin_prefetch(from + width * channels);  // of the next row: columns lie too far apart for the hardware
    }
  }

 private:
  A* slot(int64_t row) const { return memory_ + (row % K * padded_ + K) * kLanes<A>; }

  const S* map_;
  int64_t height_;
  int64_t width_;
  int64_t channels_;
  int64_t count_;
  int64_t padded_;
  A* memory_;
  int64_t filled_ = 0;  // the first row that no call has brought
};

// Adds to sums [K, K, lanes] what a row of dy, [width, lanes], gives to dweight.
template <int K, int kStride, typename S, typename A>
void add_dweight(const Ring<S, A, K>& x, const A* dy, int64_t row, int64_t width, A* sums) {
  using Taps = math::OutputTaps<K, kStride>;
  // Neighbouring columns have sums of their own: a multiply-add takes 4 cycles, in which 8 could begin.
  constexpr int kSets = K == 3 ? 4 : 2;
  for (int k_row = 0; k_row < K; ++k_row) {
    const A* const row_of_x = x.row(Taps::source_row(row, k_row));
    if (row_of_x == nullptr) continue;
    const A* from = row_of_x + Taps::window_begin(0) * kLanes<A>;
    Vector<A> sets[kSets][K];
    unroll<kSets * K>([&](auto i) PUMLC_LAMBDA_INLINE { sets[i / K][i % K] = Vector<A>{}; });
    const auto add = [&](auto set, const A* upstream, const A* window) PUMLC_LAMBDA_INLINE {
      Vector<A> gradient;
      std::memcpy(&gradient, upstream + set * kLanes<A>, sizeof(gradient));
      unroll<K>([&](auto tap) PUMLC_LAMBDA_INLINE {
        Vector<A> value;
        std::memcpy(&value, window + (set * kStride + tap) * kLanes<A>, sizeof(value));
        sets[set][tap] += value * gradient;
      });
    };
    const A* upstream = dy;
    int64_t column = 0;
    for (; column + kSets <= width; column += kSets) {
      unroll<kSets>([&](auto set) PUMLC_LAMBDA_INLINE { add(set, upstream, from); });
      upstream += kSets * kLanes<A>;
      from += kSets * kStride * kLanes<A>;
    }
    for (; column < width; ++column) {
      add(std::integral_constant<int, 0>(), upstream, from);
      upstream += kLanes<A>;
      from += kStride * kLanes<A>;
    }
    unroll<K>([&](auto tap) PUMLC_LAMBDA_INLINE {
      Vector<A> sum = sets[0][tap];
      unroll<kSets - 1>([&](auto set) PUMLC_LAMBDA_INLINE { sum += sets[set + 1][tap]; });
      Vector<A> total;
      A* const to = sums + (k_row * K + tap) * kLanes<A>;
      std::memcpy(&total, to, sizeof(total));
      total += sum;
      std::memcpy(to, &total, sizeof(total));
    });
  }
}

}  // namespace pumlc::cpu::PUMLC_ISA
