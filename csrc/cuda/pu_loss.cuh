// Pieces that the PU-loss kernels share: where a thread stands, moments, sums over a block, the final sum.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "../math/pu_loss.h"
#include "pu_loss.h"
#include "reduce.cuh"

namespace pumlc::cuda {

using math::Moments;

constexpr int kMaxThreads = 256;
constexpr int kMaxWarps = kMaxThreads / kWarpSize;
static_assert(kMaxWarps <= kWarpSize, "block_sum adds the warps in one thread's loop over at most 32");

// Rows that a thread asks for before it uses the first: with 3 blocks of 8 warps on a multiprocessor, 12 rows
// of 64 + 32 bytes are 27 KB in flight; an H200 needs 25 KB for its bandwidth at a latency of 0.7 us.
constexpr int kRowsInFlight = 12;

// Where a thread stands in a tile of W classes: a warp has 32 / W rows, lane l has class l % W of row l / W.
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

// Merges the moments of all threads of the block that have the same class; every thread gets those of its class.
template <int W, typename A>
__device__ Moments<A> block_merge(Moments<A> m, Reduction<A, W>& shared) {
  const Place<W> at;
#pragma unroll
  for (int offset = kWarpSize / 2; offset >= W; offset /= 2) {
    const Moments<A> other = {__shfl_xor_sync(kFullWarp, m.count, offset), __shfl_xor_sync(kFullWarp, m.mean, offset),
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

// Adds two numbers per thread over the threads of the block that have the same class; every thread gets the sums.
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
__device__ void write_statistics(const PuLossArguments<S, A>& a, int64_t c, A positives, const math::PuClass<A>& k) {
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

}  // namespace pumlc::cuda
