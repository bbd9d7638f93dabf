// The CPU kernels of attention pooling (math/attention_pool.h), for one instruction set: isa/*.cpp include this file
// with PUMLC_ISA naming a namespace and the compiler's target set.
//
// Forward, a chunk of positions has a softmax of its own, relative to its largest score, and reads x once; finish()
// brings the chunks of a head to a common largest score and adds them. Backward, positions do not need each other.
#include <algorithm>
#include <limits>

#include "../math/attention_pool.h"
#include "attention_pool.h"
#include "position_products.h"

namespace pumlc::cpu::PUMLC_ISA {

constexpr int kScoreLanes = kPositionUnit * kHeadBlock;  // scores that are taken at a time

// Scores [positions, 8] of a chunk become softmax terms. largest [8] and sums [8] are those of the chunk.
template <typename A>
void softmax_terms(A* scores, int64_t positions, A* largest, A* sums) {
  const int64_t count = padded_to(positions, kPositionUnit) * kHeadBlock;
  A most[kScoreLanes];
  A sum[kScoreLanes] = {};
  std::fill(most, most + kScoreLanes, -std::numeric_limits<A>::infinity());
  for (int64_t at = 0; at < count; at += kScoreLanes)
    for (int j = 0; j < kScoreLanes; ++j) most[j] = scores[at + j] > most[j] ? scores[at + j] : most[j];
  for (int k = 0; k < kHeadBlock; ++k)
    for (int j = k; j < kScoreLanes; j += kHeadBlock) most[k] = std::max(most[k], most[j]);
  for (int j = kHeadBlock; j < kScoreLanes; ++j) most[j] = most[j % kHeadBlock];
  for (int64_t at = 0; at < count; at += kScoreLanes)
    for (int j = 0; j < kScoreLanes; ++j) {
      scores[at + j] = math::softmax_term(scores[at + j], most[j]);
      sum[j] += scores[at + j];
    }
  for (int k = 0; k < kHeadBlock; ++k) {
    largest[k] = most[k];
    sums[k] = ((sum[k] + sum[k + 8]) + (sum[k + 16] + sum[k + 24]));
  }
}
static_assert(kScoreLanes == 32 && kHeadBlock == 8, "the sum of a head is taken of four lanes");

template <typename S, typename A>
void attention_pool_forward(const AttentionPoolWork<S, A>& work, int64_t first, int64_t last, A* scratch) {
  const auto& a = work.arguments;
  const int64_t heads = work.padded_heads();
  const int64_t channels = work.padded_channels();
  A* const terms = scratch;  // [blocks, chunk, 8]
  const TileRows<S, A> tile(a.channels, terms + heads * work.chunks.size);
  for (int64_t unit = first; unit < last; ++unit) {
    const int64_t b = unit / work.chunks.per_image;
    const int64_t begin = unit % work.chunks.per_image * work.chunks.size;
    const int64_t end = std::min(begin + work.chunks.size, a.positions);
    A* const statistics = work.partial_statistics + unit * 2 * heads;
    A* const sums = work.partial + unit * heads * channels;
    std::fill(sums, sums + heads * channels, A(0));
    for (int64_t k = 0; k < heads; k += kHeadBlock) {
      read_scores(a.scores, b, k / kHeadBlock, a.heads, begin, end - begin, terms + k * work.chunks.size);
      softmax_terms(terms + k * work.chunks.size, end - begin, statistics + k, statistics + heads + k);
    }
    for (int64_t p = begin; p < end; p += work.tile()) {
      const int64_t rows = std::min(work.tile(), end - p);
      const A* x = tile.read(a.x + (b * a.positions + p) * a.channels, rows);
      for (int64_t k = 0; k < heads; k += kHeadBlock)
        accumulate<false>(x, terms + k * work.chunks.size + (p - begin) * kHeadBlock, rows, channels,
                          sums + k * channels);
    }
  }
}

template <typename S, typename A>
void attention_pool_finish(const AttentionPoolWork<S, A>& work, int64_t first, int64_t last) {
  const auto& a = work.arguments;
  const int64_t heads = work.padded_heads();
  const int64_t channels = work.padded_channels();
  for (int64_t index = first; index < last; ++index) {
    const int64_t b = index / a.heads;
    const int64_t k = index % a.heads;
    const int64_t begin = a.grouped ? k * (a.channels / a.heads) : 0;
    const int64_t end = a.grouped ? begin + a.channels / a.heads : a.channels;
    const int64_t to = (b * a.rows() + (a.grouped ? 0 : k)) * a.channels;
    const A* const statistics = work.partial_statistics + b * work.chunks.per_image * 2 * heads + k;
    A* const total = work.partial + (b * work.chunks.per_image * heads + k) * channels;  // takes the place of chunk 0
    A largest = statistics[0];
    for (int64_t j = 1; j < work.chunks.per_image; ++j) largest = std::max(largest, statistics[j * 2 * heads]);
    A sum = A(0);
    for (int64_t j = 0; j < work.chunks.per_image; ++j)
      sum += math::softmax_term(statistics[j * 2 * heads], largest) * statistics[j * 2 * heads + heads];
    for (int64_t j = 0; j < work.chunks.per_image; ++j) {
      const A factor = math::softmax_term(statistics[j * 2 * heads], largest);
      const A* part = total + j * heads * channels;
      for (int64_t c = begin; c < end; ++c) total[c] = (j == 0 ? A(0) : total[c]) + factor * part[c];
    }
    for (int64_t c = begin; c < end; ++c) {
      total[c] /= sum;
      a.pooled[to + c] = static_cast<S>(total[c]);
    }
    if (a.means_out != nullptr) std::copy(total + begin, total + end, a.means_out + to + begin);
    a.statistics_out[(b * 2 + kLargestScore) * a.heads + k] = largest;
    a.statistics_out[(b * 2 + kSumOfTerms) * a.heads + k] = sum;
  }
}

// What all positions of an image share in the backward pass.
template <typename S, typename A>
class AttentionPoolGradient {
 public:
  AttentionPoolGradient(const AttentionPoolWork<S, A>& work, A* scratch)
      : a_(work.arguments),
        heads_(work.padded_heads()),
        channels_(work.padded_channels()),
        upstream(scratch),
        mean_dots(upstream + heads_ * channels_),
        largest(mean_dots + heads_),
        sums(largest + heads_) {}

  // row: room for one row of a tile
  void read(int64_t b, A* row) {
    std::fill(upstream, sums, A(0));
    std::fill(sums, sums + heads_, A(1));  // of heads that do not exist, too
    for (int64_t k = 0; k < a_.heads; ++k) {
      const int64_t begin = a_.grouped ? k * (a_.channels / a_.heads) : 0;
      const int64_t end = a_.grouped ? begin + a_.channels / a_.heads : a_.channels;
      const S* from = a_.upstream + (b * a_.rows() + (a_.grouped ? 0 : k)) * a_.channels;
      for (int64_t c = begin; c < end; ++c) upstream[k * channels_ + c] = static_cast<A>(from[c]);
      largest[k] = a_.statistics[(b * 2 + kLargestScore) * a_.heads + k];
      sums[k] = a_.statistics[(b * 2 + kSumOfTerms) * a_.heads + k];
    }
    // by the function that the positions' dots are taken with: where one position has all the weight, and so is the
    // mean, its dot and D cancel exactly
    const TileRows<A, A> tile(a_.channels, row);
    for (int64_t k = 0; k < a_.heads; ++k) {
      const A* means = tile.read(a_.means + (b * a_.rows() + (a_.grouped ? 0 : k)) * a_.channels, 1);
      A d[kHeadBlock];
      dots(means, upstream + k / kHeadBlock * kHeadBlock * channels_, 1, channels_, d);
      mean_dots[k] = d[k % kHeadBlock];
    }
  }

 private:
  const AttentionPoolArguments<S, A>& a_;
  const int64_t heads_;
  const int64_t channels_;

 public:
  A* const upstream;   // [K8, N]
  A* const mean_dots;  // [K8]
  A* const largest;    // [K8]
  A* const sums;       // [K8]
};

template <typename S, typename A>
void attention_pool_backward(const AttentionPoolWork<S, A>& work, int64_t first, int64_t last, A* scratch) {
  const auto& a = work.arguments;
  const int64_t heads = work.padded_heads();
  const int64_t channels = work.padded_channels();
  AttentionPoolGradient<S, A> image(work, scratch);
  A* const weights = image.sums + heads;            // [tile, 8]
  A* const d = weights + work.tile() * kHeadBlock;  // [tile, 8]
  A* const rows_in = d + work.tile() * kHeadBlock;  // [tile, N]
  A* const rows_out = rows_in + work.tile() * channels;
  const TileRows<S, A> tile_in(a.channels, rows_in);
  const TileRows<S, A> tile_out(a.channels, rows_out);
  int64_t current = -1;
  for (int64_t unit = first; unit < last; ++unit) {
    const int64_t b = unit / work.chunks.per_image;
    const int64_t begin = unit % work.chunks.per_image * work.chunks.size;
    const int64_t end = std::min(begin + work.chunks.size, a.positions);
    if (b != current) image.read(b, rows_in);
    current = b;
    for (int64_t p = begin; p < end; p += work.tile()) {
      const int64_t rows = std::min(work.tile(), end - p);
      const int64_t at = (b * a.positions + p) * a.channels;
      const A* x = tile_in.read(a.x + at, rows);
      A* const y = tile_out.target(a.x_gradient + at);
      if (a.adds_to_x_gradient) tile_out.read(a.x_gradient + at, rows);
      for (int64_t k = 0; k < heads; k += kHeadBlock) {
        read_scores(a.scores, b, k / kHeadBlock, a.heads, p, rows, weights);
        for (int64_t i = 0; i < rows; ++i)
          for (int j = 0; j < kHeadBlock; ++j)
            weights[i * kHeadBlock + j] =
                math::softmax_term(weights[i * kHeadBlock + j], image.largest[k + j]) / image.sums[k + j];
        const A* g = image.upstream + k * channels;
        dots(x, g, rows, channels, d);
        for (int64_t i = 0; i < rows; ++i)
          for (int j = 0; j < kHeadBlock; ++j)
            d[i * kHeadBlock + j] =
                math::softmax_gradient(weights[i * kHeadBlock + j], d[i * kHeadBlock + j], image.mean_dots[k + j]);
        write_scores(a.scores_gradient, b, k / kHeadBlock, a.heads, p, rows, d);
        spread(weights, g, rows, channels, y, [&](int64_t i, int64_t c, Vector<A>& sum) {
          if (k > 0 || a.adds_to_x_gradient) sum += load(y + i * channels + c);
        });
      }
      tile_out.write(a.x_gradient + at, rows);
    }
  }
}

template <typename S, typename A>
constexpr AttentionPoolKernels<S, A> attention_pool_kernels() {
  return {attention_pool_forward<S, A>, attention_pool_backward<S, A>, attention_pool_finish<S, A>};
}

}  // namespace pumlc::cpu::PUMLC_ISA
