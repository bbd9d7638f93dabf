// Small maps, one per head, as the kernels of both devices address them.
#pragma once

#include <cstdint>

#include "math/elementary.h"

namespace pumlc {

// [B, K, H, W] of any strides, seen at every stride-th row and column: position p = i * width + j of those.
template <typename T>
struct HeadMap {
  T* data;
  int64_t image;  // elements between neighbours
  int64_t head;
  int64_t row;     // between neighbouring rows that are seen
  int64_t column;  // between neighbouring columns that are seen
  uint32_t width;  // columns that are seen

  // p < 2^30, so that a GPU divides in 32 bits
  PUMLC_HOST_DEVICE T* at(int64_t b, int64_t k, int64_t p) const {
    const uint32_t i = static_cast<uint32_t>(p) / width;
    const uint32_t j = static_cast<uint32_t>(p) - i * width;
    return data + b * image + k * head + i * row + j * column;
  }
};

}  // namespace pumlc
