// Blocks of a depthwise convolution's target on the CPU, for one instruction set: where a block and the sources of its
// window lie, and what can be asked for ahead of the next one.
//
// A block is two rows by a few columns by a tile, one vector register of channels. Sources are read from the map where
// they lie; tiles come next to each other, so that a map is read and written in the order of its memory.
#pragma once

#include <algorithm>

#include "../depthwise.h"
#include "../math/depthwise.h"
#include "channels.h"
#include "depthwise.h"

namespace pumlc::cpu::PUMLC_ISA {

constexpr int kBlockRows = kDepthwiseBlockRows;

// Of 32 registers, 14 for the targets leave room for two kernel rows of 7; where there are 16, one of both is in
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
  int64_t pitch() const { return width * channels; }
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

// What a processor reads in place of positions that are not there.
template <typename S, typename A>
alignas(64) constexpr S kZeros[kLanes<A>] = {};

// Positions of an image.
struct Rectangle {
  int64_t first_row;
  int64_t end_row;
  int64_t first_column;
  int64_t end_column;
};

// Asks for a tile's channels of some positions, into the L2 cache.
template <typename S>
PUMLC_INLINE void prefetch(const Image<S>& image, const Rectangle& at, int64_t channel) {
  const S* const from = image.data + channel;
  for (int64_t r = at.first_row; r < at.end_row; ++r)
    for (int64_t i = at.first_column; i < at.end_column; ++i)
      __builtin_prefetch(from + r * image.pitch() + i * image.channels, 0, 2);
}

// The block of a target image that begins at a row and a column, multiples of kBlockRows and kBlockColumns, as far as
// the image has it.
template <typename Taps>
struct Block {
  static constexpr int kColumns = kBlockColumns<Taps>;
  static constexpr int kWindow = Taps::window(kColumns);
  static_assert(kBlockRows % Taps::kBlockStep == 0 && kColumns % Taps::kBlockStep == 0);

  int64_t row;
  int64_t column;
  int64_t rows;
  int64_t columns;
  int64_t window_begin;  // of kWindow source columns, some of which may be outside of the image
  // Source rows that exist: [first_row, both) belong to the first row of the block alone, [both, end) to both, and
  // [end, last_row) to the second alone.
  int64_t first_row;
  int64_t both;
  int64_t end;
  int64_t last_row;

  template <typename S, typename T>
  Block(const Image<S>& source, const Image<T>& target, int64_t row, int64_t column)
      : row(row),
        column(column),
        rows(std::min<int64_t>(kBlockRows, target.height - row)),
        columns(std::min<int64_t>(kColumns, target.width - column)),
        window_begin(Taps::window_begin(column)),
        first_row(std::max<int64_t>(Taps::first_source_row(row), 0)),
        end(std::min(Taps::last_source_row(row) + 1, source.height)) {
    both = rows == kBlockRows ? std::max<int64_t>(Taps::first_source_row(row + 1), 0) : end;
    last_row = rows == kBlockRows ? std::min(Taps::last_source_row(row + 1) + 1, source.height) : end;
  }

  // Calls f(first source row, end, to_first, to_second) for the source rows in their order.
  template <typename F>
  PUMLC_INLINE void with_source_rows(const F& f) const {
    f(first_row, std::min(both, end), std::true_type(), std::false_type());
    f(both, end, std::true_type(), std::true_type());
    f(std::max<int64_t>(end, 0), last_row, std::false_type(), std::true_type());
  }

  // Calls f(i, value) for the columns of the window in source row r: the vector of channels from `channel` on, or zeros
  // where there is no such column. All are asked: a version for blocks that need not ask is no faster.
  template <typename A, typename S, typename F>
  PUMLC_INLINE void with_sources(const Image<S>& source, int64_t r, int64_t channel, const F& f) const {
    const S* const window = source.data + channel + r * source.pitch() + window_begin * source.channels;
    unroll<kWindow>([&](auto i) PUMLC_LAMBDA_INLINE {
      const bool is_there = static_cast<uint64_t>(window_begin + i) < static_cast<uint64_t>(source.width);
      Vector<A> value;
      load<A>(is_there ? window + i * source.channels : kZeros<std::remove_const_t<S>, A>, value);
      f(i, value);
    });
  }

  // Sources that the block below needs and this one does not; a column belongs to one block of a row alone.
  template <typename S>
  Rectangle sources_below(const Image<S>& source, int64_t target_width) const {
    const int64_t next = column + kColumns;
    return {Taps::last_source_row(row + kBlockRows - 1) + 1,
            std::min(Taps::last_source_row(row + 2 * kBlockRows - 1) + 1, source.height),
            std::max<int64_t>(window_begin, 0),
            next < target_width ? std::min(Taps::window_begin(next), source.width) : source.width};
  }

  // The targets of the block below.
  Rectangle targets_below(int64_t target_height) const {
    return {row + kBlockRows, std::min(row + 2 * kBlockRows, target_height), column, column + columns};
  }
};

}  // namespace pumlc::cpu::PUMLC_ISA
