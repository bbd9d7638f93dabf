// Attention pooling (../math/attention_pool.h) on CUDA; who owns what is in position_products.cuh.
//
// Forward: a block has a share of the positions of an image, a block of channels and a block of heads. Its softmax is
// relative to the largest score of its share, so that x is read once; a second kernel brings the shares of a head to a
// common largest score and adds them in their order.
// Backward: positions do not need each other. A block has a share of an image's positions with all channels and heads.
#include "../math/attention_pool.h"

#include <limits>

#include "attention_pool.h"
#include "position_products.cuh"

namespace pumlc::cuda {
namespace {

template <typename S, typename A, int V>
__global__ void __launch_bounds__(kProductThreads)
    pool_kernel(const AttentionPoolArguments<S, A> a, const MapPlan plan, A* partial, A* partial_statistics) {
  __shared__ Weights<A> weights[kTile];
  __shared__ A of_warps[kProductWarps][kHeadBlock];
  __shared__ A of_rows[kProductThreads * V];
  const MapPlace at(plan);
  const MapShare share(plan, a.positions);
  const int channel_block = blockIdx.y % plan.channel_blocks;
  const int first_head = blockIdx.y / plan.channel_blocks * kHeadBlock;
  const int64_t c = (static_cast<int64_t>(channel_block) * at.lanes + at.lane) * V;
  const int k = first_head + at.head;
  const int warp = threadIdx.x / kWarpSize;

  // the largest score of the share: thread t has head t % 8 at every 32nd position
  A largest = -std::numeric_limits<A>::infinity();
  if (k < a.heads)
    for (int p = share.begin + threadIdx.x / kHeadBlock; p < share.end; p += kProductThreads / kHeadBlock) {
      const A score = static_cast<A>(__ldg(a.scores.at(share.image, k, p)));
      largest = score > largest ? score : largest;
    }
#pragma unroll
  for (int offset = kWarpSize / 2; offset >= kHeadBlock; offset /= 2) {
    const A other = __shfl_xor_sync(kFullWarp, largest, offset);
    largest = other > largest ? other : largest;
  }
  if (threadIdx.x % kWarpSize < kHeadBlock) of_warps[warp][at.head] = largest;
  __syncthreads();
  for (int w = 0; w < kProductWarps; ++w) largest = of_warps[w][at.head] > largest ? of_warps[w][at.head] : largest;

  A acc[kHeadBlock][V] = {};
  A sum = A(0);
  for (int first = share.begin; first < share.end; first += kTile) {
    const int count = share.end - first < kTile ? share.end - first : kTile;
    __syncthreads();  // the last tile's weights are used, and so is of_warps
    fill_tile(a.scores, share.image, k, k < a.heads, first, count, weights, [&](A score) {
      const A term = math::softmax_term(score, largest);
      sum += term;
      return term;
    });
    __syncthreads();
    for_packs<V>(a.x + (share.image * a.positions + first) * a.channels, a.channels, c, count, at,
                 [&](int p, bool exists, const Pack<S, V>& x) {
                   if (exists) accumulate(x, weights[p], acc);
                 });
  }

  const int64_t part = blockIdx.x;
  sum = warp_sum<kHeadBlock>(sum);
  if (threadIdx.x % kWarpSize < kHeadBlock) of_warps[warp][at.head] = sum;
  __syncthreads();
  if (channel_block == 0 && threadIdx.x < kHeadBlock && k < a.heads) {
    sum = A(0);
    for (int w = 0; w < kProductWarps; ++w) sum += of_warps[w][at.head];
    partial_statistics[(part * kSoftmaxStatisticCount + kLargestScore) * a.heads + k] = largest;
    partial_statistics[(part * kSoftmaxStatisticCount + kSumOfTerms) * a.heads + k] = sum;
  }
#pragma unroll
  for (int j = 0; j < kHeadBlock; ++j) {
    if (first_head + j >= a.heads) break;  // the same for all threads
    A* const to = partial + (part * a.heads + first_head + j) * a.channels;
    const int64_t from = static_cast<int64_t>(channel_block) * at.lanes * V;
    sum_rows<V>(acc[j], at, of_rows, [&](int i, A total) {
      if (from + i < a.channels) to[from + i] = total;
    });
  }
}

// Adds the parts of a head: thread i has element i of pooled [B, K', C].
template <typename S, typename A>
__global__ void __launch_bounds__(kProductThreads) combine_kernel(const AttentionPoolArguments<S, A> a, int64_t splits,
                                                                  const A* partial, const A* partial_statistics) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kProductThreads + threadIdx.x;
  if (i >= a.images * a.rows() * a.channels) return;
  const int64_t c = i % a.channels;
  const int64_t b = i / a.channels / a.rows();
  const int64_t k = a.grouped ? a.head_of(c) : i / a.channels % a.rows();
  const A* const statistics = partial_statistics + b * splits * kSoftmaxStatisticCount * a.heads + k;
  const int64_t step = kSoftmaxStatisticCount * a.heads;
  A largest = statistics[0];
  for (int64_t s = 1; s < splits; ++s) largest = statistics[s * step] > largest ? statistics[s * step] : largest;
  A sum = A(0);
  A total = A(0);
  for (int64_t s = 0; s < splits; ++s) {
    const A factor = math::softmax_term(statistics[s * step], largest);
    sum += factor * statistics[s * step + a.heads];
    total += factor * partial[((b * splits + s) * a.heads + k) * a.channels + c];
  }
  const A mean = total / sum;
  a.pooled[i] = static_cast<S>(mean);
  if (a.means_out != nullptr) a.means_out[i] = mean;
  if (c == (a.grouped ? k * (a.channels / a.heads) : 0)) {  // one thread of each head
    a.statistics_out[(b * kSoftmaxStatisticCount + kLargestScore) * a.heads + k] = largest;
    a.statistics_out[(b * kSoftmaxStatisticCount + kSumOfTerms) * a.heads + k] = sum;
  }
}

// v [8, V]: the upstream gradient of a block of heads for this thread's channels; where grouped, 0 but for their head.
template <int V, typename S, typename A>
__device__ __forceinline__ void load_upstream(const AttentionPoolArguments<S, A>& a, int64_t b, int64_t first_head,
                                              int64_t c, A (&v)[kHeadBlock][V]) {
#pragma unroll
  for (int j = 0; j < kHeadBlock; ++j) {
    const int64_t k = first_head + j;
    const S* from = a.upstream + (b * a.rows() + (a.grouped ? 0 : k)) * a.channels + c;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const bool exists = k < a.heads && c < a.channels && (!a.grouped || a.head_of(c + i) == k);
      v[j][i] = exists ? static_cast<A>(from[i]) : A(0);
    }
  }
}

template <typename S, typename A, int V>
__global__ void __launch_bounds__(kProductThreads)
    gradient_kernel(const AttentionPoolArguments<S, A> a, const MapPlan plan) {
  __shared__ Weights<A> weights[kTile];
  __shared__ TileDots<A> tile_dots;
  const MapPlace at(plan);
  const MapShare share(plan, a.positions);
  const int64_t b = share.image;
  A v[kHeadBlock][V];
  A largest = A(0);  // these are of this thread's head
  A sum = A(1);
  A mean_dot = A(0);

  for (int first = share.begin; first < share.end; first += kTile) {
    const int count = share.end - first < kTile ? share.end - first : kTile;
    for (int head_block = 0; head_block < plan.head_blocks; ++head_block) {
      const int first_head = head_block * kHeadBlock;
      const int k = first_head + at.head;
      if (first == share.begin || plan.head_blocks > 1) {
        // D_k by the function that the positions' dots are taken with, row j of the means in the place of a position:
        // where one position has all the weight, and so is the mean, its dot and D cancel exactly
        __syncthreads();
        for (int block = 0; block < plan.channel_blocks; ++block) {
          const int64_t c = (static_cast<int64_t>(block) * at.lanes + at.lane) * V;
          load_upstream(a, b, first_head, c, v);
          for (int j = at.row; j < static_cast<int>(round_up(kHeadBlock, at.rows)); j += at.rows) {
            const bool exists = j < kHeadBlock && first_head + j < a.heads && c < a.channels;
            Pack<A, V> means;
#pragma unroll
            for (int i = 0; i < V; ++i)
              means.value[i] =
                  exists ? a.means[(b * a.rows() + (a.grouped ? 0 : first_head + j)) * a.channels + c + i] : A(0);
            dots(means, v, at, j, block > 0, tile_dots);
          }
        }
        __syncthreads();
        if (k < a.heads) {
          mean_dot = whole_dot(tile_dots, at, at.head, at.head);
          largest = a.statistics[(b * kSoftmaxStatisticCount + kLargestScore) * a.heads + k];
          sum = a.statistics[(b * kSoftmaxStatisticCount + kSumOfTerms) * a.heads + k];
        }
      }
      __syncthreads();  // the last weights and dots are used
      fill_tile(a.scores, b, k, k < a.heads, first, count, weights,
                [&](A score) { return math::softmax_term(score, largest) / sum; });
      __syncthreads();
      for (int block = 0; block < plan.channel_blocks; ++block) {
        const int64_t c = (static_cast<int64_t>(block) * at.lanes + at.lane) * V;
        if (plan.channel_blocks > 1) load_upstream(a, b, first_head, c, v);
        const int64_t origin = (b * a.positions + first) * a.channels;
        for_packs<V>(a.x + origin, a.channels, c, count, at,
                     [&](int p, bool, const Pack<S, V>& x) { dots(x, v, at, p, block > 0, tile_dots); });
        if (c >= a.channels) continue;
        for (int p = at.row; p < count; p += at.rows) {
          S* const to = a.x_gradient + origin + p * a.channels + c;
          A y[V] = {};
          spread(weights[p], v, y);
          if (head_block > 0 || a.adds_to_x_gradient) {  // of several blocks of heads, this thread wrote it
            const Pack<S, V> before = *reinterpret_cast<const Pack<S, V>*>(to);
#pragma unroll
            for (int i = 0; i < V; ++i) y[i] += static_cast<A>(before.value[i]);
          }
          Pack<S, V> out;
#pragma unroll
          for (int i = 0; i < V; ++i) out.value[i] = static_cast<S>(y[i]);
          *reinterpret_cast<Pack<S, V>*>(to) = out;
        }
      }
      __syncthreads();
      if (k >= a.heads) continue;
      for (int p = threadIdx.x / kHeadBlock; p < count; p += kProductThreads / kHeadBlock)
        *a.scores_gradient.at(b, k, first + p) = static_cast<S>(
            math::softmax_gradient(weights[p].head[at.head], whole_dot(tile_dots, at, p, at.head), mean_dot));
    }
  }
}

template <int V, typename S, typename A>
cudaError_t forward_plan(const AttentionPoolArguments<S, A>& a, MapPlan* plan) {
  return MapPlan::make<V>(a.images, a.positions, a.channels, a.heads, true, plan);
}

template <int V, typename S, typename A>
cudaError_t forward(const AttentionPoolArguments<S, A>& a, A* partial, A* partial_statistics, cudaStream_t stream) {
  MapPlan plan{};
  cudaError_t error = forward_plan<V>(a, &plan);
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(a.images * plan.splits),
                  static_cast<unsigned>(plan.channel_blocks * plan.head_blocks));
  error = launch(pool_kernel<S, A, V>, grid, dim3(kProductThreads), 0, stream, a, plan, partial, partial_statistics);
  if (error != cudaSuccess) return error;
  const dim3 elements(static_cast<unsigned>(ceil_div(a.images * a.rows() * a.channels, kProductThreads)));
  return launch(combine_kernel<S, A>, elements, dim3(kProductThreads), 0, stream, a, plan.splits, partial,
                partial_statistics);
}

template <int V, typename S, typename A>
cudaError_t backward(const AttentionPoolArguments<S, A>& a, cudaStream_t stream) {
  MapPlan plan{};
  const cudaError_t error = MapPlan::make<V>(a.images, a.positions, a.channels, a.heads, false, &plan);
  if (error != cudaSuccess) return error;
  return launch(gradient_kernel<S, A, V>, dim3(static_cast<unsigned>(a.images * plan.splits)), dim3(kProductThreads), 0,
                stream, a, plan);
}

}  // namespace

template <typename S, typename A>
cudaError_t attention_pool_splits(const AttentionPoolArguments<S, A>& a, int64_t* splits) {
  MapPlan plan{};
  const bool packs = is_aligned<kPack<S>>(a.x, a.channels);
  const cudaError_t error = packs ? forward_plan<kPack<S>>(a, &plan) : forward_plan<1>(a, &plan);
  *splits = plan.splits;
  return error;
}

template <typename S, typename A>
cudaError_t attention_pool_forward(const AttentionPoolArguments<S, A>& a, A* partial, A* partial_statistics,
                                   cudaStream_t stream) {
  return is_aligned<kPack<S>>(a.x, a.channels) ? forward<kPack<S>>(a, partial, partial_statistics, stream)
                                               : forward<1>(a, partial, partial_statistics, stream);
}

template <typename S, typename A>
cudaError_t attention_pool_backward(const AttentionPoolArguments<S, A>& a, cudaStream_t stream) {
  return is_aligned<kSmallPack<S>>(a.x, a.channels) && is_aligned<kSmallPack<S>>(a.x_gradient, a.channels)
             ? backward<kSmallPack<S>>(a, stream)
             : backward<1>(a, stream);
}

#define PUMLC_INSTANTIATE(S, A)                                                                                 \
  template cudaError_t attention_pool_splits<S, A>(const AttentionPoolArguments<S, A>&, int64_t*);              \
  template cudaError_t attention_pool_forward<S, A>(const AttentionPoolArguments<S, A>&, A*, A*, cudaStream_t); \
  template cudaError_t attention_pool_backward<S, A>(const AttentionPoolArguments<S, A>&, cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE

}  // namespace pumlc::cuda
