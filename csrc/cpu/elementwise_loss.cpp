// The elementwise losses on the CPU: chunks shared by threads. The maths is in ../math/elementwise_loss.h, the loops
// are in elementwise_loss_kernel.h.
#include "elementwise_loss.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "../elementwise_loss_op.h"
#include "huge_pages.h"
#include "kernels.h"

namespace pumlc::cpu {
namespace {

// Elements below which a second thread costs more than it gives.
constexpr int64_t kGrain = 1 << 13;

struct Backend {
  explicit Backend(const at::Tensor&) {}

  static at::Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) {
    return empty_for_writing(shape, options);
  }

  template <typename S, typename A, typename Loss>
  void run(const ElementwiseLossArguments<S, A>& a, const Loss& loss) const {
    const auto kernel = kernels().of<S>().elementwise_loss.of(loss);
    std::vector<double> sums(a.rows * chunks_of_row(a));
    const int64_t elements = std::min(a.columns, kLossChunk);
    at::parallel_for(0, static_cast<int64_t>(sums.size()), std::max<int64_t>(kGrain / elements, 1),
                     [&](int64_t first, int64_t last) { kernel(a, loss, first, last, sums.data()); });
    double sum = 0.0;  // in the order of the chunks, so that no thread count changes it
    for (const double of_chunk : sums) sum += of_chunk;
    *a.loss = static_cast<A>(sum / a.divisor);
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CPU, m) { ElementwiseLossOp<Backend>::register_ops(m); }

}  // namespace pumlc::cpu
