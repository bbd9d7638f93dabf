// Who may touch what. The kernels are compiled with -fsanitize=thread but not linked with that sanitizer: the calls
// that the compiler puts before every load and store come here. Each is held against
//   - the allocations (red zones around them), dynamic and static shared memory, the thread's own stack: anything else
//     is out of bounds;
//   - the natural alignment of the access;
//   - what was written before: reading anything else is an error, in shared memory per block;
//   - the accesses of other threads since the last barrier: a write and another access of the same bytes, not ordered
//     by __syncwarp, are a race, as are writes of two blocks of one launch. Atomics are exempt.
// Under AddressSanitizer those calls are not made; allocations and shared memory then have its red zones.
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "emulator.h"

namespace pumlc::emulator {
namespace {

// What happened to one element. Phases count from 1 over all launches; 0 is never.
struct Cell {
  uint32_t initialised = 0;  // phase of the last write of any kind
  uint32_t written = 0;      // phase of the last plain write, by whom, and where in the code
  uint16_t writer = 0;
  uint16_t writer_clock = 0;
  const void* written_at = nullptr;
  uint32_t read = 0;  // phase of the last plain reads: lanes of one warp, or of several
  uint32_t readers = 0;
  uint16_t reader_warp = 0;
  uint16_t reader_clock = 0;  // the highest of theirs
  const void* read_at = nullptr;
};
constexpr uint16_t kSeveralWarps = 0xffff;

struct Region {
  uintptr_t begin = 0;
  size_t size = 0;
  bool shared = false;
  uint64_t born = 0;  // global memory: number of the op that it was allocated in
  std::string name;
  size_t grain = 0;  // bytes per cell: the smallest access so far
  std::vector<Cell> cells;
};

struct Phases {
  uint32_t now = 1;
  uint32_t of_block = 1;   // first of the running block
  uint32_t of_launch = 1;  // first of the running launch
} phases;

std::mutex allocations_mutex;
std::map<uintptr_t, Region> allocations;
Region* last_found = nullptr;
uint64_t op = 1;  // counts ops; memory allocated within one is not initialised
bool in_op = false;

alignas(128) unsigned char dynamic_memory[kMaxDynamicShared + 2 * kRedZone];
// Aligned to what `extern __shared__ __align__(16)` promises and no more.
unsigned char* const dynamic_begin = dynamic_memory + kRedZone + 16;
Region dynamic_shared;
std::vector<Region> static_shared;

struct Range {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  bool has(uintptr_t address) const { return address >= begin && address < end; }
};
Range host_stack;
std::vector<Range> constants;  // parts of this library that cannot be written

void find_constants() {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        const auto address = reinterpret_cast<uintptr_t>(&find_constants);
        std::vector<Range> ranges;
        bool is_this = false;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          const Range range{info->dlpi_addr + header.p_vaddr, info->dlpi_addr + header.p_vaddr + header.p_memsz};
          is_this |= header.p_type == PT_LOAD && range.has(address);
          if ((header.p_type == PT_LOAD && !(header.p_flags & PF_W)) || header.p_type == PT_GNU_RELRO)
            ranges.push_back(range);
        }
        if (is_this) constants = ranges;
        return is_this ? 1 : 0;
      },
      nullptr);
}

std::string bytes(size_t count) { return std::to_string(count) + (count == 1 ? " byte" : " bytes"); }

std::string describe(const Region& region, uintptr_t address) {
  const auto offset = static_cast<int64_t>(address - region.begin);
  const auto size = static_cast<int64_t>(region.size);
  const std::string where = offset < 0       ? bytes(static_cast<size_t>(-offset)) + " before the beginning of "
                            : offset >= size ? bytes(static_cast<size_t>(offset - size)) + " after the end of "
                                             : "byte " + std::to_string(offset) + " of ";
  return where + region.name + " (" + bytes(region.size) + ")";
}

Region* find(uintptr_t address, size_t size) {
  const auto holds = [&](const Region& r) { return address >= r.begin && address + size <= r.begin + r.size; };
  if (holds(dynamic_shared)) return &dynamic_shared;
  if (last_found != nullptr && holds(*last_found)) return last_found;
  for (Region& region : static_shared)
    if (holds(region)) return &region;
  const std::lock_guard lock(allocations_mutex);
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return nullptr;
  Region& region = std::prev(next)->second;
  if (!holds(region)) return nullptr;
  last_found = &region;
  return last_found;
}

std::string nearest(uintptr_t address) {
  const Region* best = &dynamic_shared;
  const auto distance = [&](const Region& r) {
    return address < r.begin ? r.begin - address : address - std::min(address, r.begin + r.size);
  };
  for (const Region& region : static_shared)
    if (distance(region) < distance(*best)) best = &region;
  const std::lock_guard lock(allocations_mutex);
  for (const auto& [_, region] : allocations)
    if (distance(region) < distance(*best)) best = &region;
  return describe(*best, address);
}

// Makes cells of `grain` bytes; those there are divided, so that nothing known is lost.
void refine(Region& region, size_t grain) {
  if (region.grain != 0 && region.grain <= grain) return;
  std::vector<Cell> cells((region.size + grain - 1) / grain);
  if (region.grain != 0)
    for (size_t i = 0; i < cells.size(); ++i) cells[i] = region.cells[i * grain / region.grain];
  region.cells = std::move(cells);
  region.grain = grain;
}

template <typename F>
void for_cells(Region& region, uintptr_t address, size_t size, const F& f) {
  // grains are powers of two, as accesses are; memory begins aligned to 16
  size_t grain = size & (~size + 1);
  while ((address - region.begin) % grain != 0) grain /= 2;
  refine(region, std::min<size_t>(grain, 16));
  for (size_t i = (address - region.begin) / region.grain; i * region.grain < address - region.begin + size; ++i)
    f(region.cells[i]);
}

bool is_initialised(const Region& region, const Cell& cell) {
  return region.shared ? cell.initialised >= phases.of_block : cell.initialised != 0 || region.born != op || !in_op;
}

struct Access {
  const Thread& thread;
  const Region& region;
  uintptr_t address;
  size_t size;
  bool write;
  const void* code;

  std::string text() const {
    return std::string(write ? "writes " : "reads ") + describe(region, address) + " at " + place_of_code(code);
  }

  void race(const std::string& other, const void* where) const {
    fail("race: " + text() + "; " + other + " at " + place_of_code(where) + " with no barrier between them");
  }

  bool knows(int lane, uint16_t clock) const { return lane == thread.lane() || thread.clocks[lane] >= clock; }

  void check(Cell& cell) const {
    const auto self = static_cast<uint16_t>(thread.index);
    if (!write && !is_initialised(region, cell)) fail(text() + ", which nothing has written");
    if (cell.written == phases.now && cell.writer != self &&
        (cell.writer / kWarpSize != thread.warp() || !knows(cell.writer % kWarpSize, cell.writer_clock)))
      race("thread " + std::to_string(cell.writer) + " of the block wrote it", cell.written_at);
    if (write) {
      if (!region.shared && cell.written >= phases.of_launch && cell.written < phases.of_block)
        race("another block wrote it", cell.written_at);
      if (cell.read == phases.now) {
        bool ordered = cell.reader_warp == thread.warp();
        for (int lane = 0; lane < kWarpSize && ordered; ++lane)
          ordered = !(cell.readers >> lane & 1u) || knows(lane, cell.reader_clock);
        if (!ordered) race("another thread of the block read it", cell.read_at);
      }
      cell.initialised = cell.written = phases.now;
      cell.writer = self;
      cell.writer_clock = thread.clocks[thread.lane()];
      cell.written_at = code;
      return;
    }
    if (cell.read != phases.now) {
      cell.read = phases.now;
      cell.readers = 0;
      cell.reader_warp = static_cast<uint16_t>(thread.warp());
      cell.reader_clock = 0;
      cell.read_at = code;
    }
    if (cell.reader_warp != thread.warp()) {
      cell.reader_warp = kSeveralWarps;
      cell.read_at = code;
    }
    cell.readers |= 1u << thread.lane();
    cell.reader_clock = std::max(cell.reader_clock, thread.clocks[thread.lane()]);
  }
};

}  // namespace

void check_access(const void* pointer, size_t size, bool write, bool atomic, bool aligned, const void* code) {
  const Thread* thread = running_thread();
  if (thread == nullptr) return;  // the host
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const auto stack = reinterpret_cast<uintptr_t>(thread->stack);
  if (address >= stack && address + size <= stack + kStackSize) return;
  if (host_stack.has(address)) return;  // the arguments of the launch
  Region* region = find(address, size);
  if (region == nullptr) {
    for (const Range& range : constants)
      if (!write && range.has(address)) return;
    fail(std::string("out of bounds: ") + (write ? "writes " : "reads ") + bytes(size) + " at " + place_of_code(code) +
         ", " + nearest(address));
    return;
  }
  const Access access{*thread, *region, address, size, write, code};
  if (aligned && size <= 16 && (size & (size - 1)) == 0 && address % size != 0)
    fail("misaligned: " + access.text() + ", an address that is no multiple of " + bytes(size));
  for_cells(*region, address, size, [&](Cell& cell) {
    if (!atomic) return access.check(cell);
    if (kEveryAccessIsSeen && !is_initialised(*region, cell))
      fail("atomically " + access.text() + ", which nothing has written");
    cell.initialised = phases.now;
  });
}

namespace {

// Not memset, which AddressSanitizer watches.
void fill(uintptr_t begin, size_t size) {
  volatile auto* to = reinterpret_cast<volatile unsigned char*>(begin);
  for (size_t i = 0; i < size; ++i) to[i] = 0xff;  // NaN in every floating-point type
}

}  // namespace

std::string place_of_code(const void* code) {
  Dl_info info;
  if (dladdr(code, &info) == 0) return "an unknown place";
  // the instruction before the one that the call returns to
  const auto offset = static_cast<const char*>(code) - static_cast<const char*>(info.dli_fbase) - 1;
  char command[1024];
  std::snprintf(command, sizeof(command), "addr2line -i -e '%s' %#zx 2>/dev/null", info.dli_fname,
                static_cast<size_t>(offset));
  std::string place;
  if (FILE* pipe = popen(command, "r")) {
    char line[1024];
    while (std::fgets(line, sizeof(line), pipe) != nullptr) {
      std::string text = line;
      text = text.substr(0, text.find_first_of("\n ("));
      place += (place.empty() ? "" : " in ") + text.substr(text.find_last_of('/') + 1);
    }
    pclose(pipe);
  }
  return place.empty() ? "an unknown place" : place;
}

void begin_launch() {
  if (constants.empty()) find_constants();
  pthread_attr_t attributes;
  void* stack = nullptr;
  size_t size = 0;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &stack, &size);
  pthread_attr_destroy(&attributes);
  host_stack = {reinterpret_cast<uintptr_t>(stack), reinterpret_cast<uintptr_t>(stack) + size};
  phases.of_launch = ++phases.now;
}

void begin_block(size_t dynamic_size) {
  phases.of_block = ++phases.now;
  if (dynamic_shared.size != dynamic_size || dynamic_shared.begin == 0) {
    dynamic_shared = Region();
    dynamic_shared.begin = reinterpret_cast<uintptr_t>(dynamic_begin);
    dynamic_shared.size = dynamic_size;
    dynamic_shared.shared = true;
    dynamic_shared.name = "dynamic shared memory";
  }
  __asan_unpoison_memory_region(dynamic_memory, sizeof(dynamic_memory));
  fill(dynamic_shared.begin, dynamic_size);
  __asan_poison_memory_region(dynamic_memory, kRedZone + 16);
  __asan_poison_memory_region(dynamic_begin + dynamic_size, sizeof(dynamic_memory) - kRedZone - 16 - dynamic_size);
  for (const Region& region : static_shared) fill(region.begin, region.size);
}

void begin_phase() { ++phases.now; }

void write_by_runtime(const void* address, size_t size) {
  Region* region = find(reinterpret_cast<uintptr_t>(address), size);
  if (region != nullptr)
    for_cells(*region, reinterpret_cast<uintptr_t>(address), size, [](Cell& cell) { cell.initialised = phases.now; });
}

void atomic_access(const void* address, size_t size) {
  check_access(address, size, true, true, true, __builtin_return_address(0));
}

void begin_op() {
  ++op;
  in_op = true;
}

std::string end_op() {
  in_op = false;
#if defined(PUMLC_EMULATOR_ASAN)
  return "";  // writes are not seen
#endif
  const std::lock_guard lock(allocations_mutex);
  for (const auto& [_, region] : allocations) {
    if (region.born != op || region.size == 0) continue;
    if (region.cells.empty()) return "nothing was written to an output of " + bytes(region.size);
    for (size_t i = 0; i < region.cells.size(); ++i)
      if (region.cells[i].initialised == 0)
        return "byte " + std::to_string(i * region.grain) + " of an output of " + bytes(region.size) +
               " was not written";
  }
  return "";
}

void* allocate(size_t size) {
  const size_t whole = size + 2 * kRedZone;
  char* memory = static_cast<char*>(std::aligned_alloc(64, (whole + 63) / 64 * 64));
  if (memory == nullptr) return nullptr;
  char* address = memory + kRedZone;
  __asan_poison_memory_region(memory, kRedZone);
  __asan_poison_memory_region(address + size, kRedZone);
  Region region;
  region.begin = reinterpret_cast<uintptr_t>(address);
  region.size = size;
  region.born = in_op ? op : 0;
  region.name = "global memory";
  const std::lock_guard lock(allocations_mutex);
  allocations[region.begin] = std::move(region);
  return address;
}

void release(void* address) {
  {
    const std::lock_guard lock(allocations_mutex);
    const auto it = allocations.find(reinterpret_cast<uintptr_t>(address));
    if (last_found == &it->second) last_found = nullptr;
    allocations.erase(it);
  }
  char* memory = static_cast<char*>(address) - kRedZone;
  __asan_unpoison_memory_region(memory, kRedZone);
  std::free(memory);
}

}  // namespace pumlc::emulator

unsigned char* pumlc::cuda::dynamic_shared_memory() { return pumlc::emulator::dynamic_begin; }

// Static shared memory: variables of the kernels, which build.py reads from the symbols of the library.
extern "C" __attribute__((visibility("default"))) void pumlc_emulator_add_static_shared(const char* name, size_t offset,
                                                                                        size_t size) {
  using namespace pumlc::emulator;
  Dl_info info;
  dladdr(reinterpret_cast<const void*>(&pumlc_emulator_add_static_shared), &info);
  Region region;
  region.begin = reinterpret_cast<uintptr_t>(info.dli_fbase) + offset;
  region.size = size;
  region.shared = true;
  region.name = std::string("shared memory `") + name + "`";
  static_shared.push_back(std::move(region));
}
