// The PU loss (../math/pu_loss.h) on CUDA.
//
// One launch, pu_loss_fused: a block owns W neighbouring classes with all rows of the batch, and a class
// needs nothing from other blocks but its place in the final sum. Per block:
//   1. read    logits and labels once from global memory; logits go to a tile in shared memory, labels to one
//              bit each; every thread keeps the moments of what it read
//   2. sum     sigma(z / tau) over the tile, which then holds that (packed); log sigma(z / tau) at positives
//   3. finish  the first W lanes work out their class and write its statistics
//   4. write   the gradient, from the tile
// The block that finishes step 3 last adds up the class losses, in the order of the classes.
//
// A warp reads 32 / W rows at a time, W neighbouring elements of each: lane l has class l % W of row l / W.
// Wide tiles make long reads, narrow ones make more blocks: is_good_width() weighs them.
//
// Where a tile does not fit, and where statistics are summed over processes, the same is done in phases:
// pu_loss_phases_kernel.cu.
#include "pu_loss.cuh"

namespace pumlc::cuda {
namespace {

// Blocks that share a multiprocessor, so that they hide each other's barriers; bounds a thread's registers.
template <typename A>
constexpr int kBlocksPerMultiprocessor = sizeof(A) == 8 ? 1 : 3;

// Elements that a thread should have before the block gets more threads: more warps make a slower barrier.
constexpr int kElementsPerThread = 8;

// Dynamic shared memory of pu_loss_fused: Reduction, 2 W coefficients, a word of label bits per group of rows
// that a warp reads at a time, the tile.
template <typename S, typename A, int W>
struct FusedLayout {
  int64_t groups;
  explicit PUMLC_HOST_DEVICE FusedLayout(int64_t rows) : groups((rows + kWarpSize / W - 1) / (kWarpSize / W)) {}
  PUMLC_HOST_DEVICE int64_t coefficients() const { return sizeof(Reduction<A, W>); }
  PUMLC_HOST_DEVICE int64_t tile() const { return coefficients() + 2 * W * sizeof(A); }
  PUMLC_HOST_DEVICE int64_t bits() const { return tile() + groups * kWarpSize * sizeof(S); }
  PUMLC_HOST_DEVICE int64_t bytes() const { return bits() + groups * sizeof(uint32_t); }
};

template <typename S, typename A, int W>
__global__ void __launch_bounds__(kMaxThreads, kBlocksPerMultiprocessor<A>)
    fused_kernel(const PuLossArguments<S, A> a, unsigned* ticket) {
  unsigned char* const memory = dynamic_shared_memory();
  const FusedLayout<S, A, W> layout(a.rows);
  Reduction<A, W>& reduction = *reinterpret_cast<Reduction<A, W>*>(memory);
  A* const coefficients = reinterpret_cast<A*>(memory + layout.coefficients());         // [2][W]
  S* const tile = reinterpret_cast<S*>(memory + layout.tile());                         // [groups][32]
  uint32_t* const positive_bits = reinterpret_cast<uint32_t*>(memory + layout.bits());  // [groups]

  const Place<W> at;
  constexpr int kRowsPerWarp = Place<W>::kRowsPerWarp;
  const int groups = static_cast<int>(layout.groups);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * W + at.column;
  const int first_row = at.warp * kRowsPerWarp + at.row_in_group;
  // Groups in which this lane has an element: all or all but the last; none where its class does not exist.
  // Asking by the group, not by the row, saves a register for each row in flight: with them, 16-bit logits spill.
  const int groups_of_lane =
      c < a.columns ? (static_cast<int>(a.rows) - at.row_in_group + kRowsPerWarp - 1) / kRowsPerWarp : 0;

  // 1. read
  RunningMoments<A> running;
  const int64_t logits_step = int64_t(at.warps) * kRowsPerWarp * a.logits_stride;
  const int64_t labels_step = int64_t(at.warps) * kRowsPerWarp * a.labels_stride;
  const S* logits_from = a.logits + first_row * a.logits_stride + c;
  const int8_t* labels_from = a.labels + first_row * a.labels_stride + c;
  for (int first = at.warp; first < groups; first += at.warps * kRowsInFlight) {
    S logits[kRowsInFlight];
    int8_t labels[kRowsInFlight];
#pragma unroll
    for (int k = 0; k < kRowsInFlight; ++k) {
      const bool exists = first + k * at.warps < groups_of_lane;
      logits[k] = exists ? __ldg(logits_from) : S(0);
      labels[k] = exists ? __ldg(labels_from) : int8_t(0);
      logits_from += logits_step;
      labels_from += labels_step;
    }
    if (first == at.warp) {
      A sum = A(0);
      int count = 0;
#pragma unroll
      for (int k = 0; k < kRowsInFlight; ++k) {
        sum += static_cast<A>(logits[k]);
        count += first + k * at.warps < groups_of_lane;
      }
      running.set_shift(sum, count);
    }
#pragma unroll
    for (int k = 0; k < kRowsInFlight; ++k) {
      const int group = first + k * at.warps;
      if (group >= groups) break;  // the same for all lanes
      const bool is_positive = labels[k] > 0;
      if (group < groups_of_lane) running.add(static_cast<A>(logits[k]), is_positive);
      tile[group * kWarpSize + at.lane] = logits[k];
      const uint32_t bits = __ballot_sync(kFullWarp, is_positive);
      if (at.lane == 0) positive_bits[group] = bits;
    }
  }
  const Moments<A> moments = block_merge<W>(running.get(), reduction);

  // 2. sum; a thread finds in the tile what it wrote itself
  const A temperature = math::pu_temperature(moments.squared_deviations, moments.count, a.alpha, a.min_temperature);
  const A inverse_temperature = A(1) / temperature;
  A probability_sum = A(0);
  A log_probability_sum = A(0);
#pragma unroll 4
  for (int group = at.warp; group < groups; group += at.warps) {
    const A x = static_cast<A>(tile[group * kWarpSize + at.lane]) * inverse_temperature;
    const auto s = math::sigmoid_pair(x);
    if (group < groups_of_lane) probability_sum += s.p;
    if (positive_bits[group] >> at.lane & 1u) log_probability_sum += math::log_sigmoid(x);
    tile[group * kWarpSize + at.lane] = static_cast<S>(s.packed);
  }
  block_add<W>(probability_sum, log_probability_sum, reduction);

  // 3. finish
  if (threadIdx.x < W && c < a.columns) {
    const auto k =
        math::pu_class(temperature, moments.count, moments.positives, probability_sum, log_probability_sum, a.gamma);
    coefficients[at.column] = k.unlabelled;
    coefficients[W + at.column] = k.positive;
    write_statistics(a, c, moments.positives, k);
  }
  add_up_loss(a, ticket, gridDim.x);  // also the barrier after which all threads read the coefficients

  // 4. write
  if (a.gradient == nullptr || c >= a.columns) return;
  const A unlabelled = coefficients[at.column];
  const A positive = coefficients[W + at.column];
  S* to = a.gradient + first_row * a.columns + c;
  const int64_t step = int64_t(at.warps) * kRowsPerWarp * a.columns;
#pragma unroll 4
  for (int group = at.warp; group < groups_of_lane; group += at.warps) {
    const auto s = math::unpack(static_cast<A>(tile[group * kWarpSize + at.lane]));
    const bool is_positive = positive_bits[group] >> at.lane & 1u;
    *to = static_cast<S>(math::pu_gradient(s, is_positive, unlabelled, positive));
    to += step;
  }
}

template <typename S, typename A, int W>
cudaError_t launch_fused(const PuLossArguments<S, A>& a, unsigned* ticket, cudaStream_t stream) {
  int threads = 128;
  while (threads < kMaxThreads && a.rows * W > static_cast<int64_t>(threads) * kElementsPerThread) threads *= 2;
  const cudaError_t error = cudaMemsetAsync(ticket, 0, sizeof(*ticket), stream);
  if (error != cudaSuccess) return error;
  return launch(fused_kernel<S, A, W>, dim3(ceil_div(a.columns, W)), dim3(threads),
                FusedLayout<S, A, W>(a.rows).bytes(), stream, a, ticket);
}

// True where tiles of W classes leave room for the blocks that share a multiprocessor, and make a block for
// each multiprocessor.
template <typename S, typename A, int W>
bool is_good_width(const PuLossArguments<S, A>& a, const Device& device) {
  return kBlocksPerMultiprocessor<A> * FusedLayout<S, A, W>(a.rows).bytes() <= device.shared_memory &&
         ceil_div(a.columns, W) >= device.multiprocessors;
}

}  // namespace

template <typename S, typename A>
cudaError_t pu_loss_fused(const PuLossArguments<S, A>& a, unsigned* ticket, bool* fits, cudaStream_t stream) {
  Device device;
  const cudaError_t error = Device::current(&device);
  if (error != cudaSuccess) return error;
  *fits = FusedLayout<S, A, 8>(a.rows).bytes() <= device.shared_memory;
  if (!*fits) return cudaSuccess;
  if (is_good_width<S, A, 32>(a, device)) return launch_fused<S, A, 32>(a, ticket, stream);
  if (is_good_width<S, A, 16>(a, device)) return launch_fused<S, A, 16>(a, ticket, stream);
  return launch_fused<S, A, 8>(a, ticket, stream);
}

#define PUMLC_INSTANTIATE(S, A) \
  template cudaError_t pu_loss_fused<S, A>(const PuLossArguments<S, A>&, unsigned*, bool*, cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE

}  // namespace pumlc::cuda
