// CPU kernels for x86-64 processors with AVX2, FMA and F16C (Intel Haswell, AMD Zen and later).
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c")
#define PUMLC_ISA avx2
#define PUMLC_VECTOR_BYTES 32
#include "table.h"
#endif
