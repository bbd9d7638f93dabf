// Threads of a block as fibers (ucontext), blocks one after the other. A thread runs until it waits at a barrier or for
// its warp; when none can run, either all that live wait at one barrier, which opens, or the launch fails and says
// who waits where.
#include <cxxabi.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "emulator.h"

#if defined(PUMLC_EMULATOR_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace pumlc::emulator {

Device device;

namespace {

enum class State { kReady, kAtBarrier, kInWarpCall, kReturned };

struct Fiber : Thread {
  ucontext_t context;
  State state = State::kReturned;
  uint3 position = {};
  WarpCall call = {};  // that it waits in; of a barrier, where that stands
  uint64_t result = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

struct Run {
  void (*thread)(const void*) = nullptr;
  const void* argument = nullptr;
  dim3 grid;
  dim3 block;
  uint3 block_position = {};
  std::string failure;
  ucontext_t scheduler;
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  size_t scheduler_stack_size = 0;
  Fiber* current = nullptr;
  std::vector<Fiber*> fibers;  // of the block, by index
};
Run run;
std::string last_failure;
std::map<const void*, int> allowed_shared_memory;

std::string text(const uint3& p) {
  return "(" + std::to_string(p.x) + ", " + std::to_string(p.y) + ", " + std::to_string(p.z) + ")";
}

std::string place(const char* file, int line) {
  const std::string path = file;
  return path.substr(path.find_last_of('/') + 1) + ":" + std::to_string(line);
}

std::string hex(unsigned mask) {
  char buffer[16];
  std::snprintf(buffer, sizeof(buffer), "0x%08x", mask);
  return buffer;
}

// ---- switching between the scheduler and the fibers

void enter(Fiber& fiber) {
  run.current = &fiber;
#if defined(PUMLC_EMULATOR_ASAN)
  __sanitizer_start_switch_fiber(&run.scheduler_fake_stack, fiber.stack, kStackSize);
#endif
  swapcontext(&run.scheduler, &fiber.context);
#if defined(PUMLC_EMULATOR_ASAN)
  __sanitizer_finish_switch_fiber(run.scheduler_fake_stack, nullptr, nullptr);
#endif
  run.current = nullptr;
}

void leave([[maybe_unused]] bool forever = false) {
  Fiber& fiber = *run.current;
#if defined(PUMLC_EMULATOR_ASAN)
  __sanitizer_start_switch_fiber(forever ? nullptr : &fiber.fake_stack, run.scheduler_stack, run.scheduler_stack_size);
#endif
  swapcontext(&fiber.context, &run.scheduler);
#if defined(PUMLC_EMULATOR_ASAN)
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &run.scheduler_stack, &run.scheduler_stack_size);
#endif
}

void start() {
#if defined(PUMLC_EMULATOR_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &run.scheduler_stack, &run.scheduler_stack_size);
#endif
  run.thread(run.argument);
  run.current->state = State::kReturned;
  leave(true);
}

void prepare(Fiber& fiber, int index) {
  if (fiber.stack == nullptr) fiber.stack = static_cast<char*>(std::malloc(kStackSize));
  __asan_unpoison_memory_region(fiber.stack, kStackSize);  // the last kernel may have been left in the middle
  fiber.index = index;
  std::fill_n(fiber.clocks, kWarpSize, uint16_t{0});
  fiber.clocks[fiber.lane()] = 1;
  const unsigned i = static_cast<unsigned>(index);
  fiber.position = {i % run.block.x, i / run.block.x % run.block.y, i / run.block.x / run.block.y};
  fiber.state = State::kReady;
  fiber.fake_stack = nullptr;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = const_cast<char*>(fiber.stack);
  fiber.context.uc_stack.ss_size = kStackSize;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, start, 0);
}

// ---- waiting

std::string whereabouts(const Fiber& fiber) {
  if (fiber.state == State::kReturned) return "has returned";
  const std::string at = std::string(fiber.call.name) + " at " + place(fiber.call.file, fiber.call.line);
  return "waits in " + at + (fiber.state == State::kInWarpCall ? " with mask " + hex(fiber.call.mask) : "");
}

bool same_place(const WarpCall& a, const WarpCall& b) {
  return a.line == b.line && std::strcmp(a.file, b.file) == 0 && std::strcmp(a.name, b.name) == 0;
}

// The lane of the running thread's warp, or null beyond the block.
Fiber* lane_of(const Fiber& self, int lane) {
  const size_t index = static_cast<size_t>(self.warp() * kWarpSize + lane);
  return index < run.fibers.size() ? run.fibers[index] : nullptr;
}

bool takes_part(const Fiber* fiber, const WarpCall& call) {
  return fiber != nullptr && fiber->state == State::kInWarpCall && fiber->call.kind == call.kind &&
         fiber->call.mask == call.mask && same_place(fiber->call, call);
}

template <typename F>
void for_lanes(unsigned mask, const F& f) {
  for (int lane = 0; lane < kWarpSize; ++lane)
    if (mask >> lane & 1u) f(lane);
}

// All lanes that the call names have come: gives each its result and lets it go on.
void complete(const Fiber& self) {
  const WarpCall call = self.call;
  unsigned ballot = 0;
  uint16_t clocks[kWarpSize] = {};
  for_lanes(call.mask, [&](int lane) {
    const Fiber& other = *lane_of(self, lane);
    ballot |= static_cast<unsigned>(other.call.value != 0) << lane;
    for (int k = 0; k < kWarpSize; ++k) clocks[k] = std::max(clocks[k], other.clocks[k]);
  });
  for_lanes(call.mask, [&](int lane) {
    Fiber& other = *lane_of(self, lane);
    if (call.kind == Collective::kBallot) other.result = ballot;
    if (call.kind == Collective::kShuffle) {
      if (!(call.mask >> other.call.source & 1u))
        fail(std::string(call.name) + " at " + place(call.file, call.line) + ": lane " + std::to_string(lane) +
             " reads from lane " + std::to_string(other.call.source) + ", which mask " + hex(call.mask) +
             " does not name");
      other.result = lane_of(self, other.call.source)->call.value;
    }
    if (call.kind == Collective::kSync) {  // the only one of these that orders memory
      std::copy_n(clocks, kWarpSize, other.clocks);
      ++other.clocks[lane];
    }
    other.state = State::kReady;
  });
}

// Nobody can run. Opens the barrier that all who live wait at; false after a failure.
bool resolve() {
  const Fiber* waiting = nullptr;
  for (const Fiber* fiber : run.fibers) {
    if (fiber->state == State::kInWarpCall) {
      std::string missing;
      for_lanes(fiber->call.mask, [&](int lane) {
        const Fiber* other = lane_of(*fiber, lane);
        if (takes_part(other, fiber->call) || !missing.empty()) return;
        missing = "lane " + std::to_string(lane) + ", which " + (other ? whereabouts(*other) : "is not in the block");
      });
      fail(std::string(fiber->call.name) + " at " + place(fiber->call.file, fiber->call.line) + ": mask " +
           hex(fiber->call.mask) + " of thread " + text(fiber->position) + " names " + missing);
      return false;
    }
    if (fiber->state == State::kAtBarrier && waiting == nullptr) waiting = fiber;
  }
  for (const Fiber* fiber : run.fibers) {
    if (fiber->state != State::kAtBarrier || same_place(fiber->call, waiting->call)) continue;
    fail("not all threads reach __syncthreads at " + place(waiting->call.file, waiting->call.line) + ": thread " +
         text(waiting->position) + " waits there, thread " + text(fiber->position) + " " + whereabouts(*fiber));
    return false;
  }
  for (Fiber* fiber : run.fibers)
    if (fiber->state == State::kAtBarrier) fiber->state = State::kReady;
  begin_phase();
  return true;
}

// ---- blocks

bool run_block(std::mt19937_64& random) {
  std::vector<int> order(run.fibers.size());
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = 0; i < run.fibers.size(); ++i) prepare(*run.fibers[i], static_cast<int>(i));
  for (;;) {
    if (device.order != 0) std::shuffle(order.begin(), order.end(), random);
    bool anyone_ran = false;
    bool anyone_lives = false;
    for (const int index : order) {
      Fiber& fiber = *run.fibers[static_cast<size_t>(index)];
      if (fiber.state == State::kReady) {
        anyone_ran = true;
        enter(fiber);
        if (!run.failure.empty()) return false;
      }
      anyone_lives |= fiber.state != State::kReturned;
    }
    if (!anyone_lives) return true;
    if (!anyone_ran && !resolve()) return false;
  }
}

cudaError_t refuse(cudaError_t error, const std::string& why) {
  last_failure = why;
  return error;
}

}  // namespace

const Thread* running_thread() { return run.current; }

void fail(const std::string& message) {
  const std::string who = run.current == nullptr ? "" : ", thread " + text(run.current->position);
  run.failure = "block " + text(run.block_position) + who + ": " + message;
  if (run.current == nullptr) return;
  run.current->state = State::kReturned;
  leave(true);  // its frame is dropped: kernels own nothing that a destructor would free
}

uint3 thread_index() { return run.current->position; }
uint3 block_index() { return run.block_position; }
dim3 block_size() { return run.block; }
dim3 grid_size() { return run.grid; }
int lane() { return run.current->lane(); }

int shuffle_source(int wanted, int width) {
  const int first = lane() / width * width;
  return wanted >= first && wanted < first + width ? wanted : lane();
}

uint64_t meet(const WarpCall& call) {
  Fiber& self = *run.current;
  if (!(call.mask >> self.lane() & 1u))
    fail(std::string(call.name) + " at " + place(call.file, call.line) + ": mask " + hex(call.mask) +
         " does not name the calling lane " + std::to_string(self.lane()));
  self.call = call;
  self.state = State::kInWarpCall;
  bool all_here = true;
  for_lanes(call.mask, [&](int lane) { all_here = all_here && takes_part(lane_of(self, lane), call); });
  if (all_here) complete(self);
  while (self.state == State::kInWarpCall) leave();
  return self.result;
}

cudaError_t allow_shared_memory(const void* kernel, int bytes) {
  if (bytes > device.shared_memory)
    return refuse(cudaErrorInvalidValue, "asked for " + std::to_string(bytes) +
                                             " bytes of shared memory, the device has " +
                                             std::to_string(device.shared_memory));
  allowed_shared_memory[kernel] = bytes;
  return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void (*thread)(const void*),
                   const void* argument) {
  const dim3 grid = config.gridDim;
  const dim3 block = config.blockDim;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
      grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return refuse(cudaErrorInvalidConfiguration, "a grid of " + text({grid.x, grid.y, grid.z}) + " blocks of " +
                                                     text({block.x, block.y, block.z}) + " threads cannot be launched");
  constexpr int kDefaultSharedMemory = 48 * 1024;
  const auto allowed = allowed_shared_memory.find(kernel);
  const int limit = std::min(device.shared_memory, allowed == allowed_shared_memory.end()
                                                       ? kDefaultSharedMemory
                                                       : std::max(allowed->second, kDefaultSharedMemory));
  if (config.dynamicSmemBytes > static_cast<size_t>(limit))
    return refuse(cudaErrorInvalidValue, std::to_string(config.dynamicSmemBytes) +
                                             " bytes of dynamic shared memory, where this kernel may have " +
                                             std::to_string(limit));

  static std::vector<Fiber> pool(1024);
  run = Run();
  run.thread = thread;
  run.argument = argument;
  run.grid = grid;
  run.block = block;
  for (uint64_t i = 0; i < threads; ++i) run.fibers.push_back(&pool[i]);
  std::mt19937_64 random(device.order);
  std::vector<uint64_t> order(uint64_t{grid.x} * grid.y * grid.z);
  std::iota(order.begin(), order.end(), uint64_t{0});
  if (device.order != 0) std::shuffle(order.begin(), order.end(), random);
  begin_launch();
  for (const uint64_t i : order) {
    run.block_position = {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                          static_cast<unsigned>(i / grid.x / grid.y)};
    begin_block(config.dynamicSmemBytes);
    if (!run_block(random)) return refuse(cudaErrorLaunchFailure, run.failure);
  }
  return cudaSuccess;
}

}  // namespace pumlc::emulator

void __syncthreads(const char* file, int line) {
  using namespace pumlc::emulator;
  Fiber& self = *run.current;
  self.call = {};
  self.call.name = "__syncthreads";
  self.call.file = file;
  self.call.line = line;
  self.state = State::kAtBarrier;
  while (self.state == State::kAtBarrier) leave();
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const auto& device = pumlc::emulator::device;
  *value = attribute == cudaDevAttrMultiProcessorCount ? device.multiprocessors : device.shared_memory;
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t) {
  pumlc::emulator::write_by_runtime(address, bytes);
  std::memset(address, value, bytes);
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : pumlc::emulator::last_failure.c_str();
}
