// The CPU kernels of the large loss (math/large_loss.h), for one instruction set: isa/*.cpp include this file with
// PUMLC_ISA naming a namespace and the compiler's target set.
//
// A chunk is read kEntryBlock entries at a time. Loops run over those, so that the compiler makes vector code of them.
#include <algorithm>
#include <type_traits>

#include "../math/large_loss.h"
#include "large_loss.h"
#include "vector.h"

namespace pumlc::cpu::PUMLC_ISA {

// Entries at a time: what is kept of them stays in the L1 cache, and their sum, in the accumulation type, is short.
constexpr int kEntryBlock = 64;
constexpr int kLossLanes = 16;  // sums that a vector adds to at once, the same in every instruction set
static_assert(kEntryBlock % kLossLanes == 0, "the lanes divide a block");
static_assert(kLargeLossChunk % kEntryBlock == 0, "blocks divide a chunk");

// Histograms side by side, taken in turn: adding twice to one bin would wait for the first to be stored.
constexpr int kHistograms = 2;

// Up to kEntryBlock neighbours in a row, from `first` on.
struct EntryBlock {
  int64_t row;
  int64_t first;
  int64_t width;
};

// Calls work(chunk, block) for every block of the chunks first to last - 1.
template <typename S, typename A, typename Work>
PUMLC_INLINE void for_entry_blocks(const LargeLossArguments<S, A>& a, int64_t first, int64_t last, const Work& work) {
  const int64_t chunks_of_row = (a.columns + kLargeLossChunk - 1) / kLargeLossChunk;
  for (int64_t chunk = first; chunk < last; ++chunk) {
    const int64_t row = chunk / chunks_of_row;
    const int64_t begin = chunk % chunks_of_row * kLargeLossChunk;
    const int64_t end = std::min(begin + kLargeLossChunk, a.columns);
    for (int64_t c = begin; c < end; c += kEntryBlock)
      work(chunk, EntryBlock{row, c, std::min<int64_t>(kEntryBlock, end - c)});
  }
}

// The keys of a block, 0 beyond its end.
template <typename S, typename A>
PUMLC_INLINE void read_keys(const LargeLossArguments<S, A>& a, const EntryBlock& block, math::Bits<S>* keys) {
  const S* __restrict__ logits = a.logits + block.row * a.logits_stride + block.first;
  const int8_t* __restrict__ labels = a.labels + block.row * a.labels_stride + block.first;
  if (block.width == kEntryBlock) {
    for (int j = 0; j < kEntryBlock; ++j) keys[j] = math::selection_key(logits[j], labels[j]);
  } else {
    for (int64_t j = 0; j < block.width; ++j) keys[j] = math::selection_key(logits[j], labels[j]);
    std::fill(keys + block.width, keys + kEntryBlock, math::Bits<S>(0));
  }
}

template <typename S, typename A>
void large_loss_histogram(const LargeLossArguments<S, A>& a, const math::Selection<S>& selection, int shift,
                          int64_t first, int64_t last, int64_t* bins) {
  const auto prefix = static_cast<math::Bits<S>>(selection.prefix);
  const auto mask = static_cast<math::Bits<S>>(selection.mask);
  int64_t histograms[kHistograms][math::kDigits] = {};
  for_entry_blocks(a, first, last, [&](int64_t, const EntryBlock& block) {
    math::Bits<S> keys[kEntryBlock];
    read_keys(a, block, keys);
    if (mask != 0) {  // few keys begin as the one that is sought: often none of a block
      math::Bits<S> found = 0;
      for (int j = 0; j < kEntryBlock; ++j) {
        keys[j] = (keys[j] & mask) == prefix ? keys[j] : math::Bits<S>(0);
        found |= keys[j];
      }
      if (found == 0) return;
    }
    for (int j = 0; j < kEntryBlock; ++j)
      histograms[j % kHistograms][math::digit_of<S>(keys[j], shift)] += keys[j] != 0;
  });
  for (const auto& histogram : histograms)
    for (int digit = 0; digit < math::kDigits; ++digit) bins[digit] += histogram[digit];
}

// The entries of a block, their part of the loss, and their gradient before it is rounded.
template <typename S, typename A>
class LargeLossBlock {
 public:
  LargeLossBlock(const LargeLossArguments<S, A>& a, const EntryBlock& block) : a_(a), block_(block) {
    read(a.logits + block.row * a.logits_stride + block.first, logits_);
    read(a.labels + block.row * a.labels_stride + block.first, labels_);
  }

  // Writes mask and gradient; returns the sum of the losses.
  template <bool kCorrects>
  A finish(A threshold) const {
    const A scale = a_.scale();
    A losses[kEntryBlock];
    A gradients[kEntryBlock];
    A large[kEntryBlock];
    for (int j = 0; j < kEntryBlock; ++j) {
      const auto term = math::large_loss_term<kCorrects>(logits_[j], labels_[j] > A(0), labels_[j] == A(0), threshold);
      losses[j] = term.loss;
      gradients[j] = scale * term.gradient;
      large[j] = term.large;
    }
    const int64_t at = block_.row * a_.columns + block_.first;
    write(large, a_.corrected + at);
    if (a_.gradient != nullptr) write(gradients, a_.gradient + at);
    std::fill(losses + block_.width, losses + kEntryBlock, A(0));
    A sums[kLossLanes] = {};
    for (int j = 0; j < kEntryBlock; j += kLossLanes)
      for (int k = 0; k < kLossLanes; ++k) sums[k] += losses[j + k];
    A sum = A(0);
    for (const A lane : sums) sum += lane;
    return sum;
  }

 private:
  // The block's numbers, and zeros up to kEntryBlock.
  template <typename T>
  void read(const T* __restrict__ from, A* __restrict__ to) const {
    if (block_.width == kEntryBlock) {
      for (int j = 0; j < kEntryBlock; ++j) to[j] = static_cast<A>(from[j]);
    } else {
      for (int64_t j = 0; j < block_.width; ++j) to[j] = static_cast<A>(from[j]);
      std::fill(to + block_.width, to + kEntryBlock, A(0));
    }
  }

  template <typename T>
  void write(const A* __restrict__ from, T* __restrict__ to) const {
    if (block_.width == kEntryBlock) {
      for (int j = 0; j < kEntryBlock; ++j) to[j] = converted<T>(from[j]);
    } else {
      for (int64_t j = 0; j < block_.width; ++j) to[j] = converted<T>(from[j]);
    }
  }

  template <typename T>
  static T converted(A value) {
    if constexpr (std::is_same_v<T, bool>)
      return value != A(0);
    else
      return static_cast<T>(value);
  }

  const LargeLossArguments<S, A>& a_;
  const EntryBlock& block_;
  A logits_[kEntryBlock];
  A labels_[kEntryBlock];
};

template <bool kCorrects, typename S, typename A>
void finish_chunks(const LargeLossArguments<S, A>& a, S threshold, int64_t first, int64_t last, double* chunk_losses) {
  std::fill(chunk_losses + first, chunk_losses + last, 0.0);
  const A least = static_cast<A>(threshold);
  for_entry_blocks(a, first, last, [&](int64_t chunk, const EntryBlock& block) {
    chunk_losses[chunk] += LargeLossBlock<S, A>(a, block).template finish<kCorrects>(least);
  });
}

template <typename S, typename A>
void large_loss_finish(const LargeLossArguments<S, A>& a, S threshold, int64_t first, int64_t last,
                       double* chunk_losses) {
  a.corrects ? finish_chunks<true>(a, threshold, first, last, chunk_losses)
             : finish_chunks<false>(a, threshold, first, last, chunk_losses);
}

template <typename S, typename A>
constexpr LargeLossKernels<S, A> large_loss_kernels() {
  return {large_loss_histogram<S, A>, large_loss_finish<S, A>};
}

}  // namespace pumlc::cpu::PUMLC_ISA
