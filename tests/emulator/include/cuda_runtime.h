// The part of CUDA C++ that csrc/cuda/*_kernel.cu is written in, for g++: found instead of NVIDIA's header of this
// name, so that the kernels compile unchanged and run on a CPU. What happens behind it is in ../scheduler.cpp (threads,
// barriers, warps) and ../memory.cpp (who touched what). __CUDACC__ and __CUDA_ARCH__ stay undefined.
#pragma once

#include <math.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __shared__ static  // blocks run one after the other
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __grid_constant__

// ---- types

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
#define PUMLC_VECTOR(T, name)                                \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };         \
  struct alignas(4 * sizeof(T)) name##4 { T x, y, z, w; };   \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
PUMLC_VECTOR(float, float)
PUMLC_VECTOR(int, int)
PUMLC_VECTOR(unsigned, uint)
#undef PUMLC_VECTOR

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
using cudaStream_t = struct CUstream_st*;
struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

// ---- what the emulator does

namespace pumlc::emulator {

uint3 thread_index();
uint3 block_index();
dim3 block_size();
dim3 grid_size();

// What the lanes of a warp do together; each named lane waits here until all have come.
enum class Collective { kSync, kShuffle, kBallot };
struct WarpCall {
  Collective kind;
  unsigned mask;
  uint64_t value;    // what this lane brings
  int source;        // kShuffle: the lane whose value this one takes
  const char* name;  // of the intrinsic, and where it stands
  const char* file;
  int line;
};
uint64_t meet(const WarpCall& call);
int shuffle_source(int wanted, int width);  // `wanted`, or this lane where that lies outside of its group of `width`
int lane();

void atomic_access(const void* address, size_t size);

// run_thread(argument) is what one thread does.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void (*run_thread)(const void*),
                   const void* argument);

template <typename T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <typename T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace pumlc::emulator

namespace pumlc::cuda {
// In place of `extern __shared__`, which nvcc alone can compile.
unsigned char* dynamic_shared_memory();
}  // namespace pumlc::cuda

// threadIdx and the like: each member asks the scheduler.
template <auto get>
struct PumlcBuiltIn {
  struct X {
    operator unsigned() const { return get().x; }
  } x;
  struct Y {
    operator unsigned() const { return get().y; }
  } y;
  struct Z {
    operator unsigned() const { return get().z; }
  } z;
};
inline constexpr PumlcBuiltIn<pumlc::emulator::thread_index> threadIdx{};
inline constexpr PumlcBuiltIn<pumlc::emulator::block_index> blockIdx{};
inline constexpr PumlcBuiltIn<pumlc::emulator::block_size> blockDim{};
inline constexpr PumlcBuiltIn<pumlc::emulator::grid_size> gridDim{};

// ---- the block and its warps. The default arguments tell where the call stands.

#define PUMLC_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

void __syncthreads(PUMLC_HERE);
inline void __threadfence() {}
inline void __threadfence_block() {}

inline void __syncwarp(unsigned mask = 0xffffffffu, PUMLC_HERE) {
  pumlc::emulator::meet({pumlc::emulator::Collective::kSync, mask, 0, 0, "__syncwarp", file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, PUMLC_HERE) {
  return static_cast<unsigned>(pumlc::emulator::meet(
      {pumlc::emulator::Collective::kBallot, mask, predicate != 0, 0, "__ballot_sync", file, line}));
}
inline int __any_sync(unsigned mask, int predicate, PUMLC_HERE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, PUMLC_HERE) {
  return __ballot_sync(mask, predicate, file, line) == mask;
}

#define PUMLC_SHUFFLE(name, second, wanted)                                                                    \
  template <typename T>                                                                                        \
  T name(unsigned mask, T value, int second, int width = 32, PUMLC_HERE) {                                     \
    using namespace pumlc::emulator;                                                                           \
    const int self = lane();                                                                                   \
    const int first = self / width * width;                                                                    \
    (void)first;                                                                                               \
    return from_bits<T>(                                                                                       \
        meet({Collective::kShuffle, mask, to_bits(value), shuffle_source(wanted, width), #name, file, line})); \
  }
PUMLC_SHUFFLE(__shfl_sync, from, first + from % width)
PUMLC_SHUFFLE(__shfl_xor_sync, bits, self ^ bits)
PUMLC_SHUFFLE(__shfl_up_sync, distance, self - distance)
PUMLC_SHUFFLE(__shfl_down_sync, distance, self + distance)
#undef PUMLC_SHUFFLE
#undef PUMLC_HERE

// ---- memory

template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T __ldcg(const T* address) {
  return *address;
}
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
void __stcs(T* address, T value) {
  *address = value;
}

// No thread runs at the same time as another, so these are plain; what they touch is exempt from the race check.
#define PUMLC_ATOMIC(name, result)                                               \
  template <typename T>                                                          \
  __attribute__((no_sanitize("thread"), noinline)) T name(T* address, T value) { \
    pumlc::emulator::atomic_access(address, sizeof(T));                          \
    const T before = *address;                                                   \
    *address = result;                                                           \
    return before;                                                               \
  }
PUMLC_ATOMIC(atomicAdd, before + value)
PUMLC_ATOMIC(atomicMax, before < value ? value : before)
PUMLC_ATOMIC(atomicMin, value < before ? value : before)
PUMLC_ATOMIC(atomicOr, before | value)
PUMLC_ATOMIC(atomicExch, value)
#undef PUMLC_ATOMIC

// ---- arithmetic

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline float rsqrtf(float x) { return 1.0f / ::sqrtf(x); }
inline float __expf(float x) { return ::expf(x); }
inline float __logf(float x) { return ::logf(x); }
inline float __fdividef(float x, float y) { return x / y; }

// ---- runtime

cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemsetAsync(void* address, int value, size_t bytes, cudaStream_t stream);
const char* cudaGetErrorString(cudaError_t error);

namespace pumlc::emulator {
cudaError_t allow_shared_memory(const void* kernel, int bytes);
}
template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int value) {
  return pumlc::emulator::allow_shared_memory(reinterpret_cast<const void*>(kernel), value);
}
template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  const auto thread = [&] { kernel(Parameters(arguments)...); };
  return pumlc::emulator::launch(
      *config, reinterpret_cast<const void*>(kernel),
      [](const void* argument) { (*static_cast<decltype(thread)*>(argument))(); }, &thread);
}
