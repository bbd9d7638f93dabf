// The CPU kernels of the depthwise convolution (math/depthwise.h), for one instruction set: isa/*.cpp include this file
// with PUMLC_ISA naming a namespace and the compiler's target set.
//
// depthwise_blocks.h makes y and dx, depthwise_weight_blocks.h dweight.
#include <algorithm>

#include "../math/depthwise.h"
#include "depthwise.h"
#include "depthwise_blocks.h"
#include "depthwise_weight_blocks.h"

namespace pumlc::cpu::PUMLC_ISA {

template <typename S, typename A>
void depthwise_lay_out_weights(const DepthwiseArguments<S, A>& a, bool flipped, A* to, int64_t first, int64_t last) {
  const int64_t taps = int64_t{a.kernel_size} * a.kernel_size;
  const Tiles<A> tiles(a.channels);
  for (int64_t tile = first; tile < last; ++tile) {
    const int64_t channel = tiles.first_channel(tile);
    const A* const from = a.weight + channel * taps;
    A* const of_tile = to + tile * taps * kLanes<A>;
    for (int64_t k = 0; k < taps; ++k) {
      const A* const tap = from + (flipped ? taps - 1 - k : k);
      A* const lanes = of_tile + k * kLanes<A>;
      for (int64_t j = 0; j < tiles.width(); ++j) lanes[j] = tap[j * taps];
      for (int64_t j = tiles.width(); j < kLanes<A>; ++j) lanes[j] = A(0);
    }
    if (a.centre == nullptr) continue;
    for (int64_t j = 0; j < tiles.width(); ++j) of_tile[taps / 2 * kLanes<A> + j] += a.centre[channel + j];
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

template <typename S>
Image<S> image_of(S* map, int64_t index, int64_t height, int64_t width, int64_t channels) {
  return {map + index * height * width * channels, height, width, channels};
}

template <typename S, typename A>
void depthwise_forward(const DepthwiseArguments<S, A>& a, const A* weights, const A* gates, int64_t first,
                       int64_t last) {
  const GlobalPart<S, A> global(a, a.context != nullptr ? gates : nullptr);
  with_sizes(a, [&](auto kernel_size, auto stride) {
    using Taps = math::OutputTaps<kernel_size, stride>;
    const int64_t pairs = depthwise_row_pairs(a.out_height);
    for (int64_t index = first; index < last; ++index) {
      const int64_t image = index / pairs;
      make_rows<Taps>(image_of(a.x, image, a.height, a.width, a.channels),
                      image_of(a.y, image, a.out_height, a.out_width, a.channels), image,
                      index % pairs * kDepthwiseBlockRows, weights, global);
    }
  });
}

template <typename S, typename A>
void depthwise_input_gradient(const DepthwiseArguments<S, A>& a, const A* weights, int64_t first, int64_t last) {
  with_sizes(a, [&](auto kernel_size, auto stride) {
    constexpr int K = kernel_size;
    using Taps = std::conditional_t<stride == 1, math::OutputTaps<K, 1>, math::InputGradientTaps<K, stride>>;
    const int64_t pairs = depthwise_row_pairs(a.height);
    const GlobalPart<S, A> none(a, nullptr);
    for (int64_t index = first; index < last; ++index) {
      const int64_t image = index / pairs;
      make_rows<Taps>(image_of(a.dy, image, a.out_height, a.out_width, a.channels),
                      image_of(a.dx, image, a.height, a.width, a.channels), image, index % pairs * kDepthwiseBlockRows,
                      weights, none);
    }
  });
}

template <typename S, typename A>
void depthwise_weight_parts(const DepthwiseArguments<S, A>& a, A* partial, int64_t groups, int64_t first,
                            int64_t last) {
  with_sizes(a, [&](auto kernel_size, auto stride) {
    using Taps = math::OutputTaps<kernel_size, stride>;
    constexpr int64_t kNumbers = int64_t{kernel_size} * kernel_size * kLanes<A>;  // of a tile
    const int64_t bands = depthwise_bands(a.out_height);
    const int64_t tiles = Tiles<A>(a.channels).count;
    for (int64_t index = first; index < last; ++index) {
      const int64_t part = index / groups;
      const int64_t begin = part % bands * kDepthwiseBand;
      const int64_t end = std::min(begin + kDepthwiseBand, a.out_height);
      const auto x = image_of(a.x, part / bands, a.height, a.width, a.channels);
      const auto dy = image_of(a.dy, part / bands, a.out_height, a.out_width, a.channels);
      const int64_t first_tile = index % groups * tiles / groups;
      const int64_t last_tile = (index % groups + 1) * tiles / groups;
      const int64_t numbers = (last_tile - first_tile) * kNumbers;
      A* __restrict__ const sums = partial + (part * tiles + first_tile) * kNumbers;
      std::fill(sums, sums + numbers, A(0));
      for (int64_t row = begin; row < end; row += kBlockRows) {
        // apart, so that no sum has many terms: in a row, in its blocks, and in a band
        alignas(64) A of_rows[kDepthwiseTileGroup * kNumbers];
        std::fill(of_rows, of_rows + numbers, A(0));
        for (int64_t column = 0; column < dy.width; column += kBlockColumns<Taps>)
          add_weight_blocks<Taps>(x, dy, row, column, first_tile, last_tile, of_rows);
        for (int64_t i = 0; i < numbers; ++i) sums[i] += of_rows[i];
      }
    }
  });
}

// partial [parts, tiles, K K, lanes] -> dweight [C, K, K] and dcentre [C] of tiles [first, last): in double, in the
// order of the parts.
template <typename S, typename A>
void depthwise_sum_parts(const DepthwiseArguments<S, A>& a, const A* partial, int64_t first, int64_t last) {
  const int64_t taps = int64_t{a.kernel_size} * a.kernel_size;
  const int64_t parts = a.batch * depthwise_bands(a.out_height);
  const Tiles<A> tiles(a.channels);
  for (int64_t tile = first; tile < last; ++tile) {
    double sums[7 * 7 * kLanes<A>] = {};
    for (int64_t part = 0; part < parts; ++part) {
      const A* __restrict__ from = partial + (part * tiles.count + tile) * taps * kLanes<A>;
      for (int64_t k = 0; k < taps * kLanes<A>; ++k) sums[k] += from[k];
    }
    const int64_t first_channel = tiles.first_channel(tile);
    // from where the tile before it ends: another thread writes that one's channels
    for (int64_t j = tile * kLanes<A> - first_channel; j < tiles.width(); ++j) {
      const int64_t channel = first_channel + j;
      A* const to = a.dweight + channel * taps;
      for (int64_t k = 0; k < taps; ++k) to[k] = static_cast<A>(sums[k * kLanes<A> + j]);
      if (a.dcentre != nullptr) a.dcentre[channel] = to[taps / 2];
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
          depthwise_lay_out_weights<S, A>,
          depthwise_forward<S, A>,
          depthwise_input_gradient<S, A>,
          depthwise_weight_parts<S, A>,
          depthwise_sum_parts<S, A>,
          depthwise_open_gates<S, A>,
          depthwise_global_backward<S, A>};
}

}  // namespace pumlc::cpu::PUMLC_ISA
