// The large loss on the CPU: chunks shared by threads. The maths is in ../math/large_loss.h, the loops are in
// large_loss_kernel.h.
#include "large_loss.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "../large_loss_op.h"
#include "huge_pages.h"
#include "kernels.h"

namespace pumlc::cpu {
namespace {

// Entries below which a second thread costs more than it gives.
constexpr int64_t kGrain = 1 << 15;

struct Backend {
  explicit Backend(const at::Tensor&) {}

  static at::Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) {
    return empty_for_writing(shape, options);
  }

  template <typename S, typename A>
  void run(const LargeLossArguments<S, A>& a) const {
    const S threshold = a.k > 0 ? find(a).threshold() : math::no_threshold<S>();
    const auto finish = kernels().of<S>().large_loss.finish;
    std::vector<double> chunk_losses(chunks(a));
    share(a, [&](int64_t first, int64_t last) { finish(a, threshold, first, last, chunk_losses.data()); });
    double sum = 0.0;  // in the order of the chunks, so that no thread count changes it
    for (const double loss : chunk_losses) sum += loss;
    *a.loss = static_cast<A>(sum / static_cast<double>(a.elements()));
  }

 private:
  template <typename S, typename A>
  static int64_t chunks(const LargeLossArguments<S, A>& a) {
    return a.rows * ((a.columns + kLargeLossChunk - 1) / kLargeLossChunk);
  }

  template <typename S, typename A, typename Work>
  static void share(const LargeLossArguments<S, A>& a, const Work& work) {
    at::parallel_for(0, chunks(a), std::max<int64_t>(kGrain / std::min(a.columns, kLargeLossChunk), 1), work);
  }

  // The k-th largest key, digit by digit.
  template <typename S, typename A>
  static math::Selection<S> find(const LargeLossArguments<S, A>& a) {
    const auto histogram = kernels().of<S>().large_loss.histogram;
    auto selection = math::select_largest<S>(a.k);
    for (int pass = 0; pass < math::kDigitPasses<S> && !selection.is_found; ++pass) {
      const int shift = math::digit_shift<S>(pass);
      std::vector<int64_t> bins(math::kDigits);
      std::mutex adding;
      share(a, [&](int64_t first, int64_t last) {
        std::vector<int64_t> own(math::kDigits);
        histogram(a, selection, shift, first, last, own.data());
        const std::lock_guard lock(adding);
        for (int digit = 0; digit < math::kDigits; ++digit) bins[digit] += own[digit];
      });
      descend(bins, shift, selection);
    }
    return selection;
  }

  template <typename S>
  static void descend(const std::vector<int64_t>& bins, int shift, math::Selection<S>& selection) {
    int64_t above = 0;
    for (int digit = math::kDigits - 1; digit >= 0; --digit) {
      if (above + bins[digit] >= selection.rank) return selection.refine(digit, shift, above, bins[digit]);
      above += bins[digit];
    }
    selection.take_all();
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CPU, m) { LargeLossOp<Backend>::register_ops(m); }

}  // namespace pumlc::cpu
