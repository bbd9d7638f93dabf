// Three products between the positions and the channels of a feature map [B, P, C], a block of eight heads at a time.
//
// With x [P, C], weights w [P, 8] and vectors v [8, C]:
//   accumulate   acc_kc += sum_p w_pk x_pc
//   dots         d_pk    = sum_c x_pc v_kc
//   spread       y_pc   += sum_k w_pk v_kc
// A block takes a share of the positions of one image, in tiles. Its threads stand in `rows` rows of `lanes` (8 to
// 256): a lane owns a pack of V neighbouring channels (16 bytes where rows are aligned, else one channel), with the
// eight accumulators or vectors of each in registers; a row takes every rows-th position of the tile. The weights of a
// tile are worked out once, into shared memory.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "../head_map.h"
#include "reduce.cuh"

namespace pumlc::cuda {

constexpr int kProductThreads = 256;
constexpr int kProductWarps = kProductThreads / kWarpSize;
constexpr int kHeadBlock = 8;
constexpr int kTile = 64;  // positions; the dots of a tile by 8 warps are 16 KB of floats
constexpr int kWarpsPerRow = kProductThreads / kWarpSize;
static_assert(kProductThreads % kHeadBlock == 0 && kWarpSize % kHeadBlock == 0, "a thread keeps to one head's scores");
static_assert(kTile % (kProductThreads / kHeadBlock) == 0, "threads have equal parts of a tile's scores");

// V neighbouring channels.
template <typename S, int V>
struct alignas(V * sizeof(S)) Pack {
  S value[V];
};

// Channels of a pack: 16 bytes; and where a thread keeps so much for each that eight of them would take the registers
// of a second block on the multiprocessor.
template <typename S>
constexpr int kPack = 16 / sizeof(S);
template <typename S>
constexpr int kSmallPack = kPack<S> < 4 ? kPack<S> : 4;

// Packs that a thread asks for before it uses the first: with two blocks on a multiprocessor, 16 KB are in flight.
template <typename S, int V>
constexpr int kInFlight = sizeof(S) == 8 || V * sizeof(S) >= 16 ? 2 : 4;

// The weights of one position.
template <typename A>
struct alignas(16) Weights {
  A head[kHeadBlock];
};

// How a launch divides a feature map.
struct MapPlan {
  int lanes;           // threads beside each other, a power of two of at least 8
  int channel_blocks;  // of lanes * V channels
  int head_blocks;
  int splits;  // of the positions of an image
  int share;   // positions of a split, a multiple of kTile

  // blocks_per_head: channels and heads are shared by blocks, not taken one after the other by one of them
  template <int V>
  static cudaError_t make(int64_t images, int64_t positions, int64_t channels, int64_t heads, bool blocks_per_head,
                          MapPlan* plan) {
    constexpr int64_t kBlocksPerMultiprocessor = 4;  // that are wanted: two at a time, and another two
    Device device;
    const cudaError_t error = Device::current(&device);
    if (error != cudaSuccess) return error;
    const int64_t packs = ceil_div(channels, V);
    plan->lanes = kHeadBlock;
    while (plan->lanes < kProductThreads && plan->lanes < packs) plan->lanes *= 2;
    plan->channel_blocks = static_cast<int>(ceil_div(packs, plan->lanes));
    plan->head_blocks = static_cast<int>(ceil_div(heads, kHeadBlock));
    const int64_t blocks = images * (blocks_per_head ? plan->channel_blocks * plan->head_blocks : 1);
    const int64_t wanted = ceil_div(kBlocksPerMultiprocessor * device.multiprocessors, blocks);
    plan->share = static_cast<int>(round_up(ceil_div(positions, wanted), kTile));
    plan->splits = static_cast<int>(ceil_div(positions, plan->share));
    return cudaSuccess;
  }
};

// True where rows of that many channels from `data` on can be read in packs of V.
template <int V, typename S>
bool is_aligned(const S* data, int64_t channels) {
  return channels % V == 0 && reinterpret_cast<uintptr_t>(data) % (V * sizeof(S)) == 0;
}

// Where a thread stands.
struct MapPlace {
  const int lanes;
  const int rows = kProductThreads / lanes;
  const int lane = threadIdx.x % lanes;
  const int row = threadIdx.x / lanes;
  const int head = threadIdx.x % kHeadBlock;  // whose scores it works out
  explicit __device__ MapPlace(const MapPlan& plan) : lanes(plan.lanes) {}
};

// The share of an image's positions that a block has.
struct MapShare {
  int image;
  int split;
  int begin;
  int end;
  __device__ MapShare(const MapPlan& plan, int64_t positions)
      : image(static_cast<int>(blockIdx.x / static_cast<unsigned>(plan.splits))),
        split(static_cast<int>(blockIdx.x % static_cast<unsigned>(plan.splits))),
        begin(split * plan.share),
        end(positions - begin > plan.share ? begin + plan.share : static_cast<int>(positions)) {}
};

// tile [kTile]: weight(score) of this thread's head at `count` positions from `first` on, 0 beyond them and for heads
// that do not exist. weight is called for scores that exist, with the positions in their order.
template <typename S, typename A, typename Weight>
__device__ __forceinline__ void fill_tile(const HeadMap<const S>& scores, int64_t b, int64_t k, bool exists,
                                          int64_t first, int count, Weights<A>* tile, const Weight& weight) {
  for (int i = threadIdx.x / kHeadBlock; i < kTile; i += kProductThreads / kHeadBlock)
    tile[i].head[threadIdx.x % kHeadBlock] =
        exists && i < count ? weight(static_cast<A>(__ldg(scores.at(b, k, first + i)))) : A(0);
}

template <int V, typename S>
__device__ __forceinline__ Pack<S, V> load_pack(const S* from, bool exists) {
  if (exists) return *reinterpret_cast<const Pack<S, V>*>(from);
  Pack<S, V> zeros;
#pragma unroll
  for (int j = 0; j < V; ++j) zeros.value[j] = S(0);
  return zeros;
}

template <int V, typename S, typename A>
__device__ __forceinline__ void accumulate(const Pack<S, V>& x, const Weights<A>& w, A (&acc)[kHeadBlock][V]) {
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const A value = static_cast<A>(x.value[j]);
#pragma unroll
    for (int k = 0; k < kHeadBlock; ++k) acc[k][j] += w.head[k] * value;
  }
}

// y [V] += w v
template <int V, typename A>
__device__ __forceinline__ void spread(const Weights<A>& w, const A (&v)[kHeadBlock][V], A (&y)[V]) {
#pragma unroll
  for (int k = 0; k < kHeadBlock; ++k)
#pragma unroll
    for (int j = 0; j < V; ++j) y[j] += w.head[k] * v[k][j];
}

// The dots of the channels of a row's lanes within one warp, of up to kTile positions: [warps of a row, kTile, 8].
template <typename A>
using TileDots = A[kWarpsPerRow][kTile][kHeadBlock];

// Writes, or where `more` adds, the dots of this thread's pack at position p of the tile, summed over the lanes of its
// row that share its warp. All threads of the warp must come.
template <int V, typename S, typename A>
__device__ __forceinline__ void dots(const Pack<S, V>& x, const A (&v)[kHeadBlock][V], const MapPlace& at, int p,
                                     bool more, TileDots<A>& result) {
  A d[kHeadBlock] = {};
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const A value = static_cast<A>(x.value[j]);
#pragma unroll
    for (int k = 0; k < kHeadBlock; ++k) d[k] += value * v[k][j];
  }
  // halves of the lanes exchange halves of the heads, three times; then each lane has one head
  const int width = at.lanes < kWarpSize ? at.lanes : kWarpSize;
  int head = 0;
  int offset = width / 2;
#pragma unroll
  for (int half = kHeadBlock / 2; half > 0; half /= 2, offset /= 2) {
    const bool upper = threadIdx.x & offset;
#pragma unroll
    for (int k = 0; k < half; ++k) {
      const A kept = upper ? d[k + half] : d[k];
      const A given = upper ? d[k] : d[k + half];
      d[k] = kept + __shfl_xor_sync(kFullWarp, given, offset);
    }
    head += upper ? half : 0;
  }
  for (; offset > 0; offset /= 2) d[0] += __shfl_xor_sync(kFullWarp, d[0], offset);
  if (threadIdx.x % (width / kHeadBlock) == 0 && p < kTile) {
    A& to = result[at.lane / kWarpSize][p][head];
    to = more ? to + d[0] : d[0];
  }
}

// The dot of head k at position p of the tile, over all lanes of a row.
template <typename A>
__device__ __forceinline__ A whole_dot(const TileDots<A>& dots, const MapPlace& at, int p, int k) {
  A sum = dots[0][p][k];
  for (int warp = 1; warp < at.lanes / kWarpSize; ++warp) sum += dots[warp][p][k];
  return sum;
}

// Sums over the rows of the block, of V channels per lane; use(c, sum) is called for channel c of the block's
// lanes * V. partial: shared [kProductThreads * V].
template <int V, typename A, typename Use>
__device__ __forceinline__ void sum_rows(A (&values)[V], const MapPlace& at, A* partial, const Use& use) {
#pragma unroll
  for (int j = 0; j < V; ++j)
    for (int offset = kWarpSize / 2; offset >= at.lanes; offset /= 2)
      values[j] += __shfl_xor_sync(kFullWarp, values[j], offset);
  const int width = at.lanes * V;
  const int groups = at.lanes < kWarpSize ? kProductWarps : at.rows;
  const int group = at.lanes < kWarpSize ? threadIdx.x / kWarpSize : at.row;
  __syncthreads();  // partial may still be read from its last use
  if (at.lanes >= kWarpSize || threadIdx.x % kWarpSize < static_cast<unsigned>(at.lanes))
#pragma unroll
    for (int j = 0; j < V; ++j) partial[group * width + at.lane * V + j] = values[j];
  __syncthreads();
  for (int c = threadIdx.x; c < width; c += kProductThreads) {
    A sum = A(0);
    for (int g = 0; g < groups; ++g) sum += partial[g * width + c];
    use(c, sum);
  }
}

// Calls work(p, exists, pack) for the positions p of a tile that this thread's row has, x [P, C] standing at the
// tile's first; p runs alike in all threads of a warp, also beyond `count`, where the pack is zero.
template <int V, typename S, typename Work>
__device__ __forceinline__ void for_packs(const S* x, int64_t channels, int64_t c, int count, const MapPlace& at,
                                          const Work& work) {
  for (int first = 0; first < count; first += kInFlight<S, V> * at.rows) {
    Pack<S, V> packs[kInFlight<S, V>];
#pragma unroll
    for (int r = 0; r < kInFlight<S, V>; ++r) {
      const int p = first + r * at.rows + at.row;
      packs[r] = load_pack<V>(x + p * channels + c, p < count && c < channels);
    }
#pragma unroll
    for (int r = 0; r < kInFlight<S, V>; ++r) {
      const int p = first + r * at.rows + at.row;
      work(p, p < count && c < channels, packs[r]);
    }
  }
}

}  // namespace pumlc::cuda
