// While the emulator is in use, torch's CPU tensors lie in memory that it watches.
#include <c10/core/CPUAllocator.h>

#include <cstring>

#include "emulator.h"

namespace pumlc::emulator {
namespace {

class WatchedAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    void* address = size == 0 ? nullptr : emulator::allocate(size);
    TORCH_CHECK(size == 0 || address != nullptr, "no memory for ", size, " bytes");
    return {address, address, &give_back, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, size_t size) const override { std::memcpy(to, from, size); }

 private:
  static void give_back(void* address) {
    if (address != nullptr) release(address);
  }
};

WatchedAllocator watched;
c10::Allocator* usual = nullptr;
constexpr uint8_t kPriority = 100;  // torch's own has 0; once set, only as high a one replaces it

}  // namespace
}  // namespace pumlc::emulator

extern "C" __attribute__((visibility("default"))) void pumlc_emulator_watch_memory(int on) {
  using namespace pumlc::emulator;
  if (on) {
    usual = c10::GetCPUAllocator();
    c10::SetCPUAllocator(&watched, kPriority);
  } else {
    c10::SetCPUAllocator(usual, kPriority);
  }
}

// multiprocessors, bytes of shared memory that a block can have, seed of the order of blocks and threads (0: natural)
extern "C" __attribute__((visibility("default"))) void pumlc_emulator_set_device(int multiprocessors, int shared_memory,
                                                                                 uint64_t order) {
  pumlc::emulator::device = {multiprocessors, shared_memory, order};
}
