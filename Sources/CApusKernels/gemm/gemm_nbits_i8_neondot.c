// Products of rows in 8 bits with weights of few bits for NEON with dot products.
#include "../isa.h"
#if APUS_ARM
#pragma clang attribute push(__attribute__((target(APUS_TARGET_NEONDOT))), apply_to = function)
#include "../simd/simd_neon.h"
#include "gemm_tiles_neon.h"

INLINE vi products(vi sum, vi codes, vi numbers) {
  return (vi)vdotq_s32((int32x4_t)sum, (int8x16_t)codes, (int8x16_t)numbers);
}
// Codes less 128 are signed; what that takes off is the same for all codes.
INLINE vi byte_products(vi sum, vi codes, vi numbers) {
  const vi top = v_set1_i((int32_t)0x80808080);
  return products(sum, codes ^ top, numbers) - products(v_set1_i(0), top, numbers);
}

#define NBITS_VARIANT(name) name##_neondot
#define NBITS_DOT(sum, codes, numbers) products(sum, codes, numbers)
#define NBITS_DOT_BYTES(sum, codes, numbers) byte_products(sum, codes, numbers)
#include "gemm_nbits_i8.inc.h"
#pragma clang attribute pop
#endif
