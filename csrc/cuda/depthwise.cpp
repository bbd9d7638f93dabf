// Depthwise convolution on CUDA: device, stream and workspace for the launchers in depthwise.h.
#include "depthwise.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "../depthwise_op.h"

namespace pumlc::cuda {
namespace {

class Backend {
 public:
  explicit Backend(const at::Tensor& tensor) : device_(tensor.device()), guard_(tensor.device()) {}

  static at::Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) { return at::empty(shape, options); }

  template <typename S, typename A>
  void forward(const DepthwiseArguments<S, A>& a) const {
    C10_CUDA_CHECK(depthwise_forward(a, stream()));
  }

  template <typename S, typename A>
  void backward(const DepthwiseArguments<S, A>& a) const {
    DepthwisePlan plan;
    C10_CUDA_CHECK(depthwise_plan(a, &plan));
    if (a.dx != nullptr || a.dweight != nullptr) {
      const int64_t taps = int64_t{a.kernel_size} * a.kernel_size;
      const at::Tensor parts = workspace<A>({a.dweight != nullptr ? plan.parts : 0, taps, a.channels});
      C10_CUDA_CHECK(depthwise_backward(a, plan, parts.mutable_data_ptr<A>(), stream()));
    }
    if (a.dshift != nullptr) {
      const at::Tensor parts = workspace<A>({2 * a.batch * plan.chunks + a.batch, a.channels});
      C10_CUDA_CHECK(depthwise_global_backward(a, plan, parts.mutable_data_ptr<A>(), stream()));
    }
  }

 private:
  static cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream(); }

  // From torch's caching allocator: freed in stream order, so it may go out of scope after the launch.
  template <typename T>
  at::Tensor workspace(at::IntArrayRef shape) const {
    return at::empty(shape, at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value).device(device_));
  }

  c10::Device device_;
  c10::cuda::CUDAGuard guard_;
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CUDA, m) { DepthwiseOp<Backend>::register_ops(m); }

}  // namespace pumlc::cuda
