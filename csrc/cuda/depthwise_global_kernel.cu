// Derivatives of the global part of the depthwise local-global convolution (../math/depthwise.h) on CUDA: of the
// context, the gates' scores and the shift. They join all channels of a head at each position, where the kernels of the
// convolution own a tile of channels, so dy is read once more here.
//
// A block owns an image and a chunk of its output positions, with all channels; the gates of the chunk are in shared
// memory, [positions, heads]. Per block:
//   1. sums    a thread owns a channel: over the chunk, of dy and of gate dy; the block's part of dshift and dcontext
//   2. scores  a warp owns a position and a head: the sum over its channels of dy context, from the caches
// Another kernel adds the parts in a fixed order.
#include "depthwise.cuh"

namespace pumlc::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSums = 8;

// The sum of 8 numbers, in pairs.
template <typename A>
__device__ A add_up(const A (&numbers)[kSums]) {
  static_assert(kSums == 8);
  return ((numbers[0] + numbers[1]) + (numbers[2] + numbers[3])) +
         ((numbers[4] + numbers[5]) + (numbers[6] + numbers[7]));
}

template <typename S, typename A>
__global__ void __launch_bounds__(kThreads) global_backward_kernel(const DepthwiseArguments<S, A> a, int64_t chunk,
                                                                   int64_t chunks, A* of_context, A* of_shift) {
  A* const gates = reinterpret_cast<A*>(dynamic_shared_memory());
  const int64_t image = blockIdx.x / chunks;
  const int64_t begin = blockIdx.x % chunks * chunk;
  const int64_t positions_of_image = a.out_height * a.out_width;
  const int positions = static_cast<int>(begin + chunk < positions_of_image ? chunk : positions_of_image - begin);
  const int heads = static_cast<int>(a.heads);
  const int64_t channels_per_head = a.channels / a.heads;

  for (int i = threadIdx.x; i < positions * heads; i += kThreads) {
    const int64_t row = (begin + i / heads) / a.out_width * a.stride;
    const int64_t column = (begin + i / heads) % a.out_width * a.stride;
    const S score = __ldg(a.gate_scores + image * a.gate_strides[0] + i % heads * a.gate_strides[1] +
                          row * a.gate_strides[2] + column * a.gate_strides[3]);
    gates[i] = math::sigmoid_pair(static_cast<A>(score)).p;
  }
  __syncthreads();

  // 1. sums
  const S* const dy = a.dy + (image * positions_of_image + begin) * a.channels;  // [positions, C]
  for (int64_t c = threadIdx.x; c < a.channels; c += kThreads) {
    const int head = static_cast<int>(c / channels_per_head);
    // several sums each: shorter chains of additions, and of rounding errors
    A gated[kSums] = {};
    A plain[kSums] = {};
    for (int first = 0; first < positions; first += kSums) {
#pragma unroll
      for (int k = 0; k < kSums; ++k) {
        const int p = first + k;
        if (p >= positions) continue;
        const A upstream = static_cast<A>(__ldg(dy + p * a.channels + c));
        gated[k] += gates[p * heads + head] * upstream;
        plain[k] += upstream;
      }
    }
    of_context[int64_t{blockIdx.x} * a.channels + c] = add_up(gated);
    of_shift[int64_t{blockIdx.x} * a.channels + c] = add_up(plain);
  }

  // 2. scores
  const int lane = threadIdx.x % kWarpSize;
  for (int i = threadIdx.x / kWarpSize; i < positions * heads; i += kThreads / kWarpSize) {
    const int p = i / heads;
    const int head = i % heads;
    const S* const upstream = dy + p * a.channels + head * channels_per_head;
    const A* const context = a.context + image * a.channels + head * channels_per_head;
    A sum = A(0);
    for (int64_t c = lane; c < channels_per_head; c += kWarpSize)
      sum += static_cast<A>(__ldg(upstream + c)) * context[c];
    sum = warp_sum<1>(sum);
    if (lane > 0) continue;
    const A gate = gates[i];
    const int64_t row = (begin + p) / a.out_width * a.stride;
    const int64_t column = (begin + p) % a.out_width * a.stride;
    // the positions that are not sampled, up to the next that is, have a derivative of 0
    for (int64_t y = row; y < row + a.stride && y < a.height; ++y) {
      for (int64_t x = column; x < column + a.stride && x < a.width; ++x) {
        const A derivative = y == row && x == column ? gate * (A(1) - gate) * sum : A(0);
        a.dgate_scores[((image * a.height + y) * a.width + x) * heads + head] = static_cast<S>(derivative);
      }
    }
  }
}

}  // namespace

template <typename S, typename A>
cudaError_t depthwise_global_backward(const DepthwiseArguments<S, A>& a, const DepthwisePlan& plan, A* workspace,
                                      cudaStream_t stream) {
  A* const of_context = workspace;
  A* const of_shift = workspace + a.batch * plan.chunks * a.channels;
  cudaError_t error = cudaSuccess;
  if (a.batch > 0) {
    error = launch(global_backward_kernel<S, A>, dim3(a.batch * plan.chunks), dim3(kThreads),
                   plan.positions * a.heads * static_cast<int64_t>(sizeof(A)), stream, a, plan.positions, plan.chunks,
                   of_context, of_shift);
  }
  A* const of_shift_of_image = of_shift + a.batch * plan.chunks * a.channels;  // [B, C]
  if (error == cudaSuccess)
    error = add_parts<A>(of_context, a.batch, plan.chunks, 1, a.channels, a.dcontext, nullptr, stream);
  if (error == cudaSuccess)
    error = add_parts<A>(of_shift, a.batch, plan.chunks, 1, a.channels, of_shift_of_image, nullptr, stream);
  if (error == cudaSuccess)
    error = add_parts<A>(of_shift_of_image, 1, a.batch, 1, a.channels, a.dshift, nullptr, stream);
  return error;
}

#define PUMLC_INSTANTIATE(S, A)                                                                                   \
  template cudaError_t depthwise_global_backward<S, A>(const DepthwiseArguments<S, A>&, const DepthwisePlan&, A*, \
                                                       cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE

}  // namespace pumlc::cuda
