// at::parallel_for with threads that ThreadSanitizer can follow: it knows std::thread, but not the barriers of an
// OpenMP runtime that was not built with it.
#pragma once

#define parallel_for parallel_for_of_torch
#include_next <ATen/Parallel.h>
#undef parallel_for

#include <algorithm>
#include <thread>
#include <vector>

namespace at {

template <typename F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& f) {
  constexpr int64_t kThreads = 4;
  const int64_t share = std::max((end - begin + kThreads - 1) / kThreads, std::max<int64_t>(grain, 1));
  std::vector<std::thread> threads;
  for (int64_t first = begin; first < end; first += share)
    threads.emplace_back([&f, first, last = std::min(first + share, end)] { f(first, last); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace at
