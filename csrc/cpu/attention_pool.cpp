// Attention pooling on the CPU: chunks shared by threads. The maths is in ../math/attention_pool.h, the loops are in
// attention_pool_kernel.h.
#include "attention_pool.h"

#include <ATen/Parallel.h>

#include "../attention_pool_op.h"
#include "huge_pages.h"
#include "kernels.h"
#include "share.h"

namespace pumlc::cpu {
namespace {

struct Backend {
  explicit Backend(const at::Tensor&) {}

  static at::Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) {
    return empty_for_writing(shape, options);
  }

  template <typename S, typename A>
  void forward(const AttentionPoolArguments<S, A>& a) const {
    const auto& kernels = cpu::kernels().of<S>().attention_pool;
    AttentionPoolWork<S, A> work{a, Chunks(a.images, a.positions, a.channels), nullptr, nullptr};
    const auto partial = allocate<A>(work.chunks.count * work.padded_heads() * work.padded_channels());
    const auto partial_statistics = allocate<A>(work.chunks.count * kSoftmaxStatisticCount * work.padded_heads());
    work.partial = static_cast<A*>(partial.get());
    work.partial_statistics = static_cast<A*>(partial_statistics.get());
    share_chunks<A>(work.chunks, a, work.forward_scratch(),
                    [&](int64_t first, int64_t last, A* scratch) { kernels.forward(work, first, last, scratch); });
    const int64_t grain = std::max<int64_t>(kGrain / (work.chunks.per_image * a.channels), 1);
    at::parallel_for(0, a.images * a.heads, grain,
                     [&](int64_t first, int64_t last) { kernels.finish(work, first, last); });
  }

  template <typename S, typename A>
  void backward(const AttentionPoolArguments<S, A>& a) const {
    const AttentionPoolWork<S, A> work{a, Chunks(a.images, a.positions, a.channels), nullptr, nullptr};
    share_chunks<A>(work.chunks, a, work.backward_scratch(), [&](int64_t first, int64_t last, A* scratch) {
      cpu::kernels().of<S>().attention_pool.backward(work, first, last, scratch);
    });
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CPU, m) { AttentionPoolOp<Backend>::register_ops(m); }

}  // namespace pumlc::cpu
