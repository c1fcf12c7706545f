// Products of rows in 8 bits with weights of few bits for AVX2 with FMA.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX2))), apply_to = function)
#include "../simd/simd_avx2.h"
#include "gemm_tiles_avx2.h"

// Pairs of products with codes below 16 fit into 16 bits.
INLINE vi products(vi codes, vi numbers) {
  return (vi)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)codes, (__m256i)numbers), _mm256_set1_epi16(1));
}
INLINE vi byte_products(vi codes, vi numbers) {
  const vi low = v_set1_i(0x0f0f0f0f);
  return products(codes & low, numbers) + (products((codes >> 4) & low, numbers) << 4);
}

#define NBITS_VARIANT(name) name##_avx2
#define NBITS_DOT(sum, codes, numbers) ((sum) + products(codes, numbers))
#define NBITS_DOT_BYTES(sum, codes, numbers) ((sum) + byte_products(codes, numbers))
#include "gemm_nbits_i8.inc.h"
#pragma clang attribute pop
#endif
