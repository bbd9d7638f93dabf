// The CPU kernels of the depthwise convolution (math/depthwise.h), for one instruction set: isa/*.cpp include this file
// with PUMLC_ISA naming a namespace and the compiler's target set.
//
// A task is a band of rows of one image and one tile of channels; depthwise_rows.h makes the rows.
#include <algorithm>

#include "../math/depthwise.h"
#include "depthwise.h"
#include "depthwise_rows.h"

namespace pumlc::cpu::PUMLC_ISA {

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
