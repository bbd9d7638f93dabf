// The emulator's, in place of torch's: there is one stream, and a launch has ended when it returns.
#pragma once

#include "../../cuda_runtime.h"

namespace c10::cuda {

struct CUDAStream {
  operator cudaStream_t() const { return nullptr; }
};
inline CUDAStream getCurrentCUDAStream() { return {}; }

}  // namespace c10::cuda
