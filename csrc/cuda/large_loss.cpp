// The large loss on CUDA: device, stream and workspace for the launcher in large_loss.h.
#include "large_loss.h"

#include <c10/cuda/CUDAException.h>

#include "../large_loss_op.h"
#include "op_device.h"

namespace pumlc::cuda {
namespace {

struct Backend : OpDevice {
  using OpDevice::OpDevice;

  template <typename S, typename A>
  void run(const LargeLossArguments<S, A>& a) const {
    using Workspace = LargeLossWorkspace<S, A>;
    int64_t blocks = 1;
    C10_CUDA_CHECK(large_loss_blocks(a.elements(), &blocks));
    if (blocks == 1) {
      C10_CUDA_CHECK(large_loss(a, blocks, Workspace{}, stream()));
      return;
    }
    const at::Tensor counters = workspace<int>({Workspace::kCounters});
    const at::Tensor selections = workspace<uint8_t>({Workspace::kSelections * int64_t{sizeof(math::Selection<S>)}});
    const at::Tensor partial = workspace<A>({blocks});
    clear(counters);
    const Workspace memory{reinterpret_cast<unsigned*>(counters.mutable_data_ptr<int>()),
                           reinterpret_cast<math::Selection<S>*>(selections.mutable_data_ptr<uint8_t>()),
                           partial.mutable_data_ptr<A>()};
    C10_CUDA_CHECK(large_loss(a, blocks, memory, stream()));
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CUDA, m) { LargeLossOp<Backend>::register_ops(m); }

}  // namespace pumlc::cuda
