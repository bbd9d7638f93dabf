// Feature maps as the kernels read them.
#pragma once

#include <ATen/core/Tensor.h>

#include "head_map.h"

namespace pumlc {

// map [B, C, H, W] with its channels side by side; a copy only where it is laid out otherwise.
inline at::Tensor as_feature_map(const at::Tensor& map) { return map.contiguous(at::MemoryFormat::ChannelsLast); }

// Options for a tensor [B, C, H, W] of the dtype and device of another, with its channels side by side.
inline at::TensorOptions as_channels_last(const at::Tensor& tensor) {
  return tensor.options().memory_format(at::MemoryFormat::ChannelsLast);
}

// map [B, K, H, W] of any strides, whose elements begin at data, seen at every stride-th position
template <typename T>
HeadMap<T> head_map(T* data, const at::Tensor& map, int64_t stride) {
  return {data,
          map.stride(0),
          map.stride(1),
          map.stride(2) * stride,
          map.stride(3) * stride,
          static_cast<uint32_t>((map.size(3) + stride - 1) / stride)};
}

}  // namespace pumlc
