// The instruction-set levels: what a file for one of them includes before it sets its target attribute.
#pragma once

#if defined(__x86_64__)
#define APUS_X86 1
#include <immintrin.h>
#define APUS_TARGET_AVX2 "avx2,fma,f16c"
#define APUS_TARGET_AVX512 "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
#else
#define APUS_X86 0
#endif
