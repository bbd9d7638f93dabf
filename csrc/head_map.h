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
  int64_t width;   // columns that are seen

  PUMLC_HOST_DEVICE T* at(int64_t b, int64_t k, int64_t p) const {
    return data + b * image + k * head + p / width * row + p % width * column;
  }
};

}  // namespace pumlc
