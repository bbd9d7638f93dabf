// Blocks of outputs of a depthwise convolution on the CPU, for one instruction set: y from x, and dx from dy.
//
// A block is two rows by a few columns by a tile, one vector register of channels. Its sums stay in registers while the
// sources of its window pass by, read from the map where they lie: each is loaded once, and multiplied by the taps that
// reach it from either row. Tiles come next to each other, so that a map is read and written in the order of its
// memory, and what the next two rows will bring is asked for in time.
//
// The multiply-adds are the bound (49 for an output at 7 x 7), or else the memory, so nothing but them and the loads
// may be in the loop: vectors are the compiler's vector types, and the loops over columns and taps are unrolled by
// templates, for g++ does not keep an array of sums in registers through a loop that it unrolls late.
#pragma once

#include <algorithm>
#include <vector>

#include "../depthwise.h"
#include "../math/depthwise.h"
#include "channels.h"
#include "depthwise.h"

namespace pumlc::cpu::PUMLC_ISA {

constexpr int kBlockRows = kDepthwiseBlockRows;

// Of 32 registers, 14 sums leave room for the 14 weights of two kernel rows; where there are 16, weights come from
// memory. 7 divides the widths of 448 and 224 pixels at every depth.
template <typename Taps>
constexpr int kBlockColumns = Taps::kBlockStep == 1 ? 7
                              : kVectorBytes == 64  ? 8
                                                    : 6;

// An image [height, width, channels] of a channels_last map.
template <typename S>
struct Image {
  S* data;
  int64_t height;
  int64_t width;
  int64_t channels;
};

// The tiles of a number of channels. The last one ends with the last channel and begins in the one before it, so that
// only a map of fewer channels than a tile has a tile that is not whole.
template <typename A>
struct Tiles {
  int64_t count;
  int64_t channels;
  explicit Tiles(int64_t channels) : count((channels + kLanes<A> - 1) / kLanes<A>), channels(channels) {}
  int64_t first_channel(int64_t tile) const {
    return std::min(tile * kLanes<A>, std::max<int64_t>(channels - kLanes<A>, 0));
  }
  int64_t width() const { return std::min<int64_t>(channels, kLanes<A>); }
};

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

// A block of every tile, one after the other: two rows from `row` on and kBlockColumns columns from `column` on, as far
// as image `index` of a map has them. Of a source a vector is read, however few channels there are. weights:
// [tiles, K, K, lanes]. global: what is added to the sums before they are written.
//
// What all tiles share is made once, outside of their loop: it takes as long as the multiply-adds of a 3 x 3. The sums
// are variables of this one function: as members of a class, which has an address, they go through memory.
template <typename Taps, typename S, typename A>
__attribute__((noinline)) void make_blocks(const Image<const S> source, const Image<S> target, int64_t index,
                                           int64_t row, int64_t column, const A* weights,
                                           const GlobalPart<S, A>& global) {
  constexpr int K = Taps::kSize;
  constexpr int kColumns = kBlockColumns<Taps>;
  constexpr int kWindow = Taps::window(kColumns);
  static_assert(kBlockRows % Taps::kBlockStep == 0 && kColumns % Taps::kBlockStep == 0);
  alignas(64) static constexpr S kZeros[kLanes<A>] = {};
  const Tiles<A> tiles(target.channels);
  const int64_t rows = std::min<int64_t>(kBlockRows, target.height - row);
  const int64_t columns = std::min<int64_t>(kColumns, target.width - column);
  const int64_t pitch = source.width * source.channels;
  const int64_t target_pitch = target.width * target.channels;

  // source columns of a window, and source rows of the first row alone, of both, and of the second alone
  const int64_t begin = Taps::window_begin(column);
  const int64_t first_row = std::max<int64_t>(Taps::first_source_row(row), 0);
  const int64_t end = std::min(Taps::last_source_row(row) + 1, source.height);
  const int64_t both = rows == kBlockRows ? std::max<int64_t>(Taps::first_source_row(row + 1), 0) : end;
  const int64_t last_row = rows == kBlockRows ? std::min(Taps::last_source_row(row + 1) + 1, source.height) : end;

  // Sources that the two rows below need and these do not are asked for now, each column by one block of a row.
  const int64_t below = Taps::last_source_row(row + kBlockRows - 1) + 1;
  const int64_t end_below = std::min(Taps::last_source_row(row + 2 * kBlockRows - 1) + 1, source.height);
  const int64_t next = column + kColumns;
  const int64_t first_near = std::max<int64_t>(begin, 0);
  const int64_t last_near = next < target.width ? std::min(Taps::window_begin(next), source.width) : source.width;
  // So are the targets of the two rows below, since a processor reads a line before it writes into it.
  const int64_t end_of_targets = std::min<int64_t>(2 * kBlockRows, target.height - row);

  const auto make = [&](int64_t tile, auto guarded) PUMLC_LAMBDA_INLINE {
    constexpr bool kGuarded = decltype(guarded)::value;  // some of the source columns are outside of the map
    const int64_t channel = tiles.first_channel(tile);
    const S* const from = source.data + channel;
    const A* const of_tile = weights + tile * K * K * kLanes<A>;
    for (int64_t r = below; r < end_below; ++r)
      for (int64_t i = first_near; i < last_near; ++i)
        __builtin_prefetch(from + r * pitch + i * source.channels, 0, 2);  // into the L2 cache
    S* const to = target.data + row * target_pitch + column * target.channels + channel;
    for (int64_t r = kBlockRows; r < end_of_targets; ++r)
      for (int64_t t = 0; t < columns; ++t) __builtin_prefetch(to + r * target_pitch + t * target.channels, 0, 2);

    Vector<A> sums[kBlockRows][kColumns];
    unroll<kColumns>([&](auto t) PUMLC_LAMBDA_INLINE { sums[0][t] = sums[1][t] = Vector<A>{}; });
    // Adds what source rows [r, until) give to the first row of the block, to the second, or to both.
    const auto add = [&](int64_t r, int64_t until, auto to_first, auto to_second) PUMLC_LAMBDA_INLINE {
      constexpr bool kFirst = decltype(to_first)::value;
      constexpr bool kSecond = decltype(to_second)::value;
      for (; r < until; ++r) {
        const S* const window = from + r * pitch + begin * source.channels;
        const A* const of_first = of_tile + Taps::row_tap(r, row) * K * kLanes<A>;
        const A* const of_second = of_tile + Taps::row_tap(r, row + 1) * K * kLanes<A>;
        unroll<kWindow>([&](auto i) PUMLC_LAMBDA_INLINE {
          const S* at = window + i * source.channels;
          if constexpr (kGuarded) {
            const bool is_there = static_cast<uint64_t>(begin + i) < static_cast<uint64_t>(source.width);
            at = is_there ? at : kZeros;
          }
          Vector<A> value;
          load<A>(at, value);
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
    };
    add(first_row, std::min(both, end), std::true_type(), std::false_type());
    add(both, end, std::true_type(), std::true_type());
    add(std::max<int64_t>(end, 0), last_row, std::false_type(), std::true_type());

    const auto each = [&](const auto& f) PUMLC_LAMBDA_INLINE {  // f(row of the block, column of it, sum)
      unroll<kBlockRows * kColumns>([&](auto i) PUMLC_LAMBDA_INLINE {
        constexpr int kRow = i / kColumns;
        constexpr int kColumn = i % kColumns;
        if (kRow < rows && kColumn < columns) f(kRow, kColumn, sums[kRow][kColumn]);
      });
    };
    if (global) {
      const auto add_global = global.of(index, tile);
      each([&](int64_t r, int64_t t, Vector<A>& sum) PUMLC_LAMBDA_INLINE { add_global(row + r, column + t, sum); });
    }
    if (target.channels >= kLanes<A>) {
      each([&](int64_t r, int64_t t, const Vector<A>& sum)
               PUMLC_LAMBDA_INLINE { store<A>(sum, to + r * target_pitch + t * target.channels); });
    } else {
      each([&](int64_t r, int64_t t, const Vector<A>& sum) PUMLC_LAMBDA_INLINE {
        const Vector<A> copy = sum;
        store_some<A>(copy, target.channels, to + r * target_pitch + t * target.channels);
      });
    }
  };
  // the second version is for speed alone, and not compiled for what nobody waits for
  constexpr bool kFast = kVectorBytes >= 32 && std::is_same_v<A, float>;
  if (kFast && begin >= 0 && begin + kWindow <= source.width) {
    for (int64_t tile = 0; tile < tiles.count; ++tile) make(tile, std::bool_constant<!kFast>());
  } else {
    for (int64_t tile = 0; tile < tiles.count; ++tile) make(tile, std::true_type());
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
