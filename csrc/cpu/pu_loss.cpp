// The PU loss on the CPU: tiles shared by threads. The maths is in ../math/pu_loss.h, the loops are in
// pu_loss_kernel.h.
#include "pu_loss.h"

#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>

#include "../pu_loss_op.h"
#include "huge_pages.h"
#include "kernels.h"

namespace pumlc::cpu {
namespace {

// Narrow tiles let threads share few classes; wide ones read a long row in fewer pieces.
constexpr int64_t kNarrow = 16;
constexpr int64_t kWide = 64;
constexpr int64_t kClassesForWide = 512;
constexpr int64_t kRowsForWide = 2048;  // a wide float tile of more rows would leave the L2 cache
// Elements below which a second thread costs more than it gives.
constexpr int64_t kGrain = 1 << 13;

struct Backend {
  explicit Backend(const at::Tensor&) {}

  static at::Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) {
    return empty_for_writing(shape, options);
  }

  template <typename S, typename A>
  void fused(const PuLossArguments<S, A>& a) const {
    run(a, kernels().of<S>().pu_loss.fused);
    sum_class_losses(a);
  }

  template <typename S, typename A>
  void moments(const PuLossArguments<S, A>& a) const {
    run(a, kernels().of<S>().pu_loss.moments);
  }

  template <typename S, typename A>
  void probability_sums(const PuLossArguments<S, A>& a) const {
    run(a, kernels().of<S>().pu_loss.probability_sums);
  }

  template <typename S, typename A>
  void finish(const PuLossArguments<S, A>& a) const {
    run(a, kernels().of<S>().pu_loss.finish);
    sum_class_losses(a);
  }

 private:
  template <typename S, typename A>
  static void run(const PuLossArguments<S, A>& a, typename PuLossKernels<S, A>::Kernel kernel) {
    const int64_t width = a.columns >= kClassesForWide && a.rows <= kRowsForWide ? kWide : kNarrow;
    const int64_t tiles = (a.columns + width - 1) / width;
    const int64_t tile_elements = std::max<int64_t>(a.rows * width, 1);
    at::parallel_for(0, tiles, std::max<int64_t>(kGrain / tile_elements, 1), [&](int64_t first, int64_t last) {
      const auto scratch = c10::GetCPUAllocator()->allocate(a.rows * (width * sizeof(A) + sizeof(uint64_t)));
      kernel(a, width, first, last, scratch.get());
    });
  }

  // In double and in the order of the classes, so that no thread count changes it.
  template <typename S, typename A>
  static void sum_class_losses(const PuLossArguments<S, A>& a) {
    double sum = 0.0;
    for (int64_t c = 0; c < a.columns; ++c) sum += a.statistics[math::kClassLoss * a.columns + c];
    *a.loss = static_cast<A>(sum);
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CPU, m) { PuLossOp<Backend>::register_ops(m); }

}  // namespace pumlc::cpu
