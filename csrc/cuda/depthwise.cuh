// Pieces that the depthwise kernels share: packs of channels, where a thread stands, gathering from a window.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstring>

#include "../math/depthwise.h"
#include "depthwise.h"
#include "reduce.cuh"

namespace pumlc::cuda {

// Columns that a thread makes at a time. With 4, a source of a 7 x 7 kernel is used 2.8 times from registers; 8 would
// take the registers that hold the weights of a kernel row.
constexpr int kThreadColumns = 4;
static_assert(kThreadColumns % 2 == 0, "dx at a stride of 2 is made from even columns on");

// Channels of a thread: 16 bytes where every position of the maps begins at a multiple of that, else one.
template <typename S>
constexpr int kPack = 16 / sizeof(S);

// Lanes of a warp that stand side by side along the channels, V channels each: 64 bytes or more of a position.
template <int V>
constexpr int kChannelLanes = V == 1   ? 32
                              : V == 8 ? 4
                                       : 8;

template <int V>
constexpr int kTileChannels = V * kChannelLanes<V>;

template <int V, typename S, typename A>
__device__ __forceinline__ void load(const S* from, A (&to)[V]) {
  if constexpr (V == 1) {
    to[0] = static_cast<A>(__ldg(from));
  } else {
    const uint4 bits = __ldg(reinterpret_cast<const uint4*>(from));
    S values[V];
    std::memcpy(values, &bits, sizeof(bits));
#pragma unroll
    for (int v = 0; v < V; ++v) to[v] = static_cast<A>(values[v]);
  }
}

template <int V, typename S, typename A>
__device__ __forceinline__ void store(const A (&from)[V], S* to) {
  if constexpr (V == 1) {
    *to = static_cast<S>(from[0]);
  } else {
    S values[V];
#pragma unroll
    for (int v = 0; v < V; ++v) values[v] = static_cast<S>(from[v]);
    uint4 bits;
    std::memcpy(&bits, values, sizeof(bits));
    *reinterpret_cast<uint4*>(to) = bits;
  }
}

// Where a thread stands. A block has an image, a band of rows and a tile of channels; within a warp, lanes share the
// channels of the tile and what is left of them (`group`) goes to different positions.
template <int V>
struct DepthwisePlace {
  static constexpr int kGroups = kWarpSize / kChannelLanes<V>;
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int group = lane / kChannelLanes<V>;
  const int tile_channel = lane % kChannelLanes<V> * V;  // the first of the thread's V, within the tile
  int64_t tile;
  int64_t band;
  int64_t image;

  __device__ DepthwisePlace(int64_t channels, int64_t bands) {
    const int64_t tiles = (channels + kTileChannels<V> - 1) / kTileChannels<V>;
    tile = blockIdx.x % tiles;
    band = blockIdx.x / tiles % bands;
    image = blockIdx.x / tiles / bands;
  }

  __device__ int64_t channel() const { return tile * kTileChannels<V> + tile_channel; }
};

// A map [height, width, channels] of one image, from a thread's first channel on.
template <typename S>
struct DepthwiseMap {
  S* data;
  int64_t height;
  int64_t width;
  int64_t channels;

  __device__ S* at(int64_t row, int64_t column) const { return data + (row * width + column) * channels; }
};

// Weights of the block's tile -> shared [K K, kTileChannels], with the centre in the centre tap. All threads call it.
template <int K, int V, typename S, typename A>
__device__ void bring_weights(const DepthwiseArguments<S, A>& a, int64_t tile, A* shared) {
  for (int i = threadIdx.x; i < K * K * kTileChannels<V>; i += blockDim.x) {
    const int channel = i / (K * K);
    const int tap = i % (K * K);
    const int64_t c = tile * kTileChannels<V> + channel;
    A weight = c < a.channels ? a.weight[c * K * K + tap] : A(0);
    if (tap == K * K / 2 && a.centre != nullptr && c < a.channels) weight += a.centre[c];
    shared[tap * kTileChannels<V> + channel] = weight;
  }
  __syncthreads();
}

// sums [columns, V] of neighbouring columns of a row, from `source`. weights: shared, from the thread's channel on.
template <typename Taps, int V, typename S, typename A>
__device__ __forceinline__ void gather(const DepthwiseMap<const S>& source, int64_t row, int64_t column,
                                       const A* weights, A (&sums)[kThreadColumns][V]) {
  constexpr int K = Taps::kSize;
  const int64_t begin = Taps::window_begin(column);
#pragma unroll 1  // the code of one kernel row is long enough
  for (int k_row = Taps::first_row_tap(row); k_row < K; k_row += Taps::kRowStep) {
    const int64_t from_row = Taps::source_row(row, k_row);
    if (from_row < 0 || from_row >= source.height) continue;
    const S* const from = source.at(from_row, begin);
    const A* const row_weights = weights + k_row * K * kTileChannels<V>;
#pragma unroll
    for (int i = 0; i < Taps::window(kThreadColumns); ++i) {
      A value[V] = {};
      if (begin + i >= 0 && begin + i < source.width) load<V>(from + i * source.channels, value);
#pragma unroll
      for (int t = 0; t < kThreadColumns; ++t) {
        const int tap = Taps::tap(i, t);
        if (tap < 0 || tap >= K) continue;
#pragma unroll
        for (int v = 0; v < V; ++v) sums[t][v] += row_weights[tap * kTileChannels<V> + v] * value[v];
      }
    }
  }
}

// f(pack as a constant): 16 bytes of channels per thread where all maps allow it, else one channel.
template <typename S, typename A, typename F>
cudaError_t with_pack(const DepthwiseArguments<S, A>& a, const F& f) {
  const auto starts = reinterpret_cast<uintptr_t>(a.x) | reinterpret_cast<uintptr_t>(a.y) |
                      reinterpret_cast<uintptr_t>(a.dy) | reinterpret_cast<uintptr_t>(a.dx);
  const bool aligned = starts % 16 == 0 && a.channels % kPack<S> == 0;
  return aligned ? f(std::integral_constant<int, kPack<S>>()) : f(std::integral_constant<int, 1>());
}

// f(kernel size, stride, pack), as constants.
template <typename S, typename A, typename F>
cudaError_t with_constants(const DepthwiseArguments<S, A>& a, const F& f) {
  return with_pack(a, [&](auto pack) {
    const auto with_size = [&](auto size) {
      return a.stride == 1 ? f(size, std::integral_constant<int, 1>(), pack)
                           : f(size, std::integral_constant<int, 2>(), pack);
    };
    if (a.kernel_size == 3) return with_size(std::integral_constant<int, 3>());
    if (a.kernel_size == 5) return with_size(std::integral_constant<int, 5>());
    return with_size(std::integral_constant<int, 7>());
  });
}

// Rows of a band, so that there are blocks enough for the device but halos are few.
inline int64_t depthwise_band(int64_t rows, int64_t others, const Device& device) {
  constexpr int64_t kBlocksPerMultiprocessor = 8;
  constexpr int64_t kLeast = 8;
  const int64_t wanted = ceil_div(kBlocksPerMultiprocessor * device.multiprocessors, others > 0 ? others : 1);
  const int64_t bands = wanted < ceil_div(rows, kLeast) ? wanted : ceil_div(rows, kLeast);
  return ceil_div(rows, bands);
}

// parts [groups, count, taps, channels] -> to [groups, channels, taps]; the tap in the middle also -> centre
// [groups, channels], unless that is null. A block has 32 neighbouring numbers of a part; each of its 8 warps adds
// every 8th part, in their order, then the warps are added.
constexpr int kAddingWarps = 8;
template <typename A>
__global__ void __launch_bounds__(kWarpSize* kAddingWarps)
    add_parts_kernel(const A* parts, int64_t count, int64_t taps, int64_t channels, int64_t blocks_of_group, A* to,
                     A* centre) {
  __shared__ A partial[kAddingWarps][kWarpSize];
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int64_t numbers = taps * channels;
  const int64_t group = blockIdx.x / blocks_of_group;
  const int64_t number = blockIdx.x % blocks_of_group * kWarpSize + lane;
  const A* const from = parts + group * count * numbers + number;
  A sum = A(0);
  if (number < numbers) {
#pragma unroll 4
    for (int64_t part = warp; part < count; part += kAddingWarps) sum += __ldg(from + part * numbers);
  }
  partial[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || number >= numbers) return;
#pragma unroll
  for (int other = 1; other < kAddingWarps; ++other) sum += partial[other][lane];
  const int64_t tap = number / channels;
  const int64_t channel = group * channels + number % channels;
  to[channel * taps + tap] = sum;
  if (centre != nullptr && tap == taps / 2) centre[channel] = sum;
}

template <typename A>
cudaError_t add_parts(const A* parts, int64_t groups, int64_t count, int64_t taps, int64_t channels, A* to, A* centre,
                      cudaStream_t stream) {
  if (groups == 0) return cudaSuccess;
  const int64_t blocks = ceil_div(taps * channels, kWarpSize);
  return launch(add_parts_kernel<A>, dim3(groups * blocks), dim3(kWarpSize * kAddingWarps), 0, stream, parts, count,
                taps, channels, blocks, to, centre);
}

}  // namespace pumlc::cuda
