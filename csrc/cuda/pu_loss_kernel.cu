// The PU loss (../math/pu_loss.h) on CUDA.
//
// One launch, pu_loss_fused: a block owns W neighbouring classes with all rows of the batch, and a class
// needs nothing from other blocks but its place in the final sum. Per block:
//   1. read    logits and labels once from global memory; logits go to a tile in shared memory, labels to one
//              bit each; every thread keeps the moments of what it read
//   2. sum     sigma(z / tau) over the tile, which then holds it instead of z; log sigma(z / tau) at
//   positives
//   3. finish  the first W lanes work out their class and write its statistics
//   4. write   the gradient, from the tile
// The block that finishes step 3 last adds up the class losses, in the order of the classes.
//
// A warp reads 32 / W rows at a time, W neighbouring elements of each: lane l has class l % W of row l / W.
// Wide tiles make long reads, narrow ones make more blocks: is_good_width() weighs them.
//
// Where a tile does not fit, and where statistics are summed over processes, the same is done in three phases
// over blocks of 32 classes by a share of the rows: pu_loss_moments, pu_loss_probability_sums,
// pu_loss_finish.
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "../math/pu_loss.h"
#include "pu_loss.h"
#include "reduce.cuh"

namespace pumlc::cuda {
namespace {

using math::Moments;

constexpr int kMaxThreads = 256;
constexpr int kMaxWarps = kMaxThreads / kWarpSize;
static_assert(kMaxWarps <= kWarpSize, "block_sum adds the warps in one thread's loop over at most 32");

// Blocks that share a multiprocessor, so that they hide each other's barriers; bounds the registers of a
// thread.
template <typename A>
constexpr int kBlocksPerMultiprocessor = sizeof(A) == 8 ? 1 : 3;

// Rows that a thread asks for before it uses the first: with 3 blocks of 8 warps on a multiprocessor, 12 rows
// of 64 + 32 bytes are 27 KB in flight; an H200 needs 25 KB for its bandwidth at a latency of 0.7 us.
constexpr int kRowsInFlight = 12;

// Elements that a thread should have before the block gets more threads: a barrier over more warps costs
// more.
constexpr int kElementsPerThread = 8;

// Class c of row i in shared memory or registers: see the top of this file.
template <int W>
struct Place {
  static_assert(W == 8 || W == 16 || W == 32, "a warp reads whole rows of a tile");
  static constexpr int kRowsPerWarp = kWarpSize / W;
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int warps = blockDim.x / kWarpSize;
  const int column = lane % W;
  const int row_in_group = lane / W;
};

// Moments of the numbers that one thread reads, about a shift near their mean so that no digits cancel.
template <typename A>
class RunningMoments {
 public:
  // The shift is the mean of the first numbers. With a single far outlier among n of them, n / kRowsInFlight
  // times the rounding error of a two-pass sum is lost, at most.
  __device__ void set_shift(A sum, int count) { shift_ = count > 0 ? sum / A(count) : A(0); }

  __device__ void add(A value, bool is_positive) {
    const A difference = value - shift_;
    sum_ += difference;
    squares_ += difference * difference;
    count_ += A(1);
    positives_ += is_positive ? A(1) : A(0);
  }

  __device__ Moments<A> get() const {
    if (count_ == A(0)) return {A(0), A(0), A(0), A(0)};
    const A mean = sum_ / count_;
    const A deviations = squares_ - sum_ * mean;
    return {count_, shift_ + mean, deviations < A(0) ? A(0) : deviations, positives_};  // NaN stays NaN
  }

 private:
  A shift_ = A(0);
  A sum_ = A(0);
  A squares_ = A(0);
  A count_ = A(0);
  A positives_ = A(0);
};

// Shared memory for reductions over the warps of a block, per class.
template <typename A, int W>
struct Reduction {
  A count[kMaxWarps];  // of the first class, which is that of all classes that exist
  A value[3][kMaxWarps][W];
};

// Merges the moments of all threads of the block that have the same class; every thread gets those of its
// class.
template <int W, typename A>
__device__ Moments<A> block_merge(Moments<A> m, Reduction<A, W>& shared) {
  const Place<W> at;
#pragma unroll
  for (int offset = kWarpSize / 2; offset >= W; offset /= 2) {
    const Moments<A> other = {__shfl_xor_sync(kFullWarp, m.count, offset),
                              __shfl_xor_sync(kFullWarp, m.mean, offset),
                              __shfl_xor_sync(kFullWarp, m.squared_deviations, offset),
                              __shfl_xor_sync(kFullWarp, m.positives, offset)};
    m = math::merge_moments<A>(2, [&](int64_t part) { return part == 0 ? m : other; });
  }
  if (at.lane == 0) shared.count[at.warp] = m.count;
  if (at.lane < W) {
    shared.value[0][at.warp][at.column] = m.mean;
    shared.value[1][at.warp][at.column] = m.squared_deviations;
    shared.value[2][at.warp][at.column] = m.positives;
  }
  __syncthreads();
  return math::merge_moments<A>(at.warps, [&](int64_t warp) {
    return Moments<A>{shared.count[warp], shared.value[0][warp][at.column], shared.value[1][warp][at.column],
                      shared.value[2][warp][at.column]};
  });
}

// Adds two numbers per thread over the threads of the block that have the same class; every thread gets the
// sums.
template <int W, typename A>
__device__ void block_add(A& first, A& second, Reduction<A, W>& shared) {
  const Place<W> at;
  first = warp_sum<W>(first);
  second = warp_sum<W>(second);
  __syncthreads();  // the last use of shared is over
  if (at.lane < W) {
    shared.value[0][at.warp][at.column] = first;
    shared.value[1][at.warp][at.column] = second;
  }
  __syncthreads();
  first = second = A(0);
  for (int warp = 0; warp < at.warps; ++warp) {
    first += shared.value[0][warp][at.column];
    second += shared.value[1][warp][at.column];
  }
}

// Writes the statistics [5, columns] of class c.
template <typename S, typename A>
__device__ void write_statistics(const PuLossArguments<S, A>& a, int64_t c, A positives,
                                 const math::PuClass<A>& k) {
  a.statistics[math::kPositives * a.columns + c] = positives;
  a.statistics[math::kTemperature * a.columns + c] = k.temperature;
  a.statistics[math::kMeanProbability * a.columns + c] = k.mean_probability;
  a.statistics[math::kWeight * a.columns + c] = k.weight;
  a.statistics[math::kClassLoss * a.columns + c] = k.loss;
}

// loss [] = sum of the class losses, by the last of `blocks` blocks that have written theirs.
template <typename S, typename A>
__device__ void add_up_loss(const PuLossArguments<S, A>& a, unsigned* ticket, unsigned blocks) {
  __shared__ A partial[kWarpSize];
  if (!is_last_block(ticket, blocks)) return;
  const A* class_loss = a.statistics + math::kClassLoss * a.columns;
  A sum = A(0);
  for (int64_t c = threadIdx.x; c < a.columns; c += blockDim.x) sum += __ldcg(class_loss + c);
  sum = block_sum(sum, partial);
  if (threadIdx.x == 0) *a.loss = sum;
}

// Dynamic shared memory of pu_loss_fused: Reduction, 2 W coefficients, a word of label bits per group of rows
// that a warp reads at a time, the tile.
template <typename S, typename A, int W>
struct FusedLayout {
  int64_t groups;
  explicit PUMLC_HOST_DEVICE FusedLayout(int64_t rows)
      : groups((rows + kWarpSize / W - 1) / (kWarpSize / W)) {}
  PUMLC_HOST_DEVICE int64_t coefficients() const { return sizeof(Reduction<A, W>); }
  PUMLC_HOST_DEVICE int64_t tile() const { return coefficients() + 2 * W * sizeof(A); }
  PUMLC_HOST_DEVICE int64_t bits() const { return tile() + groups * kWarpSize * sizeof(S); }
  PUMLC_HOST_DEVICE int64_t bytes() const { return bits() + groups * sizeof(uint32_t); }
};

template <typename S, typename A, int W>
__global__ void __launch_bounds__(kMaxThreads, kBlocksPerMultiprocessor<A>)
    fused_kernel(const PuLossArguments<S, A> a, unsigned* ticket) {
  extern __shared__ __align__(16) unsigned char memory[];
  const FusedLayout<S, A, W> layout(a.rows);
  Reduction<A, W>& reduction = *reinterpret_cast<Reduction<A, W>*>(memory);
  A* const coefficients = reinterpret_cast<A*>(memory + layout.coefficients());         // [2][W]
  S* const tile = reinterpret_cast<S*>(memory + layout.tile());                         // [groups][32]
  uint32_t* const positive_bits = reinterpret_cast<uint32_t*>(memory + layout.bits());  // [groups]

  const Place<W> at;
  const int rows = static_cast<int>(a.rows);
  const int groups = static_cast<int>(layout.groups);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * W + at.column;
  const int rows_of_class = c < a.columns ? rows : 0;
  const auto row_of = [&](int group) { return group * Place<W>::kRowsPerWarp + at.row_in_group; };

  // 1. read
  RunningMoments<A> running;
  const int64_t logits_step = int64_t(at.warps) * Place<W>::kRowsPerWarp * a.logits_stride;
  const int64_t labels_step = int64_t(at.warps) * Place<W>::kRowsPerWarp * a.labels_stride;
  const S* logits_from = a.logits + row_of(at.warp) * a.logits_stride + c;
  const int8_t* labels_from = a.labels + row_of(at.warp) * a.labels_stride + c;
  for (int first = at.warp; first < groups; first += at.warps * kRowsInFlight) {
    S logits[kRowsInFlight];
    int8_t labels[kRowsInFlight];
#pragma unroll
    for (int k = 0; k < kRowsInFlight; ++k) {
      const bool exists = row_of(first + k * at.warps) < rows_of_class;
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
        count += row_of(first + k * at.warps) < rows_of_class;
      }
      running.set_shift(sum, count);
    }
#pragma unroll
    for (int k = 0; k < kRowsInFlight; ++k) {
      const int group = first + k * at.warps;
      if (group >= groups) break;  // the same for all lanes
      const bool is_positive = labels[k] > 0;
      if (row_of(group) < rows_of_class) running.add(static_cast<A>(logits[k]), is_positive);
      tile[group * kWarpSize + at.lane] = logits[k];
      const uint32_t bits = __ballot_sync(kFullWarp, is_positive);
      if (at.lane == 0) positive_bits[group] = bits;
    }
  }
  const Moments<A> moments = block_merge<W>(running.get(), reduction);

  // 2. sum; a thread finds in the tile what it wrote itself
  const A temperature =
      math::pu_temperature(moments.squared_deviations, moments.count, a.alpha, a.min_temperature);
  const A inverse_temperature = A(1) / temperature;
  A probability_sum = A(0);
  A log_probability_sum = A(0);
#pragma unroll 4
  for (int group = at.warp; group < groups; group += at.warps) {
    const A x = static_cast<A>(tile[group * kWarpSize + at.lane]) * inverse_temperature;
    const A p = math::sigmoid_pair(x).p;
    if (row_of(group) < rows_of_class) probability_sum += p;
    if (positive_bits[group] >> at.lane & 1u) log_probability_sum += math::log_sigmoid(x);
    tile[group * kWarpSize + at.lane] = static_cast<S>(p);
  }
  block_add<W>(probability_sum, log_probability_sum, reduction);

  // 3. finish
  if (threadIdx.x < W && c < a.columns) {
    const auto k = math::pu_class(temperature, moments.count, moments.positives, probability_sum,
                                  log_probability_sum, a.gamma);
    coefficients[at.column] = k.unlabelled;
    coefficients[W + at.column] = k.positive;
    write_statistics(a, c, moments.positives, k);
  }
  add_up_loss(a, ticket, gridDim.x);  // also the barrier after which all threads read the coefficients

  // 4. write
  if (a.gradient == nullptr || c >= a.columns) return;
  const A unlabelled = coefficients[at.column];
  const A positive = coefficients[W + at.column];
  S* to = a.gradient + row_of(at.warp) * a.columns + c;
  const int64_t step = int64_t(at.warps) * Place<W>::kRowsPerWarp * a.columns;
#pragma unroll 4
  for (int group = at.warp; group < groups; group += at.warps) {
    if (row_of(group) >= rows) break;  // only the last group has rows that do not exist
    const A p = static_cast<A>(tile[group * kWarpSize + at.lane]);
    const bool is_positive = positive_bits[group] >> at.lane & 1u;
    *to = static_cast<S>(math::pu_gradient(p, A(1) - p, is_positive, unlabelled, positive));
    to += step;
  }
}

// The rows that a block of the phases below has: share blockIdx.y of gridDim.y.
template <typename S, typename A>
struct RowShare {
  int64_t begin;
  int64_t end;
  explicit __device__ RowShare(const PuLossArguments<S, A>& a) {
    const int64_t share = (a.rows + gridDim.y - 1) / gridDim.y;
    begin = share * blockIdx.y;
    end = begin + share < a.rows ? begin + share : a.rows;
  }
};

constexpr int kPhaseThreads = 256;
constexpr int kPhaseWarps = kPhaseThreads / kWarpSize;

// The moments of class c over all parts [parts, 4, columns].
template <typename A>
__device__ Moments<A> read_moments(const A* moments, int64_t parts, int64_t columns, int64_t c) {
  return math::merge_moments<A>(parts, [&](int64_t part) {
    const A* from = moments + part * math::kPuMomentCount * columns + c;
    return Moments<A>{from[math::kCount * columns], from[math::kMean * columns],
                      from[math::kSquaredDeviations * columns], from[math::kPositiveCount * columns]};
  });
}

template <typename A>
__device__ void write_moments(A* to, int64_t columns, int64_t c, const Moments<A>& m) {
  to[math::kCount * columns + c] = m.count;
  to[math::kMean * columns + c] = m.mean;
  to[math::kSquaredDeviations * columns + c] = m.squared_deviations;
  to[math::kPositiveCount * columns + c] = m.positives;
}

// Phase 1: moments of 32 classes over a share of the rows -> partial [gridDim.y, 4, columns].
template <typename S, typename A>
__global__ void __launch_bounds__(kPhaseThreads) moments_kernel(const PuLossArguments<S, A> a, A* partial) {
  __shared__ Reduction<A, kWarpSize> reduction;
  const Place<kWarpSize> at;
  const RowShare<S, A> share(a);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kWarpSize + at.column;
  RunningMoments<A> running;
  if (c < a.columns) {
    A sum = A(0);
    int count = 0;
    for (int64_t i = share.begin + at.warp; i < share.end && count < kRowsInFlight; i += kPhaseWarps, ++count)
      sum += static_cast<A>(a.logits[i * a.logits_stride + c]);
    running.set_shift(sum, count);
#pragma unroll 4
    for (int64_t i = share.begin + at.warp; i < share.end; i += kPhaseWarps)
      running.add(static_cast<A>(a.logits[i * a.logits_stride + c]), a.labels[i * a.labels_stride + c] > 0);
  }
  const Moments<A> merged = block_merge<kWarpSize>(running.get(), reduction);
  if (at.warp == 0 && c < a.columns)
    write_moments(partial + blockIdx.y * math::kPuMomentCount * a.columns, a.columns, c, merged);
}

// partial [splits, 4, columns] -> moments [4, columns]; one thread per class
template <typename A>
__global__ void merge_moments_kernel(const A* partial, int64_t splits, int64_t columns, A* moments) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c < columns) write_moments(moments, columns, c, read_moments(partial, splits, columns, c));
}

// Phase 2: probability sums of 32 classes over a share of the rows -> partial [gridDim.y, 2, columns].
template <typename S, typename A>
__global__ void __launch_bounds__(kPhaseThreads)
    probability_sums_kernel(const PuLossArguments<S, A> a, A* partial) {
  __shared__ Reduction<A, kWarpSize> reduction;
  const Place<kWarpSize> at;
  const RowShare<S, A> share(a);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kWarpSize + at.column;
  A probability_sum = A(0);
  A log_probability_sum = A(0);
  if (c < a.columns) {
    const Moments<A> m = read_moments(a.moments, a.parts, a.columns, c);
    const A inverse_temperature =
        A(1) / math::pu_temperature(m.squared_deviations, m.count, a.alpha, a.min_temperature);
#pragma unroll 4
    for (int64_t i = share.begin + at.warp; i < share.end; i += kPhaseWarps) {
      const A x = static_cast<A>(a.logits[i * a.logits_stride + c]) * inverse_temperature;
      probability_sum += math::sigmoid_pair(x).p;
      if (a.labels[i * a.labels_stride + c] > 0) log_probability_sum += math::log_sigmoid(x);
    }
  }
  block_add<kWarpSize>(probability_sum, log_probability_sum, reduction);
  if (at.warp == 0 && c < a.columns) {
    A* const to = partial + blockIdx.y * math::kPuSumCount * a.columns + c;
    to[math::kProbabilitySum * a.columns] = probability_sum;
    to[math::kLogProbabilitySum * a.columns] = log_probability_sum;
  }
}

// partial [splits, count] -> sums [count], in the order of the splits; one thread per element
template <typename A>
__global__ void add_splits_kernel(const A* partial, int64_t splits, int64_t count, A* sums) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  A sum = A(0);
  for (int64_t split = 0; split < splits; ++split) sum += partial[split * count + i];
  sums[i] = sum;
}

// Phase 3: loss and statistics by the blocks of the first share, gradient of 32 classes by a share of the
// rows.
template <typename S, typename A>
__global__ void __launch_bounds__(kPhaseThreads)
    finish_kernel(const PuLossArguments<S, A> a, unsigned* ticket) {
  const Place<kWarpSize> at;
  const RowShare<S, A> share(a);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kWarpSize + at.column;
  if (c < a.columns) {
    const Moments<A> m = read_moments(a.moments, a.parts, a.columns, c);
    const A temperature = math::pu_temperature(m.squared_deviations, m.count, a.alpha, a.min_temperature);
    const auto k =
        math::pu_class(temperature, m.count, m.positives, a.sums[math::kProbabilitySum * a.columns + c],
                       a.sums[math::kLogProbabilitySum * a.columns + c], a.gamma);
    if (blockIdx.y == 0 && at.warp == 0) write_statistics(a, c, m.positives, k);
    if (a.gradient != nullptr) {
      const A inverse_temperature = A(1) / temperature;
      const A unlabelled = k.unlabelled * a.gradient_scale;
      const A positive = k.positive * a.gradient_scale;
#pragma unroll 4
      for (int64_t i = share.begin + at.warp; i < share.end; i += kPhaseWarps) {
        const auto s =
            math::sigmoid_pair(static_cast<A>(a.logits[i * a.logits_stride + c]) * inverse_temperature);
        a.gradient[i * a.columns + c] = static_cast<S>(
            math::pu_gradient(s.p, s.q, a.labels[i * a.labels_stride + c] > 0, unlabelled, positive));
      }
    }
  }
  if (blockIdx.y == 0) add_up_loss(a, ticket, gridDim.x);
}

template <typename S, typename A, int W>
cudaError_t launch_fused(const PuLossArguments<S, A>& a, unsigned* ticket, cudaStream_t stream) {
  int threads = 128;
  while (threads < kMaxThreads && a.rows * W > static_cast<int64_t>(threads) * kElementsPerThread)
    threads *= 2;
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

dim3 phase_grid(int64_t columns, int64_t splits) {
  return dim3(static_cast<unsigned>(ceil_div(columns, kWarpSize)), static_cast<unsigned>(splits));
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

cudaError_t pu_loss_splits(int64_t rows, int64_t columns, int64_t* splits) {
  constexpr int64_t kPhaseBlocks = 8;                  // of 256 threads: a full multiprocessor
  constexpr int64_t kRowsPerBlock = 16 * kPhaseWarps;  // fewer would not pay for merging them
  constexpr int64_t kMostSplits = 1024;                // merging reads them one after the other
  Device device;
  const cudaError_t error = Device::current(&device);
  if (error != cudaSuccess) return error;
  const int64_t wanted = ceil_div(kPhaseBlocks * device.multiprocessors, ceil_div(columns, kWarpSize));
  const int64_t useful = ceil_div(rows, kRowsPerBlock);
  int64_t result = wanted < useful ? wanted : useful;
  result = result < kMostSplits ? result : kMostSplits;
  *splits = result > 1 ? result : 1;
  return cudaSuccess;
}

template <typename S, typename A>
cudaError_t pu_loss_moments(const PuLossArguments<S, A>& a, int64_t splits, A* workspace,
                            cudaStream_t stream) {
  A* const partial = splits == 1 ? a.moments_out : workspace;
  const cudaError_t error =
      launch(moments_kernel<S, A>, phase_grid(a.columns, splits), dim3(kPhaseThreads), 0, stream, a, partial);
  if (error != cudaSuccess || splits == 1) return error;
  return launch(merge_moments_kernel<A>, dim3(ceil_div(a.columns, kPhaseThreads)), dim3(kPhaseThreads), 0,
                stream, workspace, splits, a.columns, a.moments_out);
}

template <typename S, typename A>
cudaError_t pu_loss_probability_sums(const PuLossArguments<S, A>& a, int64_t splits, A* workspace,
                                     cudaStream_t stream) {
  A* const partial = splits == 1 ? a.sums_out : workspace;
  const cudaError_t error = launch(probability_sums_kernel<S, A>, phase_grid(a.columns, splits),
                                   dim3(kPhaseThreads), 0, stream, a, partial);
  if (error != cudaSuccess || splits == 1) return error;
  const int64_t count = math::kPuSumCount * a.columns;
  return launch(add_splits_kernel<A>, dim3(ceil_div(count, kPhaseThreads)), dim3(kPhaseThreads), 0, stream,
                workspace, splits, count, a.sums_out);
}

template <typename S, typename A>
cudaError_t pu_loss_finish(const PuLossArguments<S, A>& a, int64_t splits, unsigned* ticket,
                           cudaStream_t stream) {
  const cudaError_t error = cudaMemsetAsync(ticket, 0, sizeof(*ticket), stream);
  if (error != cudaSuccess) return error;
  return launch(finish_kernel<S, A>, phase_grid(a.columns, splits), dim3(kPhaseThreads), 0, stream, a,
                ticket);
}

#define PUMLC_INSTANTIATE(S, A)                                                                           \
  template cudaError_t pu_loss_fused<S, A>(const PuLossArguments<S, A>&, unsigned*, bool*, cudaStream_t); \
  template cudaError_t pu_loss_moments<S, A>(const PuLossArguments<S, A>&, int64_t, A*, cudaStream_t);    \
  template cudaError_t pu_loss_probability_sums<S, A>(const PuLossArguments<S, A>&, int64_t, A*,          \
                                                      cudaStream_t);                                      \
  template cudaError_t pu_loss_finish<S, A>(const PuLossArguments<S, A>&, int64_t, unsigned*, cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE

}  // namespace pumlc::cuda
