// The mixup regulariser on CUDA: device, stream and workspace for the launcher in mixup_consistency.h.
#include "mixup_consistency.h"

#include <c10/cuda/CUDAException.h>

#include "../mixup_consistency_op.h"
#include "op_device.h"

namespace pumlc::cuda {
namespace {

struct Backend : OpDevice {
  using OpDevice::OpDevice;

  template <typename S, typename A>
  void run(const MixupConsistencyArguments<S, A>& a) const {
    int64_t blocks = 1;
    C10_CUDA_CHECK(mixup_consistency_blocks(a.pairs(), a.columns, &blocks));
    const at::Tensor partial = workspace<A>({blocks});
    const at::Tensor ticket = workspace<int>({1});
    C10_CUDA_CHECK(mixup_consistency(a, blocks, partial.mutable_data_ptr<A>(),
                                     reinterpret_cast<unsigned*>(ticket.mutable_data_ptr<int>()), stream()));
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CUDA, m) { MixupConsistencyOp<Backend>::register_ops(m); }

}  // namespace pumlc::cuda
