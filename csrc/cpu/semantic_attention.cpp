// Semantic attention on the CPU: tiles and slices shared by threads. The maths is in ../math/semantic_attention.h, the
// loops are in semantic_attention_kernel.h.
#include "semantic_attention.h"

#include <ATen/Parallel.h>

#include "../semantic_attention_op.h"
#include "kernels.h"
#include "share.h"

namespace pumlc::cpu {
namespace {

// Hyperbolic tangents below which a second thread costs more than it gives.
constexpr int64_t kGrainTanh = 1 << 15;

struct Backend {
  explicit Backend(const at::Tensor&) {}

  static void clear(const at::Tensor& tensor) { tensor.zero_(); }

  template <typename S, typename A>
  void forward(const SemanticAttentionArguments<S, A>& a) const {
    const SemanticAttentionWork<S, A> work{a, nullptr};
    share<A>(work.tiles(), kTileRows * kTileClasses * a.dimensions, work.forward_scratch(),
             [&](int64_t first, int64_t last, A* scratch) {
               kernels().of<S>().semantic_attention.forward(work, first, last, scratch);
             });
  }

  template <typename S, typename A>
  void backward(const SemanticAttentionArguments<S, A>& a) const {
    const auto upstream = allocate<A>(a.rows() * a.classes);
    const SemanticAttentionWork<S, A> work{a, static_cast<const A*>(upstream.get())};
    at::parallel_for(0, a.rows(), std::max<int64_t>(kGrain / a.classes, 1), [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        A* const to = static_cast<A*>(upstream.get()) + row * a.classes;
        for (int64_t c = 0; c < a.classes; ++c) to[c] = static_cast<A>(a.upstream[a.place(row, c)]);
      }
    });
    share<A>(work.slices(), a.rows() * a.classes * kChannelUnit, work.backward_scratch(),
             [&](int64_t first, int64_t last, A* scratch) {
               kernels().of<S>().semantic_attention.backward(work, first, last, scratch);
             });
  }

 private:
  // Calls kernel(first, last, scratch) for ranges of `count` parts of so many tanh each.
  template <typename A, typename Kernel>
  static void share(int64_t count, int64_t tanh_of_part, int64_t scratch_elements, const Kernel& kernel) {
    at::parallel_for(0, count, std::max<int64_t>(kGrainTanh / tanh_of_part, 1), [&](int64_t first, int64_t last) {
      const auto scratch = allocate<A>(scratch_elements);
      kernel(first, last, static_cast<A*>(scratch.get()));
    });
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CPU, m) { SemanticAttentionOp<Backend>::register_ops(m); }

}  // namespace pumlc::cpu
