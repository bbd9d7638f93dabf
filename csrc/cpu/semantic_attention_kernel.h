// The CPU kernels of semantic attention (math/semantic_attention.h), for one instruction set: isa/*.cpp include this
// file with PUMLC_ISA naming a namespace and the compiler's target set.
//
// Both are bound by the tanh of every row, class and dimension, which each pass takes once: a register of neighbouring
// dimensions at a time, with the sums in registers.
#include <algorithm>
#include <type_traits>

#include "../math/semantic_attention.h"
#include "position_products.h"
#include "semantic_attention.h"

namespace pumlc::cpu::PUMLC_ISA {

template <typename A>
PUMLC_INLINE math::TanhPair<Vector<A>> tanh_pair(Vector<A> x) {
  if constexpr (std::is_same_v<A, float>) {
    typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
    return math::tanh_pair_of<Bits>(x);
  } else {
    A values[kLanes<A>];
    A slopes[kLanes<A>];
    for (int lane = 0; lane < kLanes<A>; ++lane) {
      const auto pair = math::tanh_pair(x[lane]);
      values[lane] = pair.value;
      slopes[lane] = pair.slope;
    }
    return {load(values), load(slopes)};
  }
}

template <typename S, typename A>
void semantic_attention_forward(const SemanticAttentionWork<S, A>& work, int64_t first, int64_t last, A* scratch) {
  const auto& a = work.arguments;
  const int64_t padded = work.padded_dimensions();
  A* const v = scratch;
  const TileRows<S, A> features(a.dimensions, v + padded);
  const TileRows<A, A> words(a.dimensions, v + padded + kTileRows * padded);
  std::fill(std::copy_n(a.v, a.dimensions, v), v + padded, A(0));
  for (int64_t tile = first; tile < last; ++tile) {
    const int64_t row = tile / work.class_tiles() * kTileRows;
    const int64_t c = tile % work.class_tiles() * kTileClasses;
    const int64_t rows = std::min(kTileRows, a.rows() - row);
    const int64_t classes = std::min(kTileClasses, a.classes - c);
    const A* const f = features.read(a.features + row * a.dimensions, rows);
    const A* const e = words.read(a.words + c * a.dimensions, classes);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < classes; ++k) {
        Vector<A> sum{};
        for (int64_t d = 0; d < padded; d += kLanes<A>) {
          const Vector<A> x = load(f + i * padded + d) * load(e + k * padded + d);
          sum += load(v + d) * tanh_pair<A>(x).value;
        }
        A total = A(0);
        for (int lane = 0; lane < kLanes<A>; ++lane) total += sum[lane];
        a.out[a.place(row + i, c + k)] = static_cast<S>(total);
      }
  }
}

// Columns [rows, count] of a matrix whose rows are `stride` apart -> to [rows, kChannelUnit], padded with zeros.
template <typename S, typename A>
void read_columns(const S* from, int64_t stride, int64_t rows, int64_t count, A* to) {
  for (int64_t i = 0; i < rows; ++i, from += stride, to += kChannelUnit) {
    for (int64_t j = 0; j < count; ++j) to[j] = static_cast<A>(from[j]);
    std::fill(to + count, to + kChannelUnit, A(0));
  }
}

// One tile of rows by classes of a slice. All but upstream [rows, stride] have rows of kChannelUnit; to the sums, of
// which v [kChannelUnit] is that of the gradient of v, those of the tile are added.
template <typename A>
void semantic_gradients(const A* features, const A* words, const A* upstream, int64_t stride, int64_t rows,
                        int64_t classes, A* features_sum, A* words_sum, double* v) {
  for (int64_t d = 0; d < kChannelUnit; d += kLanes<A>) {
    Vector<A> v_tile{};
    for (int64_t i = 0; i < rows; ++i) {
      const Vector<A> feature = load(features + i * kChannelUnit + d);
      Vector<A> feature_sum{};
      Vector<A> v_row{};
      for (int64_t k = 0; k < classes; ++k) {
        const Vector<A> word = load(words + k * kChannelUnit + d);
        const auto gradient =
            math::semantic_gradient(upstream[i * stride + k], feature, word, tanh_pair<A>(feature * word));
        feature_sum += gradient.feature;
        v_row += gradient.v;
        A* const to = words_sum + k * kChannelUnit + d;
        store(to, load(to) + gradient.word);
      }
      A* const to = features_sum + i * kChannelUnit + d;
      store(to, load(to) + feature_sum);
      v_tile += v_row;
    }
    for (int lane = 0; lane < kLanes<A>; ++lane) v[d + lane] += v_tile[lane];
  }
}

template <typename S, typename A>
void semantic_attention_backward(const SemanticAttentionWork<S, A>& work, int64_t first, int64_t last, A* scratch) {
  const auto& a = work.arguments;
  // the sums of many tiles in double, as those of a tile are many already
  double* const words_sum = reinterpret_cast<double*>(scratch);                 // [C, unit]
  A* const words = reinterpret_cast<A*>(words_sum + a.classes * kChannelUnit);  // [C, unit]
  A* const words_tile = words + a.classes * kChannelUnit;                       // [kTileClasses, unit]
  A* const features = words_tile + kTileClasses * kChannelUnit;                 // [kTileRows, unit]
  A* const features_sum = features + kTileRows * kChannelUnit;                  // [kTileRows, unit]
  for (int64_t slice = first; slice < last; ++slice) {
    const int64_t d = slice * kChannelUnit;
    const int64_t count = std::min<int64_t>(kChannelUnit, a.dimensions - d);
    double v[kChannelUnit] = {};
    read_columns(a.words + d, a.dimensions, a.classes, count, words);
    std::fill_n(words_sum, a.classes * kChannelUnit, 0.0);
    for (int64_t row = 0; row < a.rows(); row += kTileRows) {
      const int64_t rows = std::min(kTileRows, a.rows() - row);
      read_columns(a.features + row * a.dimensions + d, a.dimensions, rows, count, features);
      std::fill_n(features_sum, rows * kChannelUnit, A(0));
      for (int64_t c = 0; c < a.classes; c += kTileClasses) {
        const int64_t classes = std::min(kTileClasses, a.classes - c);
        std::fill_n(words_tile, classes * kChannelUnit, A(0));
        semantic_gradients(features, words + c * kChannelUnit, work.upstream + row * a.classes + c, a.classes, rows,
                           classes, features_sum, words_tile, v);
        for (int64_t i = 0; i < classes * kChannelUnit; ++i) words_sum[c * kChannelUnit + i] += words_tile[i];
      }
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < count; ++j)
          a.features_gradient[(row + i) * a.dimensions + d + j] =
              static_cast<S>(features_sum[i * kChannelUnit + j] * a.v[d + j]);
    }
    for (int64_t c = 0; c < a.classes; ++c)
      for (int64_t j = 0; j < count; ++j)
        a.words_gradient[c * a.dimensions + d + j] = static_cast<A>(words_sum[c * kChannelUnit + j]) * a.v[d + j];
    for (int64_t j = 0; j < count; ++j) a.v_gradient[d + j] = static_cast<A>(v[j]);
  }
}

template <typename S, typename A>
constexpr SemanticAttentionKernels<S, A> semantic_attention_kernels() {
  return {semantic_attention_forward<S, A>, semantic_attention_backward<S, A>};
}

}  // namespace pumlc::cpu::PUMLC_ISA
