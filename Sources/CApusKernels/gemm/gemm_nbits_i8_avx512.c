// Products of rows in 8 bits with weights of few bits for AVX-512.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX512))), apply_to = function)
#include "../simd/simd_avx512.h"
#include "gemm_tiles_avx512.h"

// Pairs of products with codes below 16 fit into 16 bits.
INLINE vi products(vi codes, vi numbers) {
  return (vi)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)codes, (__m512i)numbers), _mm512_set1_epi16(1));
}
INLINE vi byte_products(vi codes, vi numbers) {
  const vi low = v_set1_i(0x0f0f0f0f);
  return products(codes & low, numbers) + (products((codes >> 4) & low, numbers) << 4);
}

#define NBITS_VARIANT(name) name##_avx512
#define NBITS_DOT(sum, codes, numbers) ((sum) + products(codes, numbers))
#define NBITS_DOT_BYTES(sum, codes, numbers) ((sum) + byte_products(codes, numbers))
#include "gemm_nbits_i8.inc.h"
#pragma clang attribute pop
#endif
