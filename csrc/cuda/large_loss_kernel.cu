// The large loss (../math/large_loss.h) on CUDA.
//
// A batch of up to kOneBlock entries is one launch of one block. A larger one is a launch for every digit of the k-th
// largest key and a last one for loss, mask and gradient; nothing is read back in between. Entry i of [B, C] belongs to
// thread i modulo their number.
//
// In the launch of a digit every block makes a histogram of its entries in shared memory and adds it to that of all,
// and the block that ends last reads the digit off. Counts are integers: in whatever order they come, they add up to
// the same. In the last launch the block that ends last adds the sums of the blocks in their order.
#include "large_loss.h"

#include <limits>

#include "reduce.cuh"

namespace pumlc::cuda {
namespace {

using math::kDigitPasses;
using math::kDigits;
using math::Selection;

constexpr int kThreads = 256;           // where there are many blocks
constexpr int kOneBlockThreads = 1024;  // where there is one
static_assert(kOneBlockThreads <= kWarpSize * kWarpSize, "block_sum adds at most 32 warps");
static_assert(kDigits % kThreads == 0 && kDigits % kOneBlockThreads == 0, "threads have equally many digits");

// Up to here a pass of one block is at most 32 entries of every thread: little beside the launches that it saves.
constexpr int64_t kOneBlock = 1 << 15;
// Fewer entries would not pay for adding a histogram to that of all.
constexpr int64_t kEntriesPerBlock = 16 * kThreads;
constexpr int64_t kBlocksPerMultiprocessor = 8;  // of 256 threads: a full multiprocessor

// Where entry i of [rows, columns] lies.
template <typename S, typename A>
struct Entry {
  S logit;
  int8_t label;

  __device__ Entry(const LargeLossArguments<S, A>& a, unsigned i) {
    // a GPU divides in 32 bits; the launcher sees to it that they do
    const unsigned row = a.rows == 1 ? 0 : i / static_cast<unsigned>(a.columns);
    const int64_t c = i - int64_t(row) * a.columns;
    logit = __ldg(a.logits + row * a.logits_stride + c);
    label = __ldg(a.labels + row * a.labels_stride + c);
  }
};

// Clears the bins [kDigits], in shared memory, and counts the digits of the block's share of the entries in them.
template <typename S, typename A>
__device__ void count_digits(const LargeLossArguments<S, A>& a, const Selection<S>& selection, int shift,
                             unsigned* bins) {
  for (int digit = threadIdx.x; digit < kDigits; digit += blockDim.x) bins[digit] = 0;
  __syncthreads();
  const auto elements = static_cast<unsigned>(a.elements());
#pragma unroll 4
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += gridDim.x * blockDim.x) {
    const Entry<S, A> entry(a, i);
    const auto key = math::selection_key(entry.logit, entry.label);
    if (selection.has(key)) atomicAdd(bins + math::digit_of<S>(key, shift), 1u);
  }
  __syncthreads();
}

// What is known after this digit: written to `next` by one thread. bins [kDigits] and warp_sums [32]: shared.
template <typename S>
__device__ void descend(const unsigned* bins, int shift, const Selection<S>& selection, unsigned* warp_sums,
                        Selection<S>* next) {
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int digits = kDigits / blockDim.x;  // of a thread, the largest ones in thread 0
  int digit = kDigits - 1 - threadIdx.x * digits;
  unsigned own = 0;
  for (int d = 0; d < digits; ++d) own += bins[digit - d];
  unsigned sum = own;  // with the threads before
#pragma unroll
  for (int offset = 1; offset < kWarpSize; offset *= 2) {
    const unsigned before = __shfl_up_sync(kFullWarp, sum, offset);
    if (lane >= offset) sum += before;
  }
  if (lane == kWarpSize - 1) warp_sums[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += warp_sums[w];
  Selection<S> found = selection;
  if (sum - own < selection.rank && sum >= selection.rank) {
    int64_t above = sum - own;
    for (; above + bins[digit] < selection.rank; --digit) above += bins[digit];
    found.refine(digit, shift, above, bins[digit]);
    *next = found;
  } else if (threadIdx.x == blockDim.x - 1 && sum < selection.rank) {
    found.take_all();
    *next = found;
  }
}

// Writes mask and gradient of the block's share of the entries; returns the sum of the thread's losses.
template <typename S, typename A>
__device__ A finish_entries(const LargeLossArguments<S, A>& a, S threshold) {
  const A scale = a.scale();
  const auto least = static_cast<A>(threshold);
  const auto elements = static_cast<unsigned>(a.elements());
  A sum = A(0);
#pragma unroll 2
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += gridDim.x * blockDim.x) {
    const Entry<S, A> entry(a, i);
    const auto logit = static_cast<A>(entry.logit);
    const bool is_positive = entry.label > 0;
    const bool is_unobserved = entry.label == 0;
    const auto term = a.corrects ? math::large_loss_term<true>(logit, is_positive, is_unobserved, least)
                                 : math::large_loss_term<false>(logit, is_positive, is_unobserved, least);
    sum += term.loss;
    a.corrected[i] = term.large != A(0);
    if (a.gradient != nullptr) a.gradient[i] = static_cast<S>(scale * term.gradient);
  }
  return sum;
}

template <typename S, typename A>
__global__ void __launch_bounds__(kOneBlockThreads, 1) one_block_kernel(const LargeLossArguments<S, A> a) {
  __shared__ unsigned bins[kDigits];
  __shared__ unsigned warp_counts[kWarpSize];
  __shared__ A warp_sums[kWarpSize];
  __shared__ Selection<S> next;
  S threshold = math::no_threshold<S>();
  if (a.k > 0) {
    auto selection = math::select_largest<S>(a.k);
    for (int pass = 0; pass < kDigitPasses<S> && !selection.is_found; ++pass) {
      const int shift = math::digit_shift<S>(pass);
      count_digits(a, selection, shift, bins);
      descend(bins, shift, selection, warp_counts, &next);
      __syncthreads();
      selection = next;
    }
    threshold = selection.threshold();
  }
  const A sum = block_sum(finish_entries(a, threshold), warp_sums);
  if (threadIdx.x == 0) *a.loss = sum / static_cast<A>(a.elements());
}

template <typename S, typename A>
__global__ void __launch_bounds__(kThreads)
    digit_kernel(const LargeLossArguments<S, A> a, const LargeLossWorkspace<S, A> memory, int pass) {
  __shared__ unsigned bins[kDigits];
  __shared__ unsigned warp_counts[kWarpSize];
  const auto selection = pass == 0 ? math::select_largest<S>(a.k) : memory.selections[pass - 1];
  Selection<S>* const next = memory.selections + pass;
  if (selection.is_found) {  // by a digit before
    if (blockIdx.x == 0 && threadIdx.x == 0) *next = selection;
    return;
  }
  const int shift = math::digit_shift<S>(pass);
  count_digits(a, selection, shift, bins);
  unsigned* const all = memory.bins(pass);
  for (int digit = threadIdx.x; digit < kDigits; digit += kThreads)
    if (bins[digit] > 0) atomicAdd(all + digit, bins[digit]);
  if (!is_last_block(memory.ticket(pass), gridDim.x)) return;
  for (int digit = threadIdx.x; digit < kDigits; digit += kThreads) bins[digit] = __ldcg(all + digit);
  __syncthreads();
  descend(bins, shift, selection, warp_counts, next);
}

template <typename S, typename A>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const LargeLossArguments<S, A> a, const LargeLossWorkspace<S, A> memory) {
  __shared__ A warp_sums[kWarpSize];
  const S threshold = a.k > 0 ? memory.selections[kDigitPasses<S> - 1].threshold() : math::no_threshold<S>();
  const A sum = block_sum(finish_entries(a, threshold), warp_sums);
  if (threadIdx.x == 0) memory.partial[blockIdx.x] = sum;
  if (!is_last_block(memory.ticket(kDigitPasses<S>), gridDim.x)) return;
  A total = A(0);
  for (unsigned block = threadIdx.x; block < gridDim.x; block += kThreads) total += __ldcg(memory.partial + block);
  total = block_sum(total, warp_sums);
  if (threadIdx.x == 0) *a.loss = total / static_cast<A>(a.elements());
}

}  // namespace

cudaError_t large_loss_blocks(int64_t elements, int64_t* blocks) {
  if (elements > std::numeric_limits<int>::max()) return cudaErrorInvalidValue;
  *blocks = 1;
  if (elements <= kOneBlock) return cudaSuccess;
  Device device;
  const cudaError_t error = Device::current(&device);
  if (error != cudaSuccess) return error;
  const int64_t useful = ceil_div(elements, kEntriesPerBlock);
  const int64_t most = kBlocksPerMultiprocessor * device.multiprocessors;
  *blocks = useful < most ? useful : most;
  return cudaSuccess;
}

template <typename S, typename A>
cudaError_t large_loss(const LargeLossArguments<S, A>& a, int64_t blocks, const LargeLossWorkspace<S, A>& memory,
                       cudaStream_t stream) {
  if (blocks == 1) return launch(one_block_kernel<S, A>, dim3(1), dim3(kOneBlockThreads), 0, stream, a);
  const dim3 grid(static_cast<unsigned>(blocks));
  for (int pass = 0; pass < kDigitPasses<S> && a.k > 0; ++pass) {
    const cudaError_t error = launch(digit_kernel<S, A>, grid, dim3(kThreads), 0, stream, a, memory, pass);
    if (error != cudaSuccess) return error;
  }
  return launch(finish_kernel<S, A>, grid, dim3(kThreads), 0, stream, a, memory);
}

#define PUMLC_INSTANTIATE(S, A)                                                                                    \
  template cudaError_t large_loss<S, A>(const LargeLossArguments<S, A>&, int64_t, const LargeLossWorkspace<S, A>&, \
                                        cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE

}  // namespace pumlc::cuda
