// The emulator's, in place of torch's: errors of emulated launches.
#pragma once

#include <c10/util/Exception.h>

#include "../../cuda_runtime.h"

#define C10_CUDA_CHECK(call)                                                                           \
  do {                                                                                                 \
    const cudaError_t error_of_call = (call);                                                          \
    TORCH_CHECK(error_of_call == cudaSuccess, "emulated kernel: ", cudaGetErrorString(error_of_call)); \
  } while (false)
