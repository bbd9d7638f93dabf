// The mixup regulariser on the CPU: pairs shared by threads. The maths is in ../math/mixup_consistency.h, the loops are
// in mixup_consistency_kernel.h.
#include "mixup_consistency.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "../mixup_consistency_op.h"
#include "huge_pages.h"
#include "kernels.h"

namespace pumlc::cpu {
namespace {

// Classes of pairs below which a second thread costs more than it gives.
constexpr int64_t kGrain = 1 << 11;

struct Backend {
  explicit Backend(const at::Tensor&) {}

  static at::Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) {
    return empty_for_writing(shape, options);
  }

  template <typename S, typename A>
  void run(const MixupConsistencyArguments<S, A>& a) const {
    const auto kernel = kernels().of<S>().mixup_consistency.run;
    std::vector<double> pair_losses(a.pairs());
    at::parallel_for(0, a.pairs(), std::max<int64_t>(kGrain / a.columns, 1),
                     [&](int64_t first, int64_t last) { kernel(a, first, last, pair_losses.data()); });
    double sum = 0.0;  // in the order of the pairs, so that no thread count changes it
    for (const double loss : pair_losses) sum += loss;
    *a.loss = static_cast<A>(sum / static_cast<double>(a.pairs()));
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CPU, m) { MixupConsistencyOp<Backend>::register_ops(m); }

}  // namespace pumlc::cpu
