// Products of rows in 8 bits with weights of few bits for AVX-512 with VNNI.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX512 ",avx512vnni"))), apply_to = function)
#include "../simd/simd_avx512.h"
#include "gemm_tiles_avx512.h"

#define NBITS_VARIANT(name) name##_avx512vnni
#define NBITS_DOT(sum, codes, numbers) (vi) _mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(codes), (__m512i)(numbers))
#define NBITS_DOT_BYTES(sum, codes, numbers) NBITS_DOT(sum, codes, numbers)
#include "gemm_nbits_i8.inc.h"
#pragma clang attribute pop
#endif
