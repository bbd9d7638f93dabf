// Rows of a depthwise convolution on the CPU, for one instruction set: sources in a ring, blocks of columns from them.
//
// A tile is one vector register of channels. Its source rows are copied to a ring of K rows [padded width, lanes] that
// stays in the L1 cache: in the accumulation dtype, between columns of zeros, whatever the dtype and the number of
// channels of the map. From there a block of neighbouring columns is made at a time, with its sums in registers while
// the window of its sources passes by: for every kernel row each source is loaded once and multiplied by the taps that
// reach it. For dweight it is the taps of a kernel row that are summed in registers.
//
// The multiply-adds are the bound (49 for an output at 7 x 7), so nothing but them and the loads may be in the loop:
// vectors are the compiler's vector types, and the loops over columns and taps are unrolled by templates, for g++ does
// not keep an array of sums in registers through a loop that it unrolls late.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstring>
#include <utility>

#if PUMLC_VECTOR_BYTES >= 32
#include <immintrin.h>
#endif

#include "../math/depthwise.h"
#include "depthwise.h"
#include "vector.h"

namespace pumlc::cpu::PUMLC_ISA {

constexpr bool kManyRegisters = kVectorBytes == 64;
// Columns of a block. With 7 weights and a source, 14 sums fill 22 of 32 registers, and 14 divides 112; where there are
// 16 registers the weights come from memory.
constexpr int kColumns = kManyRegisters ? 14 : 8;
constexpr int kFewColumns = kManyRegisters ? 8 : 4;

#define PUMLC_LAMBDA_INLINE __attribute__((always_inline))

// f(0), ..., f(N - 1), each with its number as a constant.
template <typename F, int... I>
PUMLC_INLINE void unroll(const F& f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>()), ...);
}
template <int N, typename F>
PUMLC_INLINE void unroll(const F& f) {
  PUMLC_ISA::unroll(f, std::make_integer_sequence<int, N>());
}

// A whole vector of neighbouring channels.
template <typename A, typename S>
PUMLC_INLINE void load(const S* from, Vector<A>& to) {
  if constexpr (std::is_same_v<S, A>) {
    std::memcpy(&to, from, sizeof(to));
  } else if constexpr (std::is_same_v<S, c10::BFloat16>) {
    typedef uint16_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
    typedef uint32_t Wide __attribute__((vector_size(kVectorBytes)));
    Narrow narrow;
    std::memcpy(&narrow, from, sizeof(narrow));
    const Wide wide = __builtin_convertvector(narrow, Wide) << 16;
    std::memcpy(&to, &wide, sizeof(to));
  } else {
#if PUMLC_VECTOR_BYTES == 64
    to = _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif PUMLC_VECTOR_BYTES == 32
    to = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
    for (int j = 0; j < kLanes<A>; ++j) to[j] = static_cast<A>(from[j]);
#endif
  }
}

template <typename A, typename S>
PUMLC_INLINE void store(const Vector<A>& from, S* to) {
  if constexpr (std::is_same_v<S, A>) {
    std::memcpy(to, &from, sizeof(from));
  } else {
    A lanes[kLanes<A>];
    std::memcpy(lanes, &from, sizeof(lanes));
#pragma GCC unroll 1  // unrolled it would be scalar code before it is made a vector's
    for (int j = 0; j < kLanes<A>; ++j) to[j] = static_cast<S>(lanes[j]);
  }
}

// Source rows of a tile in the accumulation dtype. Row r lies in slot r mod K, its column 0 after K columns of zeros;
// behind the last column there are as many zeros as the windows of a block that begins there reach.
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
    if (count == kLanes<A>) {
      for (int64_t column = 0; column < width; ++column, from += channels, to += kLanes<A>) {
        Vector<A> value;
        load<A>(from, value);
        std::memcpy(to, &value, sizeof(value));
        __builtin_prefetch(from + width * channels);  // of the next row: columns lie too far apart for the hardware
      }
    } else {
      for (int64_t column = 0; column < width; ++column, from += channels, to += kLanes<A>) {
        for (int64_t j = 0; j < count; ++j) to[j] = static_cast<A>(from[j]);
        for (int64_t j = count; j < kLanes<A>; ++j) to[j] = A(0);
      }
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

// Adds to the sums of a block what one source row gives by one kernel row. source: the window's first column.
template <typename Taps, int columns, typename A>
PUMLC_INLINE void gather(const A* __restrict__ source, const A* __restrict__ weights, Vector<A> (&sums)[columns]) {
  unroll<Taps::window(columns)>([&](auto i) PUMLC_LAMBDA_INLINE {
    Vector<A> value;
    std::memcpy(&value, source + i * kLanes<A>, sizeof(value));
    unroll<columns>([&](auto t) PUMLC_LAMBDA_INLINE {
      constexpr int kTap = Taps::tap(i, t);
      if constexpr (kTap >= 0 && kTap < Taps::kSize) {
        Vector<A> weight;
        std::memcpy(&weight, weights + kTap * kLanes<A>, sizeof(weight));
        sums[t] += weight * value;
      }
    });
  });
}

// Columns [column, column + columns) of a row -> to, `step` numbers from one to the next; weights [K, K, lanes].
template <typename Taps, int columns, typename S, typename A>
void gather_block(const Ring<S, A, Taps::kSize>& source, int64_t row, int64_t column, const A* weights, int64_t step,
                  A* to) {
  constexpr int K = Taps::kSize;
  Vector<A> sums[columns];
  unroll<columns>([&](auto t) PUMLC_LAMBDA_INLINE { sums[t] = Vector<A>{}; });  // ={} and one memcpy go through memory
  const int64_t begin = Taps::window_begin(column);
  for (int tap = Taps::first_row_tap(row); tap < K; tap += Taps::kRowStep) {
    const A* const from = source.row(Taps::source_row(row, tap));
    if (from != nullptr) gather<Taps, columns>(from + begin * kLanes<A>, weights + tap * K * kLanes<A>, sums);
  }
  unroll<columns>([&](auto t) PUMLC_LAMBDA_INLINE { std::memcpy(to + t * step, &sums[t], sizeof(sums[t])); });
}

// Columns [begin, end) of a row -> to, `step` numbers from one to the next. end - begin may be any number: the last
// block goes beyond `end` by less than kColumns, where what is written means nothing.
template <typename Taps, typename S, typename A>
void gather_columns(const Ring<S, A, Taps::kSize>& source, int64_t row, int64_t begin, int64_t end, const A* weights,
                    int64_t step, A* to) {
  for (; end - begin > kFewColumns; begin += kColumns, to += kColumns * step)
    gather_block<Taps, kColumns>(source, row, begin, weights, step, to);
  if (begin < end) gather_block<Taps, kFewColumns>(source, row, begin, weights, step, to);
}

// row [columns, lanes] -> a part of a row [columns, channels] of a map, `count` channels of it.
template <typename S, typename A>
void write_columns(const A* __restrict__ row, int64_t columns, int64_t channels, int64_t count, S* __restrict__ to) {
  if (count == kLanes<A>) {
    for (int64_t column = 0; column < columns; ++column, row += kLanes<A>, to += channels) {
      Vector<A> value;
      std::memcpy(&value, row, sizeof(value));
      store<A>(value, to);
    }
  } else {
    for (int64_t column = 0; column < columns; ++column, row += kLanes<A>, to += channels)
      for (int64_t j = 0; j < count; ++j) to[j] = static_cast<S>(row[j]);
  }
}

// A row -> a row [width, channels] of a map, `count` channels of it, after finish(buffer [width, lanes]), which changes
// it; null changes nothing, and blocks then go to the map at once where it has their dtype.
// buffer: [depthwise_padded(width), lanes]
template <typename Taps, typename S, typename A, typename Finish>
void gather_row(const Ring<S, A, Taps::kSize>& source, int64_t row, int64_t width, int64_t channels, int64_t count,
                const A* weights, A* buffer, S* to, const Finish& finish) {
  int64_t column = 0;
  if constexpr (std::is_same_v<S, A> && std::is_null_pointer_v<Finish>) {
    if (count == kLanes<A>) column = width / kColumns * kColumns;
    gather_columns<Taps>(source, row, 0, column, weights, channels, to);
  }
  gather_columns<Taps>(source, row, column, width, weights, kLanes<A>, buffer);
  if constexpr (!std::is_null_pointer_v<Finish>) finish(buffer);
  write_columns(buffer, width - column, channels, count, to + column * channels);
}

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
