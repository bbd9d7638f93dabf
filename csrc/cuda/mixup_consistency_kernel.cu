// The mixup regulariser (../math/mixup_consistency.h) on CUDA, in one launch: loss and both gradients.
//
// The classes of all pairs are cut into tiles of kTileClasses classes by kTilePairs pairs; lane l of a warp has class l
// of a tile, the warp one of its pairs. A block has the tiles blockIdx.x, blockIdx.x + gridDim.x, ... and adds up the
// squares of what it had; the block that ends last adds the blocks in their order.
//
// Row i of the mixed gradient is written by the thread of pair i, and so are the pair's two rows of the gradient: the
// permutation gives every row of the first half to one pair. Of an odd batch the middle row stands in both halves: the
// thread that has it as a first row adds what pair 0, which has it as second row, would have written.
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <limits>

#include "../math/mixup_consistency.h"
#include "mixup_consistency.h"
#include "reduce.cuh"

namespace pumlc::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTileClasses = kWarpSize;
constexpr int kTilePairs = kThreads / kTileClasses;
static_assert(kThreads <= kWarpSize * kWarpSize, "block_sum adds at most 32 warps");

// As many as the registers of the float kernels leave room for: more would wait for others to end.
constexpr int64_t kBlocksPerMultiprocessor = 6;

// dL/dz of one class of a pair, less the factor 2 / h.
template <typename A>
struct PairGradient {
  A first;
  A second;
  A mixed;
  A square;
};

template <typename S, typename A>
__device__ PairGradient<A> take_pair(const MixupConsistencyArguments<S, A>& a, int64_t pair, int64_t first_row,
                                     int64_t c, A mix) {
  const int64_t second_row = a.second_row(pair);
  const S z_first = __ldg(a.logits + first_row * a.logits_stride + c);
  const S z_second = __ldg(a.logits + second_row * a.logits_stride + c);
  const S z_mixed = __ldg(a.mixed + pair * a.mixed_stride + c);
  const bool is_positive_first = __ldg(a.labels + first_row * a.labels_stride + c) > 0;
  const bool is_positive_second = __ldg(a.labels + second_row * a.labels_stride + c) > 0;
  const auto first = math::mixup_target(static_cast<A>(z_first), is_positive_first, a.epsilon);
  const auto second = math::mixup_target(static_cast<A>(z_second), is_positive_second, a.epsilon);
  const auto term = math::mixup_term(first, second, static_cast<A>(z_mixed), mix, a.epsilon);
  return {mix * term.target * first.slope, (A(1) - mix) * term.target * second.slope, term.mixed,
          term.difference * term.difference};
}

template <typename S, typename A>
__global__ void __launch_bounds__(kThreads)
    mixup_consistency_kernel(const MixupConsistencyArguments<S, A> a, A* partial, unsigned* ticket) {
  __shared__ A warp_sums[kWarpSize];
  const int64_t pairs = a.pairs();
  // a GPU divides in 32 bits; the launcher sees to it that they do
  const auto tiles_of_classes = static_cast<unsigned>(ceil_div(a.columns, kTileClasses));
  const auto tiles = static_cast<unsigned>(tiles_of_classes * ceil_div(pairs, kTilePairs));
  const A mix = __ldg(a.mix);
  const A scale = A(2) / static_cast<A>(pairs);
  const bool is_odd = a.rows % 2 != 0;
  A sum = A(0);
  for (unsigned tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t c = int64_t(tile % tiles_of_classes) * kTileClasses + threadIdx.x % kTileClasses;
    const int64_t pair = int64_t(tile / tiles_of_classes) * kTilePairs + threadIdx.x / kTileClasses;
    if (c >= a.columns || pair >= pairs) continue;
    const int64_t first_row = __ldg(a.permutation + pair);
    if (first_row < 0 || first_row >= pairs) {  // no row: seen in the loss, for nothing can be raised here
      sum += static_cast<A>(NAN);
      continue;
    }
    PairGradient<A> own = take_pair(a, pair, first_row, c, mix);
    sum += own.square;
    if (a.mixed_gradient != nullptr) a.mixed_gradient[pair * a.columns + c] = static_cast<S>(scale * own.mixed);
    if (a.gradient == nullptr) continue;
    if (!is_odd || pair != 0) a.gradient[a.second_row(pair) * a.columns + c] = static_cast<S>(scale * own.second);
    if (is_odd && first_row == a.second_row(0)) {
      const int64_t other_row = __ldg(a.permutation);
      if (other_row >= 0 && other_row < pairs) own.first += take_pair(a, 0, other_row, c, mix).second;
    }
    a.gradient[first_row * a.columns + c] = static_cast<S>(scale * own.first);
  }
  sum = block_sum(sum, warp_sums);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
  if (!is_last_block(ticket, gridDim.x)) return;
  A total = A(0);
  for (unsigned block = threadIdx.x; block < gridDim.x; block += kThreads) total += __ldcg(partial + block);
  total = block_sum(total, warp_sums);
  if (threadIdx.x == 0) *a.loss = total / static_cast<A>(pairs);
}

}  // namespace

cudaError_t mixup_consistency_blocks(int64_t pairs, int64_t columns, int64_t* blocks) {
  Device device;
  const cudaError_t error = Device::current(&device);
  if (error != cudaSuccess) return error;
  const int64_t tiles = ceil_div(columns, kTileClasses) * ceil_div(pairs, kTilePairs);
  if (tiles > std::numeric_limits<int>::max()) return cudaErrorInvalidValue;
  const int64_t most = kBlocksPerMultiprocessor * device.multiprocessors;
  *blocks = tiles < most ? tiles : most;
  return cudaSuccess;
}

template <typename S, typename A>
cudaError_t mixup_consistency(const MixupConsistencyArguments<S, A>& a, int64_t blocks, A* partial, unsigned* ticket,
                              cudaStream_t stream) {
  const cudaError_t error = cudaMemsetAsync(ticket, 0, sizeof(*ticket), stream);
  if (error != cudaSuccess) return error;
  return launch(mixup_consistency_kernel<S, A>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, a,
                partial, ticket);
}

#define PUMLC_INSTANTIATE(S, A)                                                                                \
  template cudaError_t mixup_consistency<S, A>(const MixupConsistencyArguments<S, A>&, int64_t, A*, unsigned*, \
                                               cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE

}  // namespace pumlc::cuda
