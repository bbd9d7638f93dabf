// The PU loss on CUDA: device, stream and workspace for the launchers in pu_loss.h.
#include "pu_loss.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "../pu_loss_op.h"

namespace pumlc::cuda {
namespace {

class Backend {
 public:
  explicit Backend(const at::Tensor& tensor) : device_(tensor.device()), guard_(tensor.device()) {}

  static at::Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) { return at::empty(shape, options); }

  template <typename S, typename A>
  void fused(const PuLossArguments<S, A>& a) const {
    const at::Tensor ticket = workspace<int>({1});
    bool fits = false;
    C10_CUDA_CHECK(pu_loss_fused(a, counter(ticket), &fits, stream()));
    if (fits) return;
    const at::Tensor moments_of_all = workspace<A>({math::kPuMomentCount, a.columns});
    const at::Tensor sums_of_all = workspace<A>({math::kPuSumCount, a.columns});
    PuLossArguments<S, A> phase = a;
    phase.moments_out = moments_of_all.mutable_data_ptr<A>();
    moments(phase);
    phase.moments = phase.moments_out;
    phase.parts = 1;
    phase.sums_out = sums_of_all.mutable_data_ptr<A>();
    probability_sums(phase);
    phase.sums = phase.sums_out;
    finish(phase);
  }

  template <typename S, typename A>
  void moments(const PuLossArguments<S, A>& a) const {
    const int64_t parts = splits(a);
    const at::Tensor partial = workspace<A>({parts, math::kPuMomentCount, a.columns});
    C10_CUDA_CHECK(pu_loss_moments(a, parts, partial.mutable_data_ptr<A>(), stream()));
  }

  template <typename S, typename A>
  void probability_sums(const PuLossArguments<S, A>& a) const {
    const int64_t parts = splits(a);
    const at::Tensor partial = workspace<A>({parts, math::kPuSumCount, a.columns});
    C10_CUDA_CHECK(pu_loss_probability_sums(a, parts, partial.mutable_data_ptr<A>(), stream()));
  }

  template <typename S, typename A>
  void finish(const PuLossArguments<S, A>& a) const {
    const at::Tensor ticket = workspace<int>({1});
    C10_CUDA_CHECK(pu_loss_finish(a, splits(a), counter(ticket), stream()));
  }

 private:
  static cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream(); }

  // From torch's caching allocator: freed in stream order, so it may go out of scope after the launch.
  template <typename T>
  at::Tensor workspace(at::IntArrayRef shape) const {
    return at::empty(shape, at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value).device(device_));
  }

  static unsigned* counter(const at::Tensor& ticket) {
    return reinterpret_cast<unsigned*>(ticket.mutable_data_ptr<int>());
  }

  template <typename S, typename A>
  static int64_t splits(const PuLossArguments<S, A>& a) {
    int64_t result = 1;
    C10_CUDA_CHECK(pu_loss_splits(a.rows, a.columns, &result));
    return result;
  }

  c10::Device device_;
  c10::cuda::CUDAGuard guard_;
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CUDA, m) { PuLossOp<Backend>::register_ops(m); }

}  // namespace pumlc::cuda
