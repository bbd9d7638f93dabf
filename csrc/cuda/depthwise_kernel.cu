// Depthwise convolution and its local-global form (../math/depthwise.h) on CUDA, forward.
//
// A block owns an image, a band of output rows and a tile of 32 (float64: 16) channels, whose weights it holds in
// shared memory. A thread owns 16 bytes of neighbouring channels and, of the blocks of 4 neighbouring columns that the
// band is made of, every n-th. For a kernel row it walks along W: each source is loaded once, widened, and multiplied
// by the up to 4 taps that reach it, into sums in registers. What neighbouring threads and rows load again comes from
// the L1 cache. The epilogue adds the gated context and the shift, so that y is written once.
#include "depthwise.cuh"

namespace pumlc::cuda {
namespace {

constexpr int kThreads = 128;
// At 7 x 7 the weights of a kernel row take 56 registers, sums 32, sources in flight up to 52: a bound of 168 spills.
constexpr int kBlocksPerMultiprocessor = 2;

// gate_h(c)(p) context_c + shift_c
template <int V, typename S, typename A>
class GlobalPart {
 public:
  __device__ GlobalPart(const DepthwiseArguments<S, A>& a, int64_t image, int64_t channel)
      : scores_(a.gate_scores + image * a.gate_strides[0]), channels_per_head_(a.channels / a.heads) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      context_[v] = a.context[image * a.channels + channel + v];
      shift_[v] = a.shift[channel + v];
    }
    first_head_ = channel / channels_per_head_;
    has_one_head_ = (channel + V - 1) / channels_per_head_ == first_head_;
    channel_ = channel;
  }

  __device__ void add(const DepthwiseArguments<S, A>& a, int64_t row, int64_t column, A (&sum)[V]) const {
    const S* const at = scores_ + row * a.stride * a.gate_strides[2] + column * a.stride * a.gate_strides[3];
    A gate = sigma(at + first_head_ * a.gate_strides[1]);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if (!has_one_head_ && v > 0) gate = sigma(at + (channel_ + v) / channels_per_head_ * a.gate_strides[1]);
      sum[v] += gate * context_[v] + shift_[v];
    }
  }

 private:
  static __device__ A sigma(const S* score) { return math::sigmoid_pair(static_cast<A>(__ldg(score))).p; }

  const S* scores_;
  int64_t channels_per_head_;
  int64_t channel_;
  int64_t first_head_;
  bool has_one_head_;
  A context_[V];
  A shift_[V];
};

template <typename S, typename A, int K, int kStride, int V>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    forward_kernel(const DepthwiseArguments<S, A> a, int64_t band, int64_t bands) {
  using Taps = math::OutputTaps<K, kStride>;
  __shared__ __align__(16) A weights[K * K * kTileChannels<V>];
  const DepthwisePlace<V> at(a.channels, bands);
  bring_weights<K, V>(a, at.tile, weights);
  const int64_t channel = at.channel();
  if (channel >= a.channels) return;

  const DepthwiseMap<const S> x = {a.x + at.image * a.height * a.width * a.channels + channel, a.height, a.width,
                                   a.channels};
  const DepthwiseMap<S> y = {a.y + at.image * a.out_height * a.out_width * a.channels + channel, a.out_height,
                             a.out_width, a.channels};
  const int64_t begin = at.band * band;
  const int64_t rows = begin + band < a.out_height ? band : a.out_height - begin;
  const int blocks_of_row = static_cast<int>((a.out_width + kThreadColumns - 1) / kThreadColumns);
  const int64_t blocks = rows * blocks_of_row;
  constexpr int kStep = kThreads / kChannelLanes<V>;
  for (int64_t block = at.warp * at.kGroups + at.group; block < blocks; block += kStep) {
    const int64_t row = begin + block / blocks_of_row;
    const int64_t column = block % blocks_of_row * kThreadColumns;
    A sums[kThreadColumns][V] = {};
    gather<Taps, V>(x, row, column, weights + at.tile_channel, sums);
    if (a.context != nullptr) {
      const GlobalPart<V, S, A> part(a, at.image, channel);
#pragma unroll
      for (int t = 0; t < kThreadColumns; ++t)
        if (column + t < a.out_width) part.add(a, row, column + t, sums[t]);
    }
#pragma unroll
    for (int t = 0; t < kThreadColumns; ++t)
      if (column + t < a.out_width) store<V>(sums[t], y.at(row, column + t));
  }
}

}  // namespace

template <typename S, typename A>
cudaError_t depthwise_forward(const DepthwiseArguments<S, A>& a, cudaStream_t stream) {
  Device device;
  const cudaError_t error = Device::current(&device);
  if (error != cudaSuccess) return error;
  return with_constants(a, [&](auto size, auto stride, auto pack) {
    const int64_t tiles = ceil_div(a.channels, kTileChannels<pack>);
    const int64_t band = depthwise_band(a.out_height, a.batch * tiles, device);
    const int64_t bands = ceil_div(a.out_height, band);
    return launch(forward_kernel<S, A, size, stride, pack>, dim3(a.batch * bands * tiles), dim3(kThreads), 0, stream, a,
                  band, bands);
  });
}

#define PUMLC_INSTANTIATE(S, A) \
  template cudaError_t depthwise_forward<S, A>(const DepthwiseArguments<S, A>&, cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE

}  // namespace pumlc::cuda
