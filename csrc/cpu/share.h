// Sharing the chunks of a feature map among threads.
#pragma once

#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>

#include "tiles.h"

namespace pumlc::cpu {

// Elements of a feature map below which a second thread costs more than it gives.
constexpr int64_t kGrain = 1 << 15;

// Uninitialised memory for `count` numbers.
template <typename A>
c10::DataPtr allocate(int64_t count) {
  return c10::GetCPUAllocator()->allocate(count * sizeof(A));
}

// Calls kernel(first, last, scratch) for ranges of chunks, each with a scratch of `scratch_elements`. arguments: of an
// op, with its positions and channels.
template <typename A, typename Arguments, typename Kernel>
void share_chunks(const Chunks& chunks, const Arguments& arguments, int64_t scratch_elements, const Kernel& kernel) {
  const int64_t elements = std::min(chunks.size, arguments.positions) * arguments.channels;
  at::parallel_for(0, chunks.count, std::max<int64_t>(kGrain / elements, 1), [&](int64_t first, int64_t last) {
    const auto scratch = allocate<A>(scratch_elements);
    kernel(first, last, static_cast<A*>(scratch.get()));
  });
}

}  // namespace pumlc::cpu
