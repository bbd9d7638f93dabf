// The PU loss (../math/pu_loss.h) on CUDA in three phases, for batches whose statistics are summed over
// processes or whose rows do not fit in shared memory (pu_loss_kernel.cu does it in one launch where they do).
//
// In each phase a block has 32 classes by a share of the rows: lane l of every warp has class l, warp w the
// rows w, w + 8, ... of the share. Where there are several shares, each writes its part and a second kernel
// adds the parts in their order.
#include "pu_loss.cuh"

namespace pumlc::cuda {
namespace {

// The rows that a block has: share blockIdx.y of gridDim.y.
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
static_assert(kPhaseThreads <= kMaxThreads, "Reduction has room for kMaxThreads");
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
__global__ void __launch_bounds__(kPhaseThreads)
    merge_moments_kernel(const A* partial, int64_t splits, int64_t columns, A* moments) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c < columns) write_moments(moments, columns, c, read_moments(partial, splits, columns, c));
}

// Phase 2: probability sums of 32 classes over a share of the rows -> partial [gridDim.y, 2, columns].
template <typename S, typename A>
__global__ void __launch_bounds__(kPhaseThreads) probability_sums_kernel(const PuLossArguments<S, A> a, A* partial) {
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
    constexpr int kRowsAtOnce = sizeof(A) == 8 ? 2 : 4;  // a double fills two registers, and four rows would spill
#pragma unroll kRowsAtOnce
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
__global__ void __launch_bounds__(kPhaseThreads)
    add_splits_kernel(const A* partial, int64_t splits, int64_t count, A* sums) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  double sum = 0.0;  // the splits may be many, and a float would lose a bit or two over them
  for (int64_t split = 0; split < splits; ++split) sum += partial[split * count + i];
  sums[i] = static_cast<A>(sum);
}

// Phase 3: loss and statistics by the blocks of the first share, gradient of 32 classes by a share of the rows.
template <typename S, typename A>
__global__ void __launch_bounds__(kPhaseThreads) finish_kernel(const PuLossArguments<S, A> a, unsigned* ticket) {
  const Place<kWarpSize> at;
  const RowShare<S, A> share(a);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kWarpSize + at.column;
  if (c < a.columns) {
    const Moments<A> m = read_moments(a.moments, a.parts, a.columns, c);
    const A temperature = math::pu_temperature(m.squared_deviations, m.count, a.alpha, a.min_temperature);
    const auto k = math::pu_class(temperature, m.count, m.positives, a.sums[math::kProbabilitySum * a.columns + c],
                                  a.sums[math::kLogProbabilitySum * a.columns + c], a.gamma);
    if (blockIdx.y == 0 && at.warp == 0) write_statistics(a, c, m.positives, k);
    if (a.gradient != nullptr) {
      const A inverse_temperature = A(1) / temperature;
      const A unlabelled = k.unlabelled * a.gradient_scale;
      const A positive = k.positive * a.gradient_scale;
#pragma unroll 4
      for (int64_t i = share.begin + at.warp; i < share.end; i += kPhaseWarps) {
        const auto s = math::sigmoid_pair(static_cast<A>(a.logits[i * a.logits_stride + c]) * inverse_temperature);
        a.gradient[i * a.columns + c] =
            static_cast<S>(math::pu_gradient(s, a.labels[i * a.labels_stride + c] > 0, unlabelled, positive));
      }
    }
  }
  if (blockIdx.y == 0) add_up_loss(a, ticket, gridDim.x);
}

dim3 phase_grid(int64_t columns, int64_t splits) {
  return dim3(static_cast<unsigned>(ceil_div(columns, kWarpSize)), static_cast<unsigned>(splits));
}

}  // namespace

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
cudaError_t pu_loss_moments(const PuLossArguments<S, A>& a, int64_t splits, A* workspace, cudaStream_t stream) {
  A* const partial = splits == 1 ? a.moments_out : workspace;
  const cudaError_t error =
      launch(moments_kernel<S, A>, phase_grid(a.columns, splits), dim3(kPhaseThreads), 0, stream, a, partial);
  if (error != cudaSuccess || splits == 1) return error;
  return launch(merge_moments_kernel<A>, dim3(ceil_div(a.columns, kPhaseThreads)), dim3(kPhaseThreads), 0, stream,
                workspace, splits, a.columns, a.moments_out);
}

template <typename S, typename A>
cudaError_t pu_loss_probability_sums(const PuLossArguments<S, A>& a, int64_t splits, A* workspace,
                                     cudaStream_t stream) {
  A* const partial = splits == 1 ? a.sums_out : workspace;
  const cudaError_t error =
      launch(probability_sums_kernel<S, A>, phase_grid(a.columns, splits), dim3(kPhaseThreads), 0, stream, a, partial);
  if (error != cudaSuccess || splits == 1) return error;
  const int64_t count = math::kPuSumCount * a.columns;
  return launch(add_splits_kernel<A>, dim3(ceil_div(count, kPhaseThreads)), dim3(kPhaseThreads), 0, stream, workspace,
                splits, count, a.sums_out);
}

template <typename S, typename A>
cudaError_t pu_loss_finish(const PuLossArguments<S, A>& a, int64_t splits, unsigned* ticket, cudaStream_t stream) {
  const cudaError_t error = cudaMemsetAsync(ticket, 0, sizeof(*ticket), stream);
  if (error != cudaSuccess) return error;
  return launch(finish_kernel<S, A>, phase_grid(a.columns, splits), dim3(kPhaseThreads), 0, stream, a, ticket);
}

#define PUMLC_INSTANTIATE(S, A)                                                                                 \
  template cudaError_t pu_loss_moments<S, A>(const PuLossArguments<S, A>&, int64_t, A*, cudaStream_t);          \
  template cudaError_t pu_loss_probability_sums<S, A>(const PuLossArguments<S, A>&, int64_t, A*, cudaStream_t); \
  template cudaError_t pu_loss_finish<S, A>(const PuLossArguments<S, A>&, int64_t, unsigned*, cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE

}  // namespace pumlc::cuda
