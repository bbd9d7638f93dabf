// Derivatives of the depthwise convolution (../math/depthwise.h) on CUDA with respect to x and the weights.
//
// A block owns an image, a band of rows and a tile of channels as in depthwise_kernel.cu, and a thread 16 bytes of
// neighbouring channels. Per block, over the same part of x and dy, which the second step finds in the caches:
//   1. dx       gathered from dy as y is from x
//   2. dweight  a warp owns a kernel row: along W, each source of x is multiplied by the up to 4 columns of dy that it
//               meets, into the sums of the K taps in registers; then lanes of the same channels are added, and the
//               result is one part of dweight
// A second kernel adds the parts in their order.
#include <algorithm>

#include "depthwise.cuh"

namespace pumlc::cuda {
namespace {

// Warps that have the same kernel row and other columns: 3 warps alone would make small blocks.
template <int K>
constexpr int kSlots = K == 3 ? 2 : 1;
static_assert(kSlots<5> == 1 && kSlots<7> == 1, "as depthwise_plan counts the parts");
template <int K>
constexpr int kThreads = kWarpSize * K * kSlots<K>;
// At 7 x 7 a thread has 56 sums, 32 numbers of dy and sources in flight: more than the 144 registers of two blocks.
template <int K>
constexpr int kBlocksPerMultiprocessor = K == 7 ? 1 : 2;

// Positions of dy that a block of the global part works on, unless their gates need more shared memory than this.
constexpr int64_t kMostPositions = 64;
constexpr int64_t kGateBytes = 16 * 1024;

// Numbers of the rows of a block: the same band in x and in y.
struct Band {
  int64_t begin;
  int64_t rows;
  __device__ Band(int64_t begin, int64_t band, int64_t height)
      : begin(begin),
        rows(begin >= height         ? 0
             : begin + band < height ? band
                                     : height - begin) {}
};

template <int K, int kStride, int V, typename S, typename A>
__device__ void make_dx(const DepthwiseArguments<S, A>& a, const DepthwisePlace<V>& at, const Band& band,
                        const DepthwiseMap<const S>& dy, const A* weights) {
  const int64_t channel = at.channel();
  const DepthwiseMap<S> dx = {a.dx + at.image * a.height * a.width * a.channels + channel, a.height, a.width,
                              a.channels};
  const int blocks_of_row = static_cast<int>((a.width + kThreadColumns - 1) / kThreadColumns);
  const int64_t blocks = band.rows * blocks_of_row;
  constexpr int kStep = kThreads<K> / kChannelLanes<V>;
  for (int64_t block = at.warp * at.kGroups + at.group; block < blocks; block += kStep) {
    const int64_t row = band.begin + block / blocks_of_row;
    const int64_t column = block % blocks_of_row * kThreadColumns;
    A sums[kThreadColumns][V] = {};
    gather<math::InputGradientTaps<K, kStride>, V>(dy, row, column, weights, sums);
#pragma unroll
    for (int t = 0; t < kThreadColumns; ++t)
      if (column + t < a.width) store<V>(sums[t], dx.at(row, column + t));
  }
}

// sums [K, V]: what the thread's columns of the band give to the taps of kernel row k_row.
template <int K, int kStride, int V, typename S, typename A>
__device__ void sum_dweight(const DepthwisePlace<V>& at, const Band& band, const DepthwiseMap<const S>& x,
                            const DepthwiseMap<const S>& dy, int k_row, int slot, A (&sums)[K][V]) {
  using Taps = math::OutputTaps<K, kStride>;
  const int blocks_of_row = static_cast<int>((dy.width + kThreadColumns - 1) / kThreadColumns);
  const int64_t blocks = band.rows * blocks_of_row;
  constexpr int kStep = kSlots<K> * DepthwisePlace<V>::kGroups;
#pragma unroll 1
  for (int64_t block = slot * at.kGroups + at.group; block < blocks; block += kStep) {
    const int64_t row = band.begin + block / blocks_of_row;
    const int64_t column = block % blocks_of_row * kThreadColumns;
    const int64_t from_row = Taps::source_row(row, k_row);
    if (from_row < 0 || from_row >= x.height) continue;
    A upstream[kThreadColumns][V] = {};
#pragma unroll
    for (int t = 0; t < kThreadColumns; ++t)
      if (column + t < dy.width) load<V>(dy.at(row, column + t), upstream[t]);
    const int64_t begin = Taps::window_begin(column);
    const S* const from = x.at(from_row, begin);
#pragma unroll
    for (int i = 0; i < Taps::window(kThreadColumns); ++i) {
      if (begin + i < 0 || begin + i >= x.width) continue;
      A value[V];
      load<V>(from + i * x.channels, value);
#pragma unroll
      for (int t = 0; t < kThreadColumns; ++t) {
        const int tap = Taps::tap(i, t);
        if (tap < 0 || tap >= K) continue;
#pragma unroll
        for (int v = 0; v < V; ++v) sums[tap][v] += value[v] * upstream[t][v];
      }
    }
  }
}

template <typename S, typename A, int K, int kStride, int V>
__global__ void __launch_bounds__(kThreads<K>, kBlocksPerMultiprocessor<K>)
    backward_kernel(const DepthwiseArguments<S, A> a, int64_t band_rows, int64_t bands, A* parts) {
  __shared__ __align__(16) A weights[K * K * kTileChannels<V>];
  const DepthwisePlace<V> at(a.channels, bands);
  const int64_t channel = at.channel();
  const bool exists = channel < a.channels;
  const DepthwiseMap<const S> dy = {a.dy + at.image * a.out_height * a.out_width * a.channels + channel, a.out_height,
                                    a.out_width, a.channels};
  if (a.dx != nullptr) {
    bring_weights<K, V>(a, at.tile, weights);
    const Band band(at.band * band_rows, band_rows, a.height);
    if (exists) make_dx<K, kStride, V>(a, at, band, dy, weights + at.tile_channel);
  }
  if (a.dweight == nullptr) return;

  const DepthwiseMap<const S> x = {a.x + at.image * a.height * a.width * a.channels + channel, a.height, a.width,
                                   a.channels};
  const Band band(at.band * band_rows / kStride, band_rows / kStride, a.out_height);
  const int k_row = at.warp % K;
  const int slot = at.warp / K;
  A sums[K][V] = {};
  if (exists) sum_dweight<K, kStride, V>(at, band, x, dy, k_row, slot, sums);
  const int64_t part = (at.image * bands + at.band) * kSlots<K> + slot;
  A* const to = parts + (part * K + k_row) * K * a.channels + channel;  // [parts, K, K, C]
#pragma unroll
  for (int tap = 0; tap < K; ++tap) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const A sum = warp_sum<kChannelLanes<V>>(sums[tap][v]);
      if (exists && at.group == 0) to[tap * a.channels + v] = sum;
    }
  }
}

}  // namespace

template <typename S, typename A>
cudaError_t depthwise_plan(const DepthwiseArguments<S, A>& a, DepthwisePlan* plan) {
  Device device;
  cudaError_t error = Device::current(&device);
  if (error != cudaSuccess) return error;
  return with_pack(a, [&](auto pack) {
    const int64_t tiles = ceil_div(a.channels, kTileChannels<pack>);
    plan->band = round_up(depthwise_band(a.height, a.batch * tiles, device), a.stride);
    plan->bands = ceil_div(a.height, plan->band);
    plan->parts = a.batch * plan->bands * (a.kernel_size == 3 ? kSlots<3> : 1);
    const int64_t fitting = kGateBytes / (std::max<int64_t>(a.heads, 1) * static_cast<int64_t>(sizeof(A)));
    plan->positions = std::clamp<int64_t>(fitting, 1, kMostPositions);
    plan->chunks = ceil_div(a.out_height * a.out_width, plan->positions);
    return cudaSuccess;
  });
}

template <typename S, typename A>
cudaError_t depthwise_backward(const DepthwiseArguments<S, A>& a, const DepthwisePlan& plan, A* workspace,
                               cudaStream_t stream) {
  const cudaError_t error = with_constants(a, [&](auto size, auto stride, auto pack) {
    if (a.batch == 0) return cudaSuccess;  // a grid has at least one block
    const int64_t tiles = ceil_div(a.channels, kTileChannels<pack>);
    return launch(backward_kernel<S, A, size, stride, pack>, dim3(a.batch * plan.bands * tiles), dim3(kThreads<size>),
                  0, stream, a, plan.band, plan.bands, workspace);
  });
  if (error != cudaSuccess || a.dweight == nullptr) return error;
  const int64_t taps = int64_t{a.kernel_size} * a.kernel_size;
  return add_parts<A>(workspace, 1, plan.parts, taps, a.channels, a.dweight, a.dcentre, stream);
}

#define PUMLC_INSTANTIATE(S, A)                                                                            \
  template cudaError_t depthwise_plan<S, A>(const DepthwiseArguments<S, A>&, DepthwisePlan*);              \
  template cudaError_t depthwise_backward<S, A>(const DepthwiseArguments<S, A>&, const DepthwisePlan&, A*, \
                                                cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE

}  // namespace pumlc::cuda
