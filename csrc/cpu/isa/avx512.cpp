// CPU kernels for x86-64 processors with AVX-512 F, BW, DQ and VL (Intel Skylake-SP, AMD Zen 4 and later).
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#define PUMLC_ISA avx512
#define PUMLC_VECTOR_BYTES 64
#include "table.h"
#endif
