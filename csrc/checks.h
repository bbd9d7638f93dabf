// Checks at the border of the ops. Each message names the argument, what it got and what it wanted.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <type_traits>

namespace pumlc {

// logits [B, C]
inline void check_logits(const at::Tensor& logits) {
  TORCH_CHECK_VALUE(logits.dim() == 2, "logits: got shape ", logits.sizes(), ", wanted [B, C]");
  const auto dtype = logits.scalar_type();
  TORCH_CHECK_TYPE(dtype == at::kDouble || dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
                   "logits: got dtype ", dtype, ", wanted float64, float32, bfloat16 or float16");
}

// labels [B, C] int8, beside logits [B, C]
inline void check_labels(const at::Tensor& labels, const at::Tensor& logits) {
  TORCH_CHECK_VALUE(labels.device() == logits.device(), "labels: got device ", labels.device(),
                    ", wanted that of logits, ", logits.device());
  TORCH_CHECK_VALUE(labels.sizes() == logits.sizes(), "labels: got shape ", labels.sizes(), ", wanted that of logits, ",
                    logits.sizes());
  TORCH_CHECK_TYPE(labels.scalar_type() == at::kChar, "labels: got dtype ", labels.scalar_type(), ", wanted int8");
}

// logits [B, C]
inline void check_not_empty(const at::Tensor& logits) {
  TORCH_CHECK_VALUE(logits.numel() > 0, "logits: got shape ", logits.sizes(),
                    ", wanted at least one row and one class: the statistics of an empty batch are undefined");
}

// tensor [...] of the given shape and dtype, on the device of logits
inline void check_like(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, at::ScalarType dtype,
                       const at::Tensor& logits) {
  TORCH_CHECK_VALUE(tensor.device() == logits.device(), name, ": got device ", tensor.device(),
                    ", wanted that of logits, ", logits.device());
  TORCH_CHECK_VALUE(tensor.sizes() == shape, name, ": got shape ", tensor.sizes(), ", wanted ", shape);
  TORCH_CHECK_TYPE(tensor.scalar_type() == dtype, name, ": got dtype ", tensor.scalar_type(), ", wanted ", dtype);
}

inline void check_temperature(double alpha, double min_temperature) {
  TORCH_CHECK_VALUE(alpha >= 0.0, "alpha: got ", alpha, ", wanted at least 0");
  TORCH_CHECK_VALUE(min_temperature > 0.0 && min_temperature <= 1.0, "min_temperature: got ", min_temperature,
                    ", wanted more than 0 and at most 1");
}

// The dtype that sums are taken and statistics given in.
inline at::ScalarType accumulation_type(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}
template <typename S>
using Accumulation = std::conditional_t<std::is_same_v<S, double>, double, float>;

// tensor [B, C] with unit stride between columns, as the kernels read it; a copy only where it is laid out otherwise.
inline at::Tensor with_unit_columns(const at::Tensor& tensor) {
  return tensor.stride(1) == 1 || tensor.size(1) == 1 ? tensor : tensor.contiguous();
}

// ---- feature maps

// tensor [...]
inline void check_floating(const char* name, const at::Tensor& tensor) {
  const auto dtype = tensor.scalar_type();
  TORCH_CHECK_TYPE(dtype == at::kDouble || dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf, name,
                   ": got dtype ", dtype, ", wanted float64, float32, bfloat16 or float16");
}

// map [B, C, H, W]
inline void check_feature_map(const char* name, const at::Tensor& map) {
  TORCH_CHECK_VALUE(map.dim() == 4 && map.size(1) > 0 && map.size(2) > 0 && map.size(3) > 0, name, ": got shape ",
                    map.sizes(), ", wanted [B, C, H, W] with at least one channel and one position");
  TORCH_CHECK_VALUE(map.size(2) * map.size(3) < (int64_t{1} << 30), name, ": got shape ", map.sizes(),
                    ", wanted fewer than 2^30 positions");
  check_floating(name, map);
}

// tensor [...], beside the argument `other_name`
inline void check_same_device(const char* name, const at::Tensor& tensor, const char* other_name,
                              const at::Tensor& other) {
  TORCH_CHECK_VALUE(tensor.device() == other.device(), name, ": got device ", tensor.device(), ", wanted that of ",
                    other_name, ", ", other.device());
}

// tensor [...]
inline void check_dtype(const char* name, const at::Tensor& tensor, at::ScalarType dtype) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == dtype, name, ": got dtype ", tensor.scalar_type(), ", wanted ", dtype);
}

// tensor [...] of the given shape and dtype, beside the argument `other_name`
inline void check_beside(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, at::ScalarType dtype,
                         const char* other_name, const at::Tensor& other) {
  check_same_device(name, tensor, other_name, other);
  TORCH_CHECK_VALUE(tensor.sizes() == shape, name, ": got shape ", tensor.sizes(), ", wanted ", shape, " beside ",
                    other_name, ", ", other.sizes());
  check_dtype(name, tensor, dtype);
}

}  // namespace pumlc
