// Semantic attention (../math/semantic_attention.h) on CUDA. A row is one position of one image; all B P of them are
// alike. Each pass takes the tanh of every row, class and dimension once, which is what it is bound by.
//
// Forward: a block has 32 rows and 8 classes. A thread owns one element of the result, its lane the row and its warp
// the class; the dimensions pass through shared memory, 32 at a time.
// Backward: a block has 32 dimensions, one to a lane, and a share of the rows, of which a warp takes every eighth; it
// goes through all classes, 8 at a time. A thread holds the sums over its rows of 8 words' gradients in registers, and
// those over the classes of its rows' features, which are its own, in shared memory. The words' sums are added over the
// warps in their order, to a partial result of the share; a second kernel adds the shares in theirs.
#include "../math/semantic_attention.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>

#include "launch.cuh"
#include "semantic_attention.h"

namespace pumlc::cuda {
namespace {

constexpr int kRows = 32;
constexpr int kClasses = 8;
constexpr int kDimensions = 32;
constexpr int kThreads = kWarpSize * kClasses;
constexpr int kWarps = kThreads / kWarpSize;
// Blocks on a multiprocessor that registers must be left for; of double, the sums alone take those of two.
template <typename A>
constexpr int kGradientBlocks = sizeof(A) == 8 ? 2 : 4;
static_assert(kRows == kWarpSize && kWarps == kClasses, "forward: a lane has a row, a warp a class");
static_assert(kDimensions == kWarpSize && kRows % kWarps == 0, "backward: a lane has a dimension, warps equal rows");

template <typename S, typename A>
__global__ void __launch_bounds__(kThreads) scores_kernel(const SemanticAttentionArguments<S, A> a) {
  __shared__ A features[kRows][kDimensions + 1];  // a column of it lies in 32 banks
  __shared__ A words[kClasses][kDimensions];
  __shared__ A v[kDimensions];
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int64_t class_tiles = ceil_div(a.classes, kClasses);
  const int64_t row = blockIdx.x / class_tiles * kRows;
  const int64_t c = blockIdx.x % class_tiles * kClasses + warp;
  A sum = A(0);
  for (int64_t first = 0; first < a.dimensions; first += kDimensions) {
    const int64_t d = first + lane;
    __syncthreads();  // the last tile is used
    for (int i = warp; i < kRows; i += kWarps)
      features[i][lane] =
          row + i < a.rows() && d < a.dimensions ? static_cast<A>(a.features[(row + i) * a.dimensions + d]) : A(0);
    words[warp][lane] = c < a.classes && d < a.dimensions ? a.words[c * a.dimensions + d] : A(0);
    if (warp == 0) v[lane] = d < a.dimensions ? a.v[d] : A(0);
    __syncthreads();
    A tile_sum = A(0);
#pragma unroll 8
    for (int j = 0; j < kDimensions; ++j) tile_sum += v[j] * math::tanh_pair(features[lane][j] * words[warp][j]).value;
    sum += tile_sum;
  }
  if (row + lane < a.rows() && c < a.classes) a.out[a.place(row + lane, c)] = static_cast<S>(sum);
}

template <typename S, typename A>
__global__ void __launch_bounds__(kThreads, kGradientBlocks<A>)
    gradient_kernel(const SemanticAttentionArguments<S, A> a, int64_t splits, A* partial) {
  __shared__ A features[kRows][kDimensions];
  __shared__ A features_sum[kRows][kDimensions];
  __shared__ A upstream[kClasses][kRows];
  __shared__ A of_warps[kWarps][kClasses][kDimensions];
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int64_t split = blockIdx.x % splits;
  const int64_t d = blockIdx.x / splits * kDimensions + lane;
  const bool exists = d < a.dimensions;
  const int64_t share = round_up(ceil_div(a.rows(), splits), kRows);
  const int64_t begin = split * share;
  const int64_t end = begin + share < a.rows() ? begin + share : a.rows();
  A* const words_sum = partial + split * (a.classes + 1) * a.dimensions + d;  // [C + 1], D apart
  const A scale = exists ? a.v[d] : A(0);
  A v_sum = A(0);

  for (int64_t row = begin; row < end; row += kRows) {
    const int rows = static_cast<int>(end - row < kRows ? end - row : kRows);
    for (int i = warp; i < rows; i += kWarps) {  // here and below, rows that no other warp touches
      features[i][lane] = exists ? static_cast<A>(a.features[(row + i) * a.dimensions + d]) : A(0);
      features_sum[i][lane] = A(0);
    }
    for (int64_t first = 0; first < a.classes; first += kClasses) {
      const int classes = static_cast<int>(a.classes - first < kClasses ? a.classes - first : kClasses);
      if (warp < classes && lane < rows)
        upstream[warp][lane] = static_cast<A>(a.upstream[a.place(row + lane, first + warp)]);
      A words[kClasses];
      A words_tile[kClasses] = {};
      A v_tile = A(0);
#pragma unroll
      for (int k = 0; k < kClasses; ++k)
        words[k] = exists && k < classes ? a.words[(first + k) * a.dimensions + d] : A(0);
      __syncthreads();
      for (int i = warp; i < rows; i += kWarps) {
        const A feature = features[i][lane];
        A feature_sum = A(0);
#pragma unroll
        for (int k = 0; k < kClasses; ++k) {
          if (k >= classes) break;  // the same for all threads
          const auto gradient =
              math::semantic_gradient(upstream[k][i], feature, words[k], math::tanh_pair(feature * words[k]));
          feature_sum += gradient.feature;
          words_tile[k] += gradient.word;
          v_tile += gradient.v;
        }
        features_sum[i][lane] += feature_sum;
      }
      v_sum += v_tile;
#pragma unroll
      for (int k = 0; k < kClasses; ++k) of_warps[warp][k][lane] = words_tile[k];
      __syncthreads();
      if (exists && warp < classes) {
        A sum = row == begin ? A(0) : words_sum[(first + warp) * a.dimensions];  // this thread wrote it
#pragma unroll
        for (int w = 0; w < kWarps; ++w) sum += of_warps[w][warp][lane];
        words_sum[(first + warp) * a.dimensions] = sum;
      }
    }
    if (exists)
      for (int i = warp; i < rows; i += kWarps)
        a.features_gradient[(row + i) * a.dimensions + d] = static_cast<S>(features_sum[i][lane] * scale);
  }
  __syncthreads();  // of_warps is used
  of_warps[warp][0][lane] = v_sum;
  __syncthreads();
  if (exists && warp == 0) {
    A sum = A(0);
    for (int w = 0; w < kWarps; ++w) sum += of_warps[w][0][lane];
    words_sum[a.classes * a.dimensions] = sum;
  }
}

// Adds the shares: thread i has element i of [C + 1, D], the gradients of the words and that of v below them.
template <typename S, typename A>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const SemanticAttentionArguments<S, A> a, int64_t splits, const A* partial) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t words = a.classes * a.dimensions;
  if (i >= words + a.dimensions) return;
  constexpr int64_t kGroup = 8;  // shares that are added by themselves: rounding errors grow with the number of groups
  A sum = A(0);
  for (int64_t first = 0; first < splits; first += kGroup) {
    const int64_t end = first + kGroup < splits ? first + kGroup : splits;
    A group = A(0);
    for (int64_t s = first; s < end; ++s) group += partial[s * (words + a.dimensions) + i];
    sum += group;
  }
  if (i < words)
    a.words_gradient[i] = sum * a.v[i % a.dimensions];
  else
    a.v_gradient[i - words] = sum;
}

}  // namespace

template <typename S, typename A>
cudaError_t semantic_attention_forward(const SemanticAttentionArguments<S, A>& a, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(a.rows(), kRows) * ceil_div(a.classes, kClasses)));
  return launch(scores_kernel<S, A>, grid, dim3(kThreads), 0, stream, a);
}

cudaError_t semantic_attention_splits(int64_t rows, int64_t classes, int64_t dimensions, int64_t number_bytes,
                                      int64_t* splits) {
  constexpr int64_t kBlocksPerMultiprocessor = 8;           // that are wanted: four at a time, and another four
  constexpr int64_t kMostPartialBytes = int64_t{64} << 20;  // of a share's words, however many classes there are
  Device device;
  const cudaError_t error = Device::current(&device);
  if (error != cudaSuccess) return error;
  const int64_t wanted = ceil_div(kBlocksPerMultiprocessor * device.multiprocessors, ceil_div(dimensions, kDimensions));
  const int64_t affordable = kMostPartialBytes / ((classes + 1) * dimensions * number_bytes);
  const int64_t most = std::max<int64_t>(std::min(wanted, affordable), 1);
  const int64_t share = round_up(ceil_div(rows, most), kRows);
  *splits = ceil_div(rows, share);  // none of them empty
  return cudaSuccess;
}

template <typename S, typename A>
cudaError_t semantic_attention_backward(const SemanticAttentionArguments<S, A>& a, int64_t splits, A* partial,
                                        cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(a.dimensions, kDimensions) * splits));
  const cudaError_t error = launch(gradient_kernel<S, A>, grid, dim3(kThreads), 0, stream, a, splits, partial);
  if (error != cudaSuccess) return error;
  const dim3 elements(static_cast<unsigned>(ceil_div((a.classes + 1) * a.dimensions, kThreads)));
  return launch(finish_kernel<S, A>, elements, dim3(kThreads), 0, stream, a, splits, partial);
}

#define PUMLC_INSTANTIATE(S, A)                                                                                 \
  template cudaError_t semantic_attention_forward<S, A>(const SemanticAttentionArguments<S, A>&, cudaStream_t); \
  template cudaError_t semantic_attention_backward<S, A>(const SemanticAttentionArguments<S, A>&, int64_t, A*,  \
                                                         cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)

}  // namespace pumlc::cuda
