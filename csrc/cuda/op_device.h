// Where an op runs: its device made current, that device's stream, workspace there.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace pumlc::cuda {

class OpDevice {
 public:
  explicit OpDevice(const at::Tensor& tensor) : device_(tensor.device()), guard_(tensor.device()) {}

  static at::Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) { return at::empty(shape, options); }

  // Fills a tensor with zeros.
  void clear(const at::Tensor& tensor) const {
    if (tensor.numel() > 0) C10_CUDA_CHECK(cudaMemsetAsync(tensor.mutable_data_ptr(), 0, tensor.nbytes(), stream()));
  }

 protected:
  static cudaStream_t stream() { return c10::cuda::getCurrentCUDAStream(); }

  // From torch's caching allocator: freed in stream order, so it may go out of scope after the launch.
  template <typename T>
  at::Tensor workspace(at::IntArrayRef shape) const {
    return at::empty(shape, at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value).device(device_));
  }

 private:
  c10::Device device_;
  c10::cuda::CUDAGuard guard_;
};

}  // namespace pumlc::cuda
