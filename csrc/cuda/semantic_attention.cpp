// Semantic attention on CUDA: device, stream and workspace for the launchers in semantic_attention.h.
#include "semantic_attention.h"

#include <c10/cuda/CUDAException.h>

#include "../semantic_attention_op.h"
#include "op_device.h"

namespace pumlc::cuda {
namespace {

struct Backend : OpDevice {
  using OpDevice::OpDevice;

  template <typename S, typename A>
  void forward(const SemanticAttentionArguments<S, A>& a) const {
    C10_CUDA_CHECK(semantic_attention_forward(a, stream()));
  }

  template <typename S, typename A>
  void backward(const SemanticAttentionArguments<S, A>& a) const {
    int64_t splits = 0;
    C10_CUDA_CHECK(semantic_attention_splits(a.rows(), a.classes, a.dimensions, sizeof(A), &splits));
    const at::Tensor partial = workspace<A>({splits, a.classes + 1, a.dimensions});
    C10_CUDA_CHECK(semantic_attention_backward(a, splits, partial.mutable_data_ptr<A>(), stream()));
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CUDA, m) { SemanticAttentionOp<Backend>::register_ops(m); }

}  // namespace pumlc::cuda
