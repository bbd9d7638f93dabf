// The elementwise losses on CUDA: device, stream and workspace for the launcher in elementwise_loss.h.
#include "elementwise_loss.h"

#include <c10/cuda/CUDAException.h>

#include "../elementwise_loss_op.h"
#include "op_device.h"

namespace pumlc::cuda {
namespace {

struct Backend : OpDevice {
  using OpDevice::OpDevice;

  template <typename S, typename A, typename Loss>
  void run(const ElementwiseLossArguments<S, A>& a, const Loss& loss) const {
    int64_t blocks = 1;
    C10_CUDA_CHECK(elementwise_loss_blocks(a.rows * a.columns, &blocks));
    const at::Tensor partial = workspace<double>({blocks});
    const at::Tensor ticket = workspace<int>({1});
    C10_CUDA_CHECK(elementwise_loss(a, loss, blocks, partial.mutable_data_ptr<double>(),
                                    reinterpret_cast<unsigned*>(ticket.mutable_data_ptr<int>()), stream()));
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CUDA, m) { ElementwiseLossOp<Backend>::register_ops(m); }

}  // namespace pumlc::cuda
