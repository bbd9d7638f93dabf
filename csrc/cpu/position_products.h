// Three products between the positions and the channels of a tile of a feature map, for one instruction set.
//
// With x [rows, channels] (a row is a position), eight heads, weights w [rows, 8] and vectors v [8, channels]:
//   accumulate   acc_kc += sum_i w_ik x_ic          also the plain sum over the rows, where it is wanted
//   dots         d_ik    = sum_c x_ic v_kc
//   spread       y_ic    = sum_k w_ik v_kc         joined with what the caller has
// More heads come in blocks of eight, the last one padded with zero weights and vectors. Rows are `channels` elements
// apart, a multiple of kChannelUnit: TileRows below pads them. A block of eight accumulators stays in registers,
// which plain loops do not achieve, hence the vector types of g++.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "../head_map.h"
#include "tiles.h"
#include "vector.h"

namespace pumlc::cpu::PUMLC_ISA {

// Vectors of channels at a time: with eight heads, 16 accumulators of AVX-512's 32 registers, or 8 of 16.
constexpr int kVectors = kVectorBytes == 64 ? 2 : 1;

static_assert(kChannelUnit % kLanes<float> == 0, "a tile has whole vectors alone");

template <typename A>
PUMLC_INLINE Vector<A> load(const A* from) {
  Vector<A> vector;
  std::memcpy(&vector, from, sizeof(vector));
  return vector;
}

template <typename A>
PUMLC_INLINE void store(A* to, Vector<A> vector) {
  std::memcpy(to, &vector, sizeof(vector));
}

// Calls f(c, n) for n vectors of channels from c on, n a constant: kVectors of them, one where no more are left.
template <typename A, typename F>
PUMLC_INLINE void for_channels(int64_t channels, const F& f) {
  int64_t c = 0;
  for (; c + kVectors * kLanes<A> <= channels; c += kVectors * kLanes<A>) f(c, std::integral_constant<int, kVectors>());
  for (; c < channels; c += kLanes<A>) f(c, std::integral_constant<int, 1>());
}

// acc [8, channels] += w^T x, and where kWithTotal total [channels] += the sum of the rows. The sums of a tile join
// the accumulators at its end, so that the rounding error of many positions grows with the number of tiles.
template <bool kWithTotal, typename A>
void accumulate(const A* x, const A* w, int64_t rows, int64_t channels, A* acc, A* total = nullptr) {
  for_channels<A>(channels, [&](int64_t c, auto n) {
    Vector<A> sum[kHeadBlock][n] = {};
    Vector<A> total_sum[n] = {};
    for (int64_t i = 0; i < rows; ++i) {
      Vector<A> value[n];
      for (int j = 0; j < n; ++j) {
        value[j] = load(x + i * channels + c + j * kLanes<A>);
        if constexpr (kWithTotal) total_sum[j] += value[j];
      }
#pragma GCC unroll 8
      for (int k = 0; k < kHeadBlock; ++k)
        for (int j = 0; j < n; ++j) sum[k][j] += w[i * kHeadBlock + k] * value[j];
    }
    for (int j = 0; j < n; ++j) {
      const int64_t at = c + j * kLanes<A>;
#pragma GCC unroll 8
      for (int k = 0; k < kHeadBlock; ++k) store(acc + k * channels + at, load(acc + k * channels + at) + sum[k][j]);
      if constexpr (kWithTotal) store(total + at, load(total + at) + total_sum[j]);
    }
  });
}

// Lanes of a and b in turn, added over the two halves: the sums of both in a vector with half as many lanes for each.
template <typename A>
PUMLC_INLINE Vector<A> fold(Vector<A> a, Vector<A> b) {
  constexpr int kCount = kLanes<A>;
  typename VectorTypes<A>::Indices low, high;
#pragma GCC unroll 16
  for (int lane = 0; lane < kCount; ++lane) {
    low[lane] = lane / 2 + lane % 2 * kCount;
    high[lane] = low[lane] + kCount / 2;
  }
  return __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
}

// d [8]: the sum of the lanes of each of eight vectors.
template <typename A>
PUMLC_INLINE void sum_lanes(const Vector<A> (&v)[kHeadBlock], A* d) {
  constexpr int kCount = kLanes<A>;
  const Vector<A> t[4] = {fold<A>(v[0], v[4]), fold<A>(v[1], v[5]), fold<A>(v[2], v[6]), fold<A>(v[3], v[7])};
  if constexpr (kCount == 2) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) d[k] = t[k][0], d[k + 4] = t[k][1];
    return;
  } else {
    const Vector<A> even = fold<A>(t[0], t[2]);  // heads 0, 2, 4, 6 in turn
    const Vector<A> odd = fold<A>(t[1], t[3]);
    if constexpr (kCount == 4) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) d[2 * k] = even[k], d[2 * k + 1] = odd[k];
    } else {
      const Vector<A> all = fold<A>(even, odd);
#pragma GCC unroll 8
      for (int k = 0; k < kHeadBlock; ++k) {
        if constexpr (kCount == 16)
          d[k] = all[k] + all[k + 8];
        else
          d[k] = all[k];
      }
    }
  }
}

// Channels whose products are added in one register: rounding errors grow with the number of those.
constexpr int64_t kSegment = 256;

// d [kRows, 8] of kRows rows, which share the loads of v.
template <int kRows, typename A>
PUMLC_INLINE void dots_of_rows(const A* x, const A* v, int64_t channels, A* d) {
  std::fill(d, d + kRows * kHeadBlock, A(0));
  for (int64_t begin = 0; begin < channels; begin += kSegment) {
    const int64_t end = std::min(begin + kSegment, channels);
    Vector<A> sum[kRows][kHeadBlock] = {};
    for (int64_t c = begin; c < end; c += kLanes<A>) {
      Vector<A> value[kRows];
      for (int i = 0; i < kRows; ++i) value[i] = load(x + i * channels + c);
#pragma GCC unroll 8
      for (int k = 0; k < kHeadBlock; ++k) {
        const Vector<A> vector = load(v + k * channels + c);
        for (int i = 0; i < kRows; ++i) sum[i][k] += value[i] * vector;
      }
    }
    for (int i = 0; i < kRows; ++i) {
      A of_segment[kHeadBlock];
      sum_lanes<A>(sum[i], of_segment);
      for (int k = 0; k < kHeadBlock; ++k) d[i * kHeadBlock + k] += of_segment[k];
    }
  }
}

// d [rows, 8] = x v^T
template <typename A>
void dots(const A* x, const A* v, int64_t rows, int64_t channels, A* d) {
  int64_t i = 0;
  for (; i + kVectors <= rows; i += kVectors) dots_of_rows<kVectors>(x + i * channels, v, channels, d + i * kHeadBlock);
  for (; i < rows; ++i) dots_of_rows<1>(x + i * channels, v, channels, d + i * kHeadBlock);
}

// y [rows, channels] = w v; join(i, c, vector) may add to a vector of it, from channel c of row i on. What is added
// last is rounded once, and not with every product.
template <typename A, typename Join>
PUMLC_INLINE void spread(const A* w, const A* v, int64_t rows, int64_t channels, A* y, const Join& join) {
  for_channels<A>(channels, [&](int64_t c, auto n) {
    Vector<A> vector[kHeadBlock][n];
#pragma GCC unroll 8
    for (int k = 0; k < kHeadBlock; ++k)
      for (int j = 0; j < n; ++j) vector[k][j] = load(v + k * channels + c + j * kLanes<A>);
    for (int64_t i = 0; i < rows; ++i) {
      Vector<A> sum[n] = {};
#pragma GCC unroll 8
      for (int k = 0; k < kHeadBlock; ++k)
        for (int j = 0; j < n; ++j) sum[j] += w[i * kHeadBlock + k] * vector[k][j];
      for (int j = 0; j < n; ++j) {
        join(i, c + j * kLanes<A>, sum[j]);
        store(y + i * channels + c + j * kLanes<A>, sum[j]);
      }
    }
  });
}

// Rows [rows, channels] of a feature map as the products want them: in A, padded with zeros to `padded` channels.
// Where they are so already they are used where they lie; else they pass through a scratch [rows, padded].
template <typename S, typename A>
class TileRows {
 public:
  TileRows(int64_t channels, void* scratch)
      : channels_(channels), padded_(padded_channels(channels)), scratch_(static_cast<A*>(scratch)) {}

  const A* read(const S* from, int64_t rows) const {
    if constexpr (std::is_same_v<S, A>)
      if (channels_ == padded_) return from;
    for (int64_t i = 0; i < rows; ++i) {
      const S* __restrict__ row = from + i * channels_;
      A* __restrict__ to = scratch_ + i * padded_;
      for (int64_t c = 0; c < channels_; ++c) to[c] = static_cast<A>(row[c]);
      std::fill(to + channels_, to + padded_, A(0));
    }
    return scratch_;
  }

  // Where to put rows that are bound for `to`, before write() is called with the same arguments.
  A* target(S* to) const {
    if constexpr (std::is_same_v<S, A>)
      if (channels_ == padded_) return to;
    return scratch_;
  }

  void write(S* to, int64_t rows) const {
    if constexpr (std::is_same_v<S, A>)
      if (channels_ == padded_) return;
    for (int64_t i = 0; i < rows; ++i) {
      const A* __restrict__ row = scratch_ + i * padded_;
      S* __restrict__ out = to + i * channels_;
      for (int64_t c = 0; c < channels_; ++c) out[c] = static_cast<S>(row[c]);
    }
  }

 private:
  const int64_t channels_;
  const int64_t padded_;
  A* const scratch_;
};

// Scores of a block of eight heads at `count` positions from `first` on -> to [count rounded up to kPositionUnit, 8];
// -inf, of which the softmax term and the gate are 0, for heads and positions that do not exist.
template <typename S, typename A>
void read_scores(const HeadMap<S>& map, int64_t b, int64_t block, int64_t heads, int64_t first, int64_t count, A* to) {
  const int64_t width = std::min<int64_t>(kHeadBlock, heads - block * kHeadBlock);
  const int64_t padded = (count + kPositionUnit - 1) / kPositionUnit * kPositionUnit;
  if (width < kHeadBlock || count < padded)
    std::fill(to, to + padded * kHeadBlock, -std::numeric_limits<A>::infinity());
  uint32_t column = static_cast<uint32_t>(first % map.width);
  const S* __restrict__ from = map.at(b, block * kHeadBlock, first);
  for (int64_t i = 0; i < count; ++i) {
    A* __restrict__ row = to + i * kHeadBlock;
    if (width == kHeadBlock && map.head == 1)
      for (int k = 0; k < kHeadBlock; ++k) row[k] = static_cast<A>(from[k]);
    else
      for (int64_t k = 0; k < width; ++k) row[k] = static_cast<A>(from[k * map.head]);
    from += map.column;
    if (++column == map.width) {
      column = 0;
      from += map.row - static_cast<int64_t>(map.width) * map.column;
    }
  }
}

// Gradients [count, 8] of a block of heads to the same places.
template <typename S, typename A>
void write_scores(const HeadMap<S>& map, int64_t b, int64_t block, int64_t heads, int64_t first, int64_t count,
                  const A* from) {
  const int64_t width = std::min<int64_t>(kHeadBlock, heads - block * kHeadBlock);
  uint32_t column = static_cast<uint32_t>(first % map.width);
  S* __restrict__ to = map.at(b, block * kHeadBlock, first);
  for (int64_t i = 0; i < count; ++i) {
    const A* __restrict__ row = from + i * kHeadBlock;
    if (width == kHeadBlock && map.head == 1)
      for (int k = 0; k < kHeadBlock; ++k) to[k] = static_cast<S>(row[k]);
    else
      for (int64_t k = 0; k < width; ++k) to[k * map.head] = static_cast<S>(row[k]);
    to += map.column;
    if (++column == map.width) {
      column = 0;
      to += map.row - static_cast<int64_t>(map.width) * map.column;
    }
  }
}

}  // namespace pumlc::cpu::PUMLC_ISA
