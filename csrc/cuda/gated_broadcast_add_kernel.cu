// The gated broadcast-add (../math/gated_broadcast_add.h) on CUDA; who owns what is in position_products.cuh.
//
// Forward: a block has a share of the positions of an image and a block of channels.
// Backward: a block of heads besides. It reads its part of the upstream gradient once, for its sums of M and for the
// dots of its positions. Where one block has all channels the dots are whole, and it writes the gradient of the gates;
// else a second kernel adds the parts. Two more add the sums, in the order of the splits, heads and images.
#include "../math/gated_broadcast_add.h"

#include "gated_broadcast_add.h"
#include "position_products.cuh"

namespace pumlc::cuda {
namespace {

// v [8, V]: scale u of a block of heads for this thread's channels.
template <int V, typename S, typename A>
__device__ __forceinline__ void load_vectors(const GatedBroadcastAddArguments<S, A>& a, int64_t b, int64_t first_head,
                                             int64_t c, A (&v)[kHeadBlock][V]) {
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const bool is_channel = c + i < a.channels;
    const A scale = is_channel ? a.scale[c + i] : A(0);
    const A* const u = a.u + (b * a.channels + c + i) * a.heads + first_head;
#pragma unroll
    for (int j = 0; j < kHeadBlock; ++j) v[j][i] = is_channel && first_head + j < a.heads ? scale * u[j] : A(0);
  }
}

template <typename S, typename A, int V>
__global__ void __launch_bounds__(kProductThreads)
    add_kernel(const GatedBroadcastAddArguments<S, A> a, const MapPlan plan) {
  __shared__ Weights<A> gates[kTile];
  const MapPlace at(plan);
  const MapShare share(plan, a.positions);
  const int64_t c = (static_cast<int64_t>(blockIdx.y) * at.lanes + at.lane) * V;
  A v[kHeadBlock][V];
  A shift[V];
#pragma unroll
  for (int i = 0; i < V; ++i) shift[i] = c < a.channels ? a.shift[c + i] : A(0);

  for (int first = share.begin; first < share.end; first += kTile) {
    const int count = share.end - first < kTile ? share.end - first : kTile;
    const int64_t origin = (share.image * a.positions + first) * a.channels;
    for (int head_block = 0; head_block < plan.head_blocks; ++head_block) {
      const int k = head_block * kHeadBlock + at.head;
      if (first == share.begin || plan.head_blocks > 1) load_vectors(a, share.image, head_block * kHeadBlock, c, v);
      __syncthreads();  // the last gates are used
      fill_tile(a.gate_scores, share.image, k, k < a.heads, first, count, gates,
                [](A score) { return math::gate(score); });
      __syncthreads();
      // after the first block of heads, what this thread wrote itself
      const S* const from = (head_block == 0 ? a.y : a.out) + origin;
      for_packs<V>(from, a.channels, c, count, at, [&](int p, bool exists, const Pack<S, V>& before) {
        if (!exists) return;
        A y[V];
#pragma unroll
        for (int i = 0; i < V; ++i) y[i] = static_cast<A>(before.value[i]) + (head_block == 0 ? shift[i] : A(0));
        spread(gates[p], v, y);
        Pack<S, V> out;
#pragma unroll
        for (int i = 0; i < V; ++i) out.value[i] = static_cast<S>(y[i]);
        *reinterpret_cast<Pack<S, V>*>(a.out + origin + p * a.channels + c) = out;
      });
    }
  }
}

template <typename S, typename A, int V>
__global__ void __launch_bounds__(kProductThreads)
    gradient_kernel(const GatedBroadcastAddArguments<S, A> a, const MapPlan plan,
                    const GatedBroadcastAddWorkspace<A> workspace) {
  __shared__ Weights<A> gates[kTile];
  __shared__ TileDots<A> tile_dots;
  __shared__ A of_rows[kProductThreads * V];
  const MapPlace at(plan);
  const MapShare share(plan, a.positions);
  const int64_t b = share.image;
  const int channel_block = blockIdx.y % plan.channel_blocks;
  const int first_head = blockIdx.y / plan.channel_blocks * kHeadBlock;
  const int64_t c = (static_cast<int64_t>(channel_block) * at.lanes + at.lane) * V;
  const int k = first_head + at.head;
  A v[kHeadBlock][V];
  load_vectors(a, b, first_head, c, v);
  A acc[kHeadBlock][V] = {};
  A total[V] = {};

  for (int first = share.begin; first < share.end; first += kTile) {
    const int count = share.end - first < kTile ? share.end - first : kTile;
    __syncthreads();  // the last gates and dots are used
    fill_tile(a.gate_scores, b, k, k < a.heads, first, count, gates, [](A score) { return math::gate(score); });
    __syncthreads();
    for_packs<V>(a.upstream + (b * a.positions + first) * a.channels, a.channels, c, count, at,
                 [&](int p, bool exists, const Pack<S, V>& g) {
                   dots(g, v, at, p, false, tile_dots);
                   if (!exists) return;
                   accumulate(g, gates[p], acc);
#pragma unroll
                   for (int i = 0; i < V; ++i) total[i] += static_cast<A>(g.value[i]);
                 });
    __syncthreads();
    if (k >= a.heads) continue;
    for (int p = threadIdx.x / kHeadBlock; p < count; p += kProductThreads / kHeadBlock) {
      const A dot = whole_dot(tile_dots, at, p, at.head);
      if (workspace.dots != nullptr)
        workspace.dots[((channel_block * a.images + b) * a.heads + k) * a.positions + first + p] = dot;
      else
        *a.gate_gradient.at(b, k, first + p) =
            static_cast<S>(math::gate_slope(static_cast<A>(__ldg(a.gate_scores.at(b, k, first + p)))) * dot);
    }
  }

  const int64_t part = blockIdx.x;
  const int64_t from = static_cast<int64_t>(channel_block) * at.lanes * V;
#pragma unroll
  for (int j = 0; j < kHeadBlock; ++j) {
    if (first_head + j >= a.heads) break;  // the same for all threads
    A* const to = workspace.sums + (part * a.heads + first_head + j) * a.channels;
    sum_rows<V>(acc[j], at, of_rows, [&](int i, A sum) {
      if (from + i < a.channels) to[from + i] = sum;
    });
  }
  if (first_head > 0) return;
  sum_rows<V>(total, at, of_rows, [&](int i, A sum) {
    if (from + i < a.channels) workspace.totals[part * a.channels + from + i] = sum;
  });
}

// The gradient of the gates from the dots of several blocks of channels: thread i has element i of [B, K, P].
template <typename S, typename A>
__global__ void __launch_bounds__(kProductThreads)
    gate_gradient_kernel(const GatedBroadcastAddArguments<S, A> a, int64_t parts, const A* dots) {
  const int64_t count = a.images * a.heads * a.positions;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kProductThreads + threadIdx.x;
  if (i >= count) return;
  A dot = A(0);
  for (int64_t part = 0; part < parts; ++part) dot += dots[part * count + i];
  const int64_t p = i % a.positions;
  const int64_t k = i / a.positions % a.heads;
  const int64_t b = i / a.positions / a.heads;
  *a.gate_gradient.at(b, k, p) =
      static_cast<S>(math::gate_slope(static_cast<A>(__ldg(a.gate_scores.at(b, k, p)))) * dot);
}

// Adds the splits of image blockIdx.x: a thread has a channel. The gradient of u, and what the image gives to the
// gradients of scale and shift: images [2, B, O].
template <typename S, typename A>
__global__ void __launch_bounds__(kProductThreads)
    image_sums_kernel(const GatedBroadcastAddArguments<S, A> a, int splits,
                      const GatedBroadcastAddWorkspace<A> workspace) {
  const int64_t o = static_cast<int64_t>(blockIdx.y) * kProductThreads + threadIdx.x;
  if (o >= a.channels) return;
  const int64_t b = blockIdx.x;
  const int64_t i = b * a.channels + o;  // of [B, O]
  A scale_gradient = A(0);
  for (int64_t k = 0; k < a.heads; ++k) {
    A sum = A(0);
    for (int64_t s = b * splits; s < (b + 1) * splits; ++s) sum += workspace.sums[(s * a.heads + k) * a.channels + o];
    scale_gradient += sum * a.u[i * a.heads + k];
    a.u_gradient[i * a.heads + k] = a.scale[o] * sum;
  }
  A shift_gradient = A(0);
  for (int64_t s = b * splits; s < (b + 1) * splits; ++s) shift_gradient += workspace.totals[s * a.channels + o];
  workspace.images[i] = scale_gradient;
  workspace.images[a.images * a.channels + i] = shift_gradient;
}

// Adds the images: a block has 32 channels, warp w the images w, w + 8, ...
template <typename S, typename A>
__global__ void __launch_bounds__(kProductThreads)
    batch_sums_kernel(const GatedBroadcastAddArguments<S, A> a, const A* images) {
  __shared__ A of_warps[2][kProductWarps][kWarpSize];
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int64_t o = static_cast<int64_t>(blockIdx.x) * kWarpSize + lane;
  A sums[2] = {};
  if (o < a.channels)
    for (int64_t b = warp; b < a.images; b += kProductWarps)
      for (int which = 0; which < 2; ++which) sums[which] += images[(which * a.images + b) * a.channels + o];
  for (int which = 0; which < 2; ++which) of_warps[which][warp][lane] = sums[which];
  __syncthreads();
  if (warp >= 2 || o >= a.channels) return;
  A sum = A(0);
  for (int w = 0; w < kProductWarps; ++w) sum += of_warps[warp][w][lane];
  (warp == 0 ? a.scale_gradient : a.shift_gradient)[o] = sum;
}

template <int V, typename S, typename A>
cudaError_t forward(const GatedBroadcastAddArguments<S, A>& a, cudaStream_t stream) {
  MapPlan plan{};
  const cudaError_t error = MapPlan::make<V>(a.images, a.positions, a.channels, kHeadBlock, true, &plan);
  if (error != cudaSuccess) return error;
  plan.head_blocks = ceil_div(a.heads, kHeadBlock);  // which a block takes one after the other
  const dim3 grid(static_cast<unsigned>(a.images * plan.splits), static_cast<unsigned>(plan.channel_blocks));
  return launch(add_kernel<S, A, V>, grid, dim3(kProductThreads), 0, stream, a, plan);
}

template <typename S, typename A>
cudaError_t backward_plan(const GatedBroadcastAddArguments<S, A>& a, bool packs, MapPlan* plan) {
  return packs ? MapPlan::make<kSmallPack<S>>(a.images, a.positions, a.channels, a.heads, true, plan)
               : MapPlan::make<1>(a.images, a.positions, a.channels, a.heads, true, plan);
}

}  // namespace

template <typename S, typename A>
cudaError_t gated_broadcast_add_forward(const GatedBroadcastAddArguments<S, A>& a, cudaStream_t stream) {
  return is_aligned<kSmallPack<S>>(a.y, a.channels) && is_aligned<kSmallPack<S>>(a.out, a.channels)
             ? forward<kSmallPack<S>>(a, stream)
             : forward<1>(a, stream);
}

template <typename S, typename A>
cudaError_t gated_broadcast_add_parts(const GatedBroadcastAddArguments<S, A>& a, GatedBroadcastAddParts* parts) {
  MapPlan plan{};
  const cudaError_t error = backward_plan(a, is_aligned<kSmallPack<S>>(a.upstream, a.channels), &plan);
  *parts = {plan.splits, plan.channel_blocks};
  return error;
}

template <typename S, typename A>
cudaError_t gated_broadcast_add_backward(const GatedBroadcastAddArguments<S, A>& a,
                                         const GatedBroadcastAddWorkspace<A>& workspace, cudaStream_t stream) {
  MapPlan plan{};
  const bool packs = is_aligned<kSmallPack<S>>(a.upstream, a.channels);
  cudaError_t error = backward_plan(a, packs, &plan);
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(a.images * plan.splits),
                  static_cast<unsigned>(plan.channel_blocks * plan.head_blocks));
  error = launch(packs ? gradient_kernel<S, A, kSmallPack<S>> : gradient_kernel<S, A, 1>, grid, dim3(kProductThreads),
                 0, stream, a, plan, workspace);
  if (error == cudaSuccess && workspace.dots != nullptr)
    error = launch(gate_gradient_kernel<S, A>,
                   dim3(static_cast<unsigned>(ceil_div(a.images * a.heads * a.positions, kProductThreads))),
                   dim3(kProductThreads), 0, stream, a, plan.channel_blocks, workspace.dots);
  if (error == cudaSuccess)
    error = launch(image_sums_kernel<S, A>,
                   dim3(static_cast<unsigned>(a.images), static_cast<unsigned>(ceil_div(a.channels, kProductThreads))),
                   dim3(kProductThreads), 0, stream, a, plan.splits, workspace);
  if (error != cudaSuccess) return error;
  return launch(batch_sums_kernel<S, A>, dim3(static_cast<unsigned>(ceil_div(a.channels, kWarpSize))),
                dim3(kProductThreads), 0, stream, a, workspace.images);
}

#define PUMLC_INSTANTIATE(S, A)                                                                                  \
  template cudaError_t gated_broadcast_add_forward<S, A>(const GatedBroadcastAddArguments<S, A>&, cudaStream_t); \
  template cudaError_t gated_broadcast_add_parts<S, A>(const GatedBroadcastAddArguments<S, A>&,                  \
                                                       GatedBroadcastAddParts*);                                 \
  template cudaError_t gated_broadcast_add_backward<S, A>(const GatedBroadcastAddArguments<S, A>&,               \
                                                          const GatedBroadcastAddWorkspace<A>&, cudaStream_t);

PUMLC_INSTANTIATE(double, double)
PUMLC_INSTANTIATE(float, float)
PUMLC_INSTANTIATE(c10::BFloat16, float)
PUMLC_INSTANTIATE(c10::Half, float)
#undef PUMLC_INSTANTIATE

}  // namespace pumlc::cuda
