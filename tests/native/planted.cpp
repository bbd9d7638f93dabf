// Faults that the sanitizers must find, so that their silence about the kernels means something.
#include <climits>
#include <memory>
#include <thread>

#define PUMLC_PLANTED extern "C" __attribute__((visibility("default"))) int

PUMLC_PLANTED pumlc_planted_overflow(int index) {
  const auto numbers = std::make_unique<int[]>(8);
  numbers[index] = 1;  // index 8 is one past the end
  return numbers[0];
}

PUMLC_PLANTED pumlc_planted_undefined(int number) { return INT_MAX - 1 + number; }  // 2 overflows

PUMLC_PLANTED pumlc_planted_race(int threads) {
  int count = 0;
  std::thread other([&] { ++count; });
  if (threads > 1) ++count;
  other.join();
  return count;
}
