// The emulator's, in place of torch's: an op holds one while it allocates and launches. At its end everything that the
// op allocated and still has, its outputs, must be written.
#pragma once

#include <c10/core/Device.h>
#include <c10/util/Exception.h>

#include <exception>
#include <string>

namespace pumlc::emulator {
void begin_op();
std::string end_op();
}  // namespace pumlc::emulator

namespace c10::cuda {

struct CUDAGuard {
  explicit CUDAGuard(c10::Device) { pumlc::emulator::begin_op(); }
  ~CUDAGuard() noexcept(false) {
    const std::string complaint = pumlc::emulator::end_op();
    TORCH_CHECK(complaint.empty() || std::uncaught_exceptions() > 0, "emulated kernel: ", complaint);
  }
  CUDAGuard(const CUDAGuard&) = delete;
  CUDAGuard& operator=(const CUDAGuard&) = delete;
};

}  // namespace c10::cuda
