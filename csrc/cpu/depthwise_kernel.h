// The CPU kernels of the depthwise convolution (math/depthwise.h), for one instruction set: isa/*.cpp include this file
// with PUMLC_ISA naming a namespace and the compiler's target set.
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

// Where a task stands among tiles x images x bands.
struct DepthwiseTask {
  int64_t tile;
  int64_t image;
  int64_t band;
  DepthwiseTask(int64_t task, int64_t batch, int64_t bands)
      : tile(task / bands / batch), image(task / bands % batch), band(task % bands) {}
};

// Weights of a tile -> to [K K, lanes], with the centre in the centre tap; 0 in lanes beyond the last channel.
// flipped: dx is, at a stride of 1, what y is from dy with the taps in reverse order.
template <typename S, typename A>
void lay_out_weights(const DepthwiseArguments<S, A>& a, int64_t first_channel, bool flipped, A* to) {
  const int64_t taps = int64_t{a.kernel_size} * a.kernel_size;
  const int64_t count = std::min<int64_t>(kLanes<A>, a.channels - first_channel);
  std::fill(to, to + taps * kLanes<A>, A(0));
  for (int64_t j = 0; j < count; ++j) {
    const A* const from = a.weight + (first_channel + j) * taps;
    for (int64_t k = 0; k < taps; ++k) to[(flipped ? taps - 1 - k : k) * kLanes<A> + j] = from[k];
    if (a.centre != nullptr) to[taps / 2 * kLanes<A> + j] += a.centre[first_channel + j];
  }
}

// Adds gate_h(c)(p) context_c + shift_c to a row [Wo, lanes] of y. gates: [Wo, heads] of that row.
template <typename S, typename A>
void add_global_part(const DepthwiseArguments<S, A>& a, const A* gates, int64_t image, int64_t first_channel,
                     int64_t count, A* __restrict__ row) {
  const int64_t channels_per_head = a.channels / a.heads;
  alignas(64) A context[kLanes<A>] = {};
  alignas(64) A shift[kLanes<A>] = {};
  int64_t head[kLanes<A>] = {};
  for (int64_t j = 0; j < count; ++j) {
    context[j] = a.context[image * a.channels + first_channel + j];
    shift[j] = a.shift[first_channel + j];
    head[j] = (first_channel + j) / channels_per_head;
  }
  if (head[0] == head[count - 1]) {
    for (int64_t column = 0; column < a.out_width; ++column, row += kLanes<A>) {
      const A gate = gates[column * a.heads + head[0]];
      for (int j = 0; j < kLanes<A>; ++j) row[j] += gate * context[j] + shift[j];
    }
  } else {
    for (int64_t column = 0; column < a.out_width; ++column, row += kLanes<A>)
      for (int j = 0; j < kLanes<A>; ++j) row[j] += gates[column * a.heads + head[j]] * context[j] + shift[j];
  }
}

// Calls f(kernel size, stride) with both as constants.
template <typename S, typename A, typename F>
void with_sizes(const DepthwiseArguments<S, A>& a, const F& f) {
  const auto with_stride = [&](auto kernel_size) {
    a.stride == 1 ? f(kernel_size, std::integral_constant<int, 1>()) : f(kernel_size, std::integral_constant<int, 2>());
  };
  if (a.kernel_size == 3) return with_stride(std::integral_constant<int, 3>());
  if (a.kernel_size == 5) return with_stride(std::integral_constant<int, 5>());
  with_stride(std::integral_constant<int, 7>());
}

template <typename S, typename A>
void depthwise_forward(const DepthwiseArguments<S, A>& a, const A* gates, A* scratch, int64_t first, int64_t last) {
  with_sizes(a, [&](auto kernel_size, auto stride) {
    constexpr int K = kernel_size;
    using Taps = math::OutputTaps<K, stride>;
    alignas(64) A weights[K * K * kLanes<A>];
    A* const output = scratch;  // [padded width, lanes], a row
    A* const ring_memory = scratch + depthwise_padded(a.width) * kLanes<A>;
    const int64_t bands = depthwise_bands(a.out_height);
    int64_t tile = -1;
    for (int64_t index = first; index < last; ++index) {
      const DepthwiseTask task(index, a.batch, bands);
      const int64_t first_channel = task.tile * kLanes<A>;
      const int64_t count = std::min<int64_t>(kLanes<A>, a.channels - first_channel);
      if (task.tile != tile) lay_out_weights(a, first_channel, false, weights);
      tile = task.tile;
      const S* const x = a.x + task.image * a.height * a.width * a.channels + first_channel;
      Ring<S, A, K> source(x, a.height, a.width, a.channels, count, ring_memory);
      const int64_t end = std::min((task.band + 1) * kDepthwiseBand, a.out_height);
      for (int64_t row = task.band * kDepthwiseBand; row < end; ++row) {
        source.bring(Taps::source_row(row, 0), Taps::source_row(row, K));
        const int64_t position = (task.image * a.out_height + row) * a.out_width;
        S* const to = a.y + position * a.channels + first_channel;
        const auto add = [&](A* y) {
          add_global_part(a, gates + position * a.heads, task.image, first_channel, count, y);
        };
        a.context == nullptr
            ? gather_row<Taps>(source, row, a.out_width, a.channels, count, weights, output, to, nullptr)
            : gather_row<Taps>(source, row, a.out_width, a.channels, count, weights, output, to, add);
      }
    }
  });
}

// dx of a band, rows [begin, end).
template <int K, int kStride, typename S, typename A>
void make_dx(const DepthwiseArguments<S, A>& a, const DepthwiseTask& task, int64_t begin, int64_t end, const A* weights,
             A* scratch) {
  using Taps = std::conditional_t<kStride == 1, math::OutputTaps<K, kStride>, math::InputGradientTaps<K, kStride>>;
  A* const output = scratch;
  A* const ring_memory = scratch + depthwise_padded(a.width) * kLanes<A>;
  const int64_t first_channel = task.tile * kLanes<A>;
  const int64_t count = std::min<int64_t>(kLanes<A>, a.channels - first_channel);
  const S* const dy = a.dy + task.image * a.out_height * a.out_width * a.channels + first_channel;
  Ring<S, A, K> source(dy, a.out_height, a.out_width, a.channels, count, ring_memory);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t oldest = (row - K / 2) / kStride;
    source.bring(oldest, (row + K / 2) / kStride + 1);
    S* const to = a.dx + (task.image * a.height + row) * a.width * a.channels + first_channel;
    gather_row<Taps>(source, row, a.width, a.channels, count, weights, output, to, nullptr);
  }
}

// The part of dweight [K K, lanes] of rows [begin, end) of dy.
template <int K, int kStride, typename S, typename A>
void make_dweight(const DepthwiseArguments<S, A>& a, const DepthwiseTask& task, int64_t begin, int64_t end, A* scratch,
                  A* part) {
  using Taps = math::OutputTaps<K, kStride>;
  A* const upstream = scratch;
  A* const ring_memory = scratch + depthwise_padded(a.width) * kLanes<A>;
  const int64_t first_channel = task.tile * kLanes<A>;
  const int64_t count = std::min<int64_t>(kLanes<A>, a.channels - first_channel);
  const S* const x = a.x + task.image * a.height * a.width * a.channels + first_channel;
  Ring<S, A, K> source(x, a.height, a.width, a.channels, count, ring_memory);
  std::fill(part, part + K * K * kLanes<A>, A(0));
  for (int64_t row = begin; row < end; ++row) {
    source.bring(Taps::source_row(row, 0), Taps::source_row(row, K));
    const S* const dy = a.dy + ((task.image * a.out_height + row) * a.out_width) * a.channels + first_channel;
    source.copy_row(dy, a.channels, count, a.out_width, upstream);
    add_dweight<K, kStride>(source, upstream, row, a.out_width, part);
  }
}

template <typename S, typename A>
void depthwise_backward(const DepthwiseArguments<S, A>& a, A* partial, A* scratch, int64_t first, int64_t last) {
  with_sizes(a, [&](auto kernel_size, auto stride) {
    constexpr int kTaps = kernel_size * kernel_size;
    alignas(64) A weights[kTaps * kLanes<A>];
    const int64_t bands = depthwise_bands(a.height);
    int64_t tile = -1;
    for (int64_t index = first; index < last; ++index) {
      const DepthwiseTask task(index, a.batch, bands);
      const int64_t begin = task.band * kDepthwiseBand;
      const int64_t end = std::min(begin + kDepthwiseBand, a.height);
      if (a.dx != nullptr) {
        if (task.tile != tile) lay_out_weights(a, task.tile * kLanes<A>, stride == 1, weights);
        tile = task.tile;
        make_dx<kernel_size, stride>(a, task, begin, end, weights, scratch);
      }
      if (a.dweight != nullptr) {
        // a band begins at a multiple of the stride, and so does the part of dy that lies on it
        make_dweight<kernel_size, stride>(a, task, begin / stride, (end + stride - 1) / stride, scratch,
                                          partial + index * kTaps * kLanes<A>);
      }
    }
  });
}

// partial [tiles, parts, K K, lanes] -> dweight [C, K, K] and dcentre [C] of tiles [first, last): in double, in the
// order of the parts.
template <typename S, typename A>
void depthwise_sum_parts(const DepthwiseArguments<S, A>& a, const A* partial, int64_t first, int64_t last) {
  const int64_t taps = int64_t{a.kernel_size} * a.kernel_size;
  const int64_t parts = a.batch * depthwise_bands(a.height);
  for (int64_t tile = first; tile < last; ++tile) {
    double sums[7 * 7 * kLanes<A>] = {};
    for (int64_t part = 0; part < parts; ++part) {
      const A* __restrict__ from = partial + (tile * parts + part) * taps * kLanes<A>;
      for (int64_t k = 0; k < taps * kLanes<A>; ++k) sums[k] += from[k];
    }
    const int64_t first_channel = tile * kLanes<A>;
    const int64_t count = std::min<int64_t>(kLanes<A>, a.channels - first_channel);
    for (int64_t j = 0; j < count; ++j) {
      A* const to = a.dweight + (first_channel + j) * taps;
      for (int64_t k = 0; k < taps; ++k) to[k] = static_cast<A>(sums[k * kLanes<A> + j]);
      if (a.dcentre != nullptr) a.dcentre[first_channel + j] = to[taps / 2];
    }
  }
}

template <typename S, typename A>
void depthwise_open_gates(const DepthwiseArguments<S, A>& a, A* gates, int64_t first, int64_t last) {
  for (int64_t index = first; index < last; ++index) {
    const int64_t image = index / a.out_height;
    const int64_t row = index % a.out_height * a.stride;
    const S* const from = a.gate_scores + image * a.gate_strides[0] + row * a.gate_strides[2];
    A* const to = gates + index * a.out_width * a.heads;
    for (int64_t column = 0; column < a.out_width; ++column) {
      const S* const scores = from + column * a.stride * a.gate_strides[3];
      for (int64_t head = 0; head < a.heads; ++head)
        to[column * a.heads + head] = math::sigmoid_pair(static_cast<A>(scores[head * a.gate_strides[1]])).p;
    }
  }
}

// The sum of n numbers, in an order that does not depend on where they lie.
template <typename A>
PUMLC_INLINE A sum_of(const A* numbers, int64_t n) {
  constexpr int kParts = 8;
  A parts[kParts] = {};
  int64_t i = 0;
  for (; i + kParts <= n; i += kParts)
    for (int j = 0; j < kParts; ++j) parts[j] += numbers[i + j];
  for (; i < n; ++i) parts[i % kParts] += numbers[i];
  return ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
}

// dgate_scores is 0 where the gates are not sampled: between the positions of a row of y, and up to its next row.
template <typename S, typename A>
void write_zeros_between(const DepthwiseArguments<S, A>& a, int64_t image, int64_t row) {
  const int64_t first = row * a.stride;
  for (int64_t y = first; y < std::min(first + a.stride, a.height); ++y) {
    S* const to = a.dgate_scores + (image * a.height + y) * a.width * a.heads;
    for (int64_t x = 0; x < a.width; ++x)
      if (y > first || x % a.stride > 0) std::fill(to + x * a.heads, to + (x + 1) * a.heads, S(0));
  }
}

template <typename S, typename A>
void depthwise_global_backward(const DepthwiseArguments<S, A>& a, double* sums, A* scratch, int64_t first,
                               int64_t last) {
  const int64_t bands = depthwise_bands(a.out_height);
  const int64_t channels_per_head = a.channels / a.heads;
  A* __restrict__ const of_context = scratch;  // [C] each, sums of a row
  A* __restrict__ const of_shift = scratch + a.channels;
  A* __restrict__ const products = scratch + 2 * a.channels;
  for (int64_t index = first; index < last; ++index) {
    const int64_t image = index / bands;
    const int64_t begin = index % bands * kDepthwiseBand;
    const int64_t end = std::min(begin + kDepthwiseBand, a.out_height);
    const A* __restrict__ const context = a.context + image * a.channels;
    double* __restrict__ const context_sums = sums + index * a.channels;
    double* __restrict__ const shift_sums = sums + (a.batch * bands + index) * a.channels;
    std::fill(context_sums, context_sums + a.channels, 0.0);
    std::fill(shift_sums, shift_sums + a.channels, 0.0);
    for (int64_t row = begin; row < end; ++row) {
      std::fill(scratch, scratch + 2 * a.channels, A(0));
      const S* const scores = a.gate_scores + image * a.gate_strides[0] + row * a.stride * a.gate_strides[2];
      for (int64_t column = 0; column < a.out_width; ++column) {
        const S* __restrict__ const dy = a.dy + ((image * a.out_height + row) * a.out_width + column) * a.channels;
        S* const to = a.dgate_scores + ((image * a.height + row * a.stride) * a.width + column * a.stride) * a.heads;
        for (int64_t head = 0; head < a.heads; ++head) {
          const A gate = math::sigmoid_pair(
                             static_cast<A>(scores[column * a.stride * a.gate_strides[3] + head * a.gate_strides[1]]))
                             .p;
          const int64_t from = head * channels_per_head;
          for (int64_t c = from; c < from + channels_per_head; ++c) {
            const A upstream = static_cast<A>(dy[c]);
            of_context[c] += gate * upstream;
            of_shift[c] += upstream;
            products[c] = upstream * context[c];
          }
          to[head] = static_cast<S>(gate * (A(1) - gate) * sum_of(products + from, channels_per_head));
        }
      }
      if (a.stride > 1) write_zeros_between(a, image, row);
      for (int64_t c = 0; c < a.channels; ++c) context_sums[c] += of_context[c];
      for (int64_t c = 0; c < a.channels; ++c) shift_sums[c] += of_shift[c];
    }
  }
}

template <typename S, typename A>
constexpr DepthwiseKernels<S, A> depthwise_kernels() {
  return {kLanes<A>,
          depthwise_forward<S, A>,
          depthwise_backward<S, A>,
          depthwise_sum_parts<S, A>,
          depthwise_open_gates<S, A>,
          depthwise_global_backward<S, A>};
}

}  // namespace pumlc::cpu::PUMLC_ISA
