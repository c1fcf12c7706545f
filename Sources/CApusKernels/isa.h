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

// Every AArch64 machine has NEON, so that only what came later is a target of its own.
#if defined(__aarch64__)
#define APUS_ARM 1
#include <arm_neon.h>
#define APUS_TARGET_NEONDOT "dotprod"
#define APUS_TARGET_NEONI8MM "dotprod,i8mm"
#define APUS_TARGET_NEONBF16 "bf16"
#else
#define APUS_ARM 0
#endif
