// What the two halves of the emulator know of each other: scheduler.cpp runs threads, memory.cpp watches what they
// touch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "include/cuda_runtime.h"

#if defined(PUMLC_EMULATOR_ASAN)
extern "C" void __asan_poison_memory_region(const volatile void* address, size_t size);
extern "C" void __asan_unpoison_memory_region(const volatile void* address, size_t size);
constexpr bool kEveryAccessIsSeen = false;  // by memory.cpp: atomics alone, for AddressSanitizer sees the rest
#else                                       // memory.cpp has checks of its own
constexpr bool kEveryAccessIsSeen = true;
inline void __asan_poison_memory_region(const volatile void*, size_t) {}
inline void __asan_unpoison_memory_region(const volatile void*, size_t) {}
#endif

namespace pumlc::emulator {

constexpr int kWarpSize = 32;
constexpr size_t kMaxDynamicShared = 256 * 1024;
constexpr size_t kRedZone = 256;  // bytes around every allocation that nothing may touch

// The emulated GPU; the default is an H200.
struct Device {
  int multiprocessors = 132;
  int shared_memory = 227 * 1024;  // that a block can have
  uint64_t order = 0;              // seed of the order that blocks and threads run in; 0: the natural one
};
extern Device device;

// One CUDA thread as the race check sees it. Two accesses in one phase (between two barriers) of a block are in order
// only within one warp: lane a's clock at its access must have reached lane b, by __syncwarp, before b's access.
struct Thread {
  int index = 0;  // in the block
  uint16_t clocks[kWarpSize] = {};
  const char* stack = nullptr;
  int lane() const { return index % kWarpSize; }
  int warp() const { return index / kWarpSize; }
};

constexpr size_t kStackSize = 256 * 1024;

// The thread that is running, or null on the host.
const Thread* running_thread();

// Ends the launch with an error that names the running thread. From a kernel it does not return.
void fail(const std::string& message);

// ---- memory.cpp

void begin_launch();
void begin_block(size_t dynamic_shared);  // poisons shared memory
void begin_phase();                       // after a barrier
// A load or store of the running thread; `code` is where it stands. Accesses of the host are let pass.
void check_access(const void* pointer, size_t size, bool write, bool atomic, bool aligned, const void* code);
void write_by_runtime(const void* address, size_t size);
// Ops may not end with memory that they allocated and did not write: an empty string, or what is wrong.
void begin_op();
std::string end_op();

void* allocate(size_t size);
void release(void* address);

// "file.cu:12" for an address of code, with the lines that it was inlined from.
std::string place_of_code(const void* code);

}  // namespace pumlc::emulator
