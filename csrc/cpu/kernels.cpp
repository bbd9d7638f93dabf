#include "kernels.h"

#include <cstdlib>
#include <string>

namespace pumlc::cpu {
namespace {

const Kernels& choose() {
#if defined(__x86_64__)
  const char* asked = std::getenv("PUMLC_CPU_ISA");
  const std::string limit = asked == nullptr ? "avx512" : asked;
  __builtin_cpu_init();
  const bool has_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512 && limit == "avx512") return avx512::kKernels;
  if (has_avx2 && limit != "baseline") return avx2::kKernels;
#endif
  return baseline::kKernels;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace pumlc::cpu
