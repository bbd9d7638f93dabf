// The gated broadcast-add on CUDA: device, stream and workspace for the launchers in gated_broadcast_add.h.
#include "gated_broadcast_add.h"

#include <c10/cuda/CUDAException.h>

#include "../gated_broadcast_add_op.h"
#include "op_device.h"

namespace pumlc::cuda {
namespace {

struct Backend : OpDevice {
  using OpDevice::OpDevice;

  template <typename S, typename A>
  void forward(const GatedBroadcastAddArguments<S, A>& a) const {
    C10_CUDA_CHECK(gated_broadcast_add_forward(a, stream()));
  }

  template <typename S, typename A>
  void backward(const GatedBroadcastAddArguments<S, A>& a) const {
    GatedBroadcastAddParts parts{};
    C10_CUDA_CHECK(gated_broadcast_add_parts(a, &parts));
    const at::Tensor sums = workspace<A>({a.images, parts.splits, a.heads, a.channels});
    const at::Tensor totals = workspace<A>({a.images, parts.splits, a.channels});
    const at::Tensor images = workspace<A>({2, a.images, a.channels});
    at::Tensor dots;
    if (parts.channel_parts > 1) dots = workspace<A>({parts.channel_parts, a.images, a.heads, a.positions});
    const GatedBroadcastAddWorkspace<A> workspace{sums.mutable_data_ptr<A>(), totals.mutable_data_ptr<A>(),
                                                  images.mutable_data_ptr<A>(),
                                                  dots.defined() ? dots.mutable_data_ptr<A>() : nullptr};
    C10_CUDA_CHECK(gated_broadcast_add_backward(a, workspace, stream()));
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CUDA, m) { GatedBroadcastAddOp<Backend>::register_ops(m); }

}  // namespace pumlc::cuda
