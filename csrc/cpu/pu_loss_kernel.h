// The CPU kernels of the PU loss (math/pu_loss.h), for one instruction set: isa/*.cpp include this file with
// PUMLC_ISA naming a namespace and the compiler's target set.
//
// A tile is copied to a scratch [rows, W] that stays in the L2 cache while the passes run over it: moments,
// probabilities (which replace the logits), gradient. Its labels become one word of bits per row, for
// positives are few. Loops run over the W classes of a row, so that the compiler makes vector code of them;
// sums go down the rows in blocks of kBlock, then in double.
#include <algorithm>
#include <cstring>

#include "../math/pu_loss.h"
#include "pu_loss.h"

namespace pumlc::cpu::PUMLC_ISA {

// Rows summed in the accumulation type before they join the total: keeps the rounding error of a long
// column near that of a pairwise sum.
constexpr int64_t kBlock = 32;

// Rows that are asked for ahead of their use: rows lie whole pages apart, where no hardware prefetcher looks.
constexpr int64_t kPrefetch = 32;

// The bits of eight labels, 1 where above 0, lowest address first.
inline uint64_t positive_bits(const int8_t* labels) {
  constexpr uint64_t kLow = 0x7f7f7f7f7f7f7f7f;
  uint64_t x;
  std::memcpy(&x, labels, sizeof(x));
  // per byte: the high bit is set where the value is neither zero nor negative
  const uint64_t high = ((x & kLow) + kLow) & ~x & ~kLow;
  return ((high >> 7) * 0x0102040810204080) >> 56;
}

// One tile of at most W classes and everything known about it.
template <typename S, typename A, int W>
class PuLossTile {
 public:
  PuLossTile(const PuLossArguments<S, A>& arguments, int64_t tile, void* scratch)
      : a_(arguments),
        first_(tile * W),
        width_(std::min<int64_t>(W, arguments.columns - tile * W)),
        values_(static_cast<A*>(scratch)),
        positive_(reinterpret_cast<uint64_t*>(values_ + arguments.rows * W)) {}

  // Logits and labels [rows, width] -> scratch.
  void read() {
    for (int64_t i = 0; i < a_.rows; ++i) {
      const S* __restrict__ logits = a_.logits + i * a_.logits_stride + first_;
      const int8_t* labels = a_.labels + i * a_.labels_stride + first_;
      A* row = values_ + i * W;
      uint64_t bits = 0;
      if (width_ == W) {
        if (i + kPrefetch < a_.rows) {
          prefetch_row<0>(logits + kPrefetch * a_.logits_stride);
          prefetch_row<0>(labels + kPrefetch * a_.labels_stride);
        }
        for (int j = 0; j < W; ++j) row[j] = static_cast<A>(logits[j]);
        for (int j = 0; j < W; j += 8) bits |= positive_bits(labels + j) << j;
      } else {
        for (int64_t j = 0; j < width_; ++j) row[j] = static_cast<A>(logits[j]);
        for (int64_t j = width_; j < W; ++j) row[j] = A(0);
        for (int64_t j = 0; j < width_; ++j) bits |= static_cast<uint64_t>(labels[j] > 0) << j;
      }
      positive_[i] = bits;
    }
  }

  // Takes the moments of the rows of this part.
  void take_moments() {
    double sums[W] = {};
    for_blocks([&](int64_t begin, int64_t end) {
      A partial[W] = {};
      for (int64_t i = begin; i < end; ++i) {
        const A* __restrict__ row = values_ + i * W;
        for (int j = 0; j < W; ++j) partial[j] += row[j];
      }
      for (int j = 0; j < W; ++j) sums[j] += partial[j];
    });
    const double rows = static_cast<double>(std::max<int64_t>(a_.rows, 1));
    for (int j = 0; j < W; ++j) mean_[j] = static_cast<A>(sums[j] / rows);

    std::fill(sums, sums + W, 0.0);
    for_blocks([&](int64_t begin, int64_t end) {
      A partial[W] = {};
      for (int64_t i = begin; i < end; ++i) {
        const A* __restrict__ row = values_ + i * W;
        for (int j = 0; j < W; ++j) partial[j] += (row[j] - mean_[j]) * (row[j] - mean_[j]);
      }
      for (int j = 0; j < W; ++j) sums[j] += partial[j];
    });
    int64_t positives[W] = {};
    for (int64_t i = 0; i < a_.rows; ++i) for_positives(i, [&](int j) { ++positives[j]; });
    for (int j = 0; j < W; ++j) {
      count_[j] = static_cast<A>(a_.rows);
      squared_deviations_[j] = static_cast<A>(sums[j]);
      positives_[j] = static_cast<A>(positives[j]);
    }
  }

  // Takes the moments of the whole batch from the parts [parts, 4, columns], in their order.
  void merge_moments() {
    for (int64_t j = 0; j < width_; ++j) {
      const auto merged = math::merge_moments<A>(a_.parts, [&](int64_t part) {
        const A* from = a_.moments + part * math::kPuMomentCount * a_.columns + first_ + j;
        return math::Moments<A>{from[math::kCount * a_.columns], from[math::kMean * a_.columns],
                                from[math::kSquaredDeviations * a_.columns], from[math::kPositiveCount * a_.columns]};
      });
      count_[j] = merged.count;
      mean_[j] = merged.mean;
      squared_deviations_[j] = merged.squared_deviations;
      positives_[j] = merged.positives;
    }
    for (int64_t j = width_; j < W; ++j) count_[j] = A(1);  // classes beyond the last: any finite value
  }

  void write_moments() const {
    A* to = a_.moments_out + first_;
    std::copy_n(count_, width_, to + math::kCount * a_.columns);
    std::copy_n(mean_, width_, to + math::kMean * a_.columns);
    std::copy_n(squared_deviations_, width_, to + math::kSquaredDeviations * a_.columns);
    std::copy_n(positives_, width_, to + math::kPositiveCount * a_.columns);
  }

  // Replaces the logits by packed probabilities and sums those, and the log-probabilities at positives.
  void take_probabilities() {
    A inverse_temperature[W];
    for (int j = 0; j < W; ++j) {
      temperature_[j] = math::pu_temperature(squared_deviations_[j], count_[j], a_.alpha, a_.min_temperature);
      inverse_temperature[j] = A(1) / temperature_[j];
    }
    double sums[W] = {};
    double log_sums[W] = {};
    for_blocks([&](int64_t begin, int64_t end) {
      A partial[W] = {};
      for (int64_t i = begin; i < end; ++i) {
        A* row = values_ + i * W;
        for_positives(i, [&](int j) { log_sums[j] += math::log_sigmoid(row[j] * inverse_temperature[j]); });
        for (int j = 0; j < W; ++j) {
          const auto s = math::sigmoid_pair(row[j] * inverse_temperature[j]);
          partial[j] += s.p;
          row[j] = s.packed;
        }
      }
      for (int j = 0; j < W; ++j) sums[j] += partial[j];
    });
    for (int j = 0; j < W; ++j) probability_sum_[j] = static_cast<A>(sums[j]);
    for (int j = 0; j < W; ++j) log_probability_sum_[j] = static_cast<A>(log_sums[j]);
  }

  void write_sums() const {
    std::copy_n(probability_sum_, width_, a_.sums_out + first_ + math::kProbabilitySum * a_.columns);
    std::copy_n(log_probability_sum_, width_, a_.sums_out + first_ + math::kLogProbabilitySum * a_.columns);
  }

  // Takes the sums of the whole batch, [2, columns].
  void read_sums() {
    std::copy_n(a_.sums + first_ + math::kProbabilitySum * a_.columns, width_, probability_sum_);
    std::copy_n(a_.sums + first_ + math::kLogProbabilitySum * a_.columns, width_, log_probability_sum_);
  }

  // Writes the statistics [5, columns] and, where it is wanted, the gradient [rows, columns].
  void finish() const {
    A unlabelled[W] = {};
    A positive[W] = {};
    for (int64_t j = 0; j < width_; ++j) {
      const auto c = math::pu_class(temperature_[j], count_[j], positives_[j], probability_sum_[j],
                                    log_probability_sum_[j], a_.gamma);
      unlabelled[j] = c.unlabelled * a_.gradient_scale;
      positive[j] = c.positive * a_.gradient_scale;
      A* to = a_.statistics + first_ + j;
      to[math::kPositives * a_.columns] = positives_[j];
      to[math::kTemperature * a_.columns] = c.temperature;
      to[math::kMeanProbability * a_.columns] = c.mean_probability;
      to[math::kWeight * a_.columns] = c.weight;
      to[math::kClassLoss * a_.columns] = c.loss;
    }
    if (a_.gradient == nullptr) return;
    for (int64_t i = 0; i < a_.rows; ++i) {
      const A* __restrict__ row = values_ + i * W;
      S* __restrict__ to = a_.gradient + i * a_.columns + first_;
      if (width_ == W) {
        if (i + kPrefetch < a_.rows) prefetch_row<1>(to + kPrefetch * a_.columns);
#pragma GCC unroll 1  // a narrow tile's loop would be unrolled to scalar code before it is made a vector's
        for (int j = 0; j < W; ++j)
          to[j] = static_cast<S>(math::pu_gradient(math::unpack(row[j]), false, unlabelled[j], A(0)));
      } else {
        for (int64_t j = 0; j < width_; ++j)
          to[j] = static_cast<S>(math::pu_gradient(math::unpack(row[j]), false, unlabelled[j], A(0)));
      }
      for_positives(i, [&](int j) {
        to[j] = static_cast<S>(math::pu_gradient(math::unpack(row[j]), true, unlabelled[j], positive[j]));
      });
    }
  }

 private:
  // Asks for the cache lines of W elements; kWrite is 1 where they will be written.
  template <int kWrite, typename T>
  static void prefetch_row(const T* row) {
    const char* bytes = reinterpret_cast<const char*>(row);
    for (size_t at = 0; at < W * sizeof(T); at += 64) __builtin_prefetch(bytes + at, kWrite);
    __builtin_prefetch(bytes + W * sizeof(T) - 1, kWrite);  // a row that begins within a line ends in one more
  }

  template <typename F>
  void for_blocks(const F& f) const {
    for (int64_t begin = 0; begin < a_.rows; begin += kBlock) f(begin, std::min(begin + kBlock, a_.rows));
  }

  template <typename F>
  void for_positives(int64_t i, const F& f) const {
    for (uint64_t bits = positive_[i]; bits != 0; bits &= bits - 1) f(__builtin_ctzll(bits));
  }

  const PuLossArguments<S, A>& a_;
  const int64_t first_;
  const int64_t width_;
  A* const values_;           // [rows, W]: logits, then packed probabilities
  uint64_t* const positive_;  // [rows]: bit j is set where class first_ + j is labelled positive
  A count_[W] = {};
  A mean_[W] = {};
  A squared_deviations_[W] = {};
  A positives_[W] = {};
  A temperature_[W] = {};
  A probability_sum_[W] = {};
  A log_probability_sum_[W] = {};
};

template <typename S, typename A, int W, typename Work>
void for_tiles(const PuLossArguments<S, A>& arguments, int64_t first, int64_t last, void* scratch, const Work& work) {
  for (int64_t index = first; index < last; ++index) {
    PuLossTile<S, A, W> tile(arguments, index, scratch);
    work(tile);
  }
}

// A kernel does the same work on every tile of a range; Work is a stateless function object.
template <typename S, typename A, typename Work>
void kernel(const PuLossArguments<S, A>& arguments, int64_t tile_width, int64_t first, int64_t last, void* scratch) {
  tile_width == 16 ? for_tiles<S, A, 16>(arguments, first, last, scratch, Work())
                   : for_tiles<S, A, 64>(arguments, first, last, scratch, Work());
}

struct Fused {
  template <typename Tile>
  void operator()(Tile& tile) const {
    tile.read();
    tile.take_moments();
    tile.take_probabilities();
    tile.finish();
  }
};

struct TakeMoments {
  template <typename Tile>
  void operator()(Tile& tile) const {
    tile.read();
    tile.take_moments();
    tile.write_moments();
  }
};

struct TakeProbabilitySums {
  template <typename Tile>
  void operator()(Tile& tile) const {
    tile.read();
    tile.merge_moments();
    tile.take_probabilities();
    tile.write_sums();
  }
};

struct Finish {
  template <typename Tile>
  void operator()(Tile& tile) const {
    tile.read();
    tile.merge_moments();
    tile.take_probabilities();
    tile.read_sums();
    tile.finish();
  }
};

template <typename S, typename A>
constexpr PuLossKernels<S, A> pu_loss_kernels() {
  return {kernel<S, A, Fused>, kernel<S, A, TakeMoments>, kernel<S, A, TakeProbabilitySums>, kernel<S, A, Finish>};
}

}  // namespace pumlc::cpu::PUMLC_ISA
