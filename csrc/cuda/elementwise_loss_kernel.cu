// The elementwise losses (../math/elementwise_loss.h) on CUDA, in one launch: loss and gradient.
//
// The elements of all rows, in their order, are cut into tiles of kTile; a thread has kInFlight of a tile, kThreads
// apart, and asks for all of them before it uses the first. A block has the tiles blockIdx.x, blockIdx.x + gridDim.x,
// ... and adds up the terms of what it had; the block that ends last adds the blocks in their order. A thread adds in
// the accumulation type, what threads had is added in double: once per block, so that it costs nothing.
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "../math/elementwise_loss.h"
#include "elementwise_loss.h"
#include "reduce.cuh"

namespace pumlc::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kInFlight = 4;
constexpr int kTile = kThreads * kInFlight;
static_assert(kThreads <= kWarpSize * kWarpSize, "block_sum adds at most 32 warps");

// As many as the registers of the float kernels leave room for: more would wait for others to end.
constexpr int64_t kBlocksPerMultiprocessor = 6;

template <typename S, typename A, typename Loss>
__global__ void __launch_bounds__(kThreads)
    elementwise_loss_kernel(const ElementwiseLossArguments<S, A> a, const Loss loss, double* partial,
                            unsigned* ticket) {
  __shared__ double warp_sums[kWarpSize];
  const int64_t elements = a.rows * a.columns;
  A sum = A(0);
  for (int64_t first = int64_t(blockIdx.x) * kTile + threadIdx.x; first < elements;
       first += int64_t(gridDim.x) * kTile) {
    S logits[kInFlight];
    int8_t labels[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int64_t i = first + k * kThreads;
      if (i >= elements) break;
      const int64_t row = a.rows == 1 ? 0 : i / a.columns;  // of most batches the rows are one: no division
      const int64_t c = i - row * a.columns;
      logits[k] = __ldg(a.logits + row * a.logits_stride + c);
      labels[k] = __ldg(a.labels + row * a.labels_stride + c);
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int64_t i = first + k * kThreads;
      if (i >= elements) break;
      const math::LossTerm<A> term = loss(static_cast<A>(logits[k]), static_cast<A>(labels[k]));
      sum += term.value;
      if (a.gradient != nullptr) a.gradient[i] = static_cast<S>(a.scale * term.slope);
    }
  }
  const double block = block_sum(static_cast<double>(sum), warp_sums);
  if (threadIdx.x == 0) partial[blockIdx.x] = block;
  if (!is_last_block(ticket, gridDim.x)) return;
  double total = 0.0;
  for (unsigned other = threadIdx.x; other < gridDim.x; other += kThreads) total += __ldcg(partial + other);
  total = block_sum(total, warp_sums);
  if (threadIdx.x == 0) *a.loss = static_cast<A>(total / a.divisor);
}

}  // namespace

cudaError_t elementwise_loss_blocks(int64_t elements, int64_t* blocks) {
  Device device;
  const cudaError_t error = Device::current(&device);
  if (error != cudaSuccess) return error;
  const int64_t tiles = ceil_div(elements, kTile);
  const int64_t most = kBlocksPerMultiprocessor * device.multiprocessors;
  *blocks = tiles < most ? tiles : most;
  return cudaSuccess;
}

template <typename S, typename A, typename Loss>
cudaError_t elementwise_loss(const ElementwiseLossArguments<S, A>& a, const Loss& loss, int64_t blocks, double* partial,
                             unsigned* ticket, cudaStream_t stream) {
  const cudaError_t error = cudaMemsetAsync(ticket, 0, sizeof(*ticket), stream);
  if (error != cudaSuccess) return error;
  return launch(elementwise_loss_kernel<S, A, Loss>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, a,
                loss, partial, ticket);
}

#define PUMLC_INSTANTIATE_LOSS(S, A, Loss)                    \
  template cudaError_t elementwise_loss<S, A, math::Loss<A>>( \
      const ElementwiseLossArguments<S, A>&, const math::Loss<A>&, int64_t, double*, unsigned*, cudaStream_t);
#define PUMLC_INSTANTIATE(S, A)              \
  PUMLC_INSTANTIATE_LOSS(S, A, CrossEntropy) \
  PUMLC_INSTANTIATE_LOSS(S, A, Focal)        \
  PUMLC_INSTANTIATE_LOSS(S, A, Asymmetric)   \
  PUMLC_INSTANTIATE_LOSS(S, A, Hill)         \
  PUMLC_INSTANTIATE_LOSS(S, A, Entropy)      \
  PUMLC_INSTANTIATE_LOSS(S, A, Robust)

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE
#undef PUMLC_INSTANTIATE_LOSS

}  // namespace pumlc::cuda
