// The gated broadcast-add on the CPU: chunks shared by threads. The maths is in ../math/gated_broadcast_add.h, the
// loops are in gated_broadcast_add_kernel.h.
#include "gated_broadcast_add.h"

#include <ATen/Parallel.h>

#include <cstring>

#include "../gated_broadcast_add_op.h"
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

  void clear(const at::Tensor& tensor) const {
    if (tensor.numel() > 0) std::memset(tensor.mutable_data_ptr(), 0, tensor.nbytes());
  }

  template <typename S, typename A>
  void forward(const GatedBroadcastAddArguments<S, A>& a) const {
    const GatedBroadcastAddWork<S, A> work{a, Chunks(a.images, a.positions, a.channels), nullptr, nullptr};
    share_chunks<A>(work.chunks, a, work.scratch(), [&](int64_t first, int64_t last, A* scratch) {
      cpu::kernels().of<S>().gated_broadcast_add.forward(work, first, last, scratch);
    });
  }

  template <typename S, typename A>
  void backward(const GatedBroadcastAddArguments<S, A>& a) const {
    const auto& kernels = cpu::kernels().of<S>().gated_broadcast_add;
    GatedBroadcastAddWork<S, A> work{a, Chunks(a.images, a.positions, a.channels), nullptr, nullptr};
    const auto partial = allocate<A>(work.chunks.count * work.padded_heads() * work.padded_channels());
    const auto partial_totals = allocate<A>(work.chunks.count * work.padded_channels());
    work.partial = static_cast<A*>(partial.get());
    work.partial_totals = static_cast<A*>(partial_totals.get());
    share_chunks<A>(work.chunks, a, work.scratch(),
                    [&](int64_t first, int64_t last, A* scratch) { kernels.backward(work, first, last, scratch); });
    const int64_t grain = std::max<int64_t>(kGrain / (work.chunks.count * work.padded_heads() * kChannelUnit), 1);
    at::parallel_for(0, work.padded_channels() / kChannelUnit, grain,
                     [&](int64_t first, int64_t last) { kernels.finish(work, first, last); });
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CPU, m) { GatedBroadcastAddOp<Backend>::register_ops(m); }

}  // namespace pumlc::cpu
