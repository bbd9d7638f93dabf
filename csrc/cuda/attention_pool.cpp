// Attention pooling on CUDA: device, stream and workspace for the launchers in attention_pool.h.
#include "attention_pool.h"

#include <c10/cuda/CUDAException.h>

#include "../attention_pool_op.h"
#include "op_device.h"

namespace pumlc::cuda {
namespace {

struct Backend : OpDevice {
  using OpDevice::OpDevice;

  template <typename S, typename A>
  void forward(const AttentionPoolArguments<S, A>& a) const {
    int64_t splits = 0;
    C10_CUDA_CHECK(attention_pool_splits(a, &splits));
    const at::Tensor partial = workspace<A>({a.images, splits, a.heads, a.channels});
    const at::Tensor statistics = workspace<A>({a.images, splits, kSoftmaxStatisticCount, a.heads});
    C10_CUDA_CHECK(
        attention_pool_forward(a, partial.mutable_data_ptr<A>(), statistics.mutable_data_ptr<A>(), stream()));
  }

  template <typename S, typename A>
  void backward(const AttentionPoolArguments<S, A>& a) const {
    C10_CUDA_CHECK(attention_pool_backward(a, stream()));
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CUDA, m) { AttentionPoolOp<Backend>::register_ops(m); }

}  // namespace pumlc::cuda
