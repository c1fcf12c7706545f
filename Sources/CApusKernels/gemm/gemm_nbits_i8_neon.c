// Products of rows in 8 bits with weights of few bits for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "gemm_tiles_neon.h"

// Four products with codes below 16 fit into 16 bits.
INLINE vi products(vi sum, vi codes, vi numbers) {
  const int8x16_t a = (int8x16_t)codes, b = (int8x16_t)numbers;
  const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
  return (vi)vpadalq_s16((int32x4_t)sum, vpaddq_s16(low, high));
}
INLINE vi byte_products(vi sum, vi codes, vi numbers) {
  const vi low = v_set1_i(0x0f0f0f0f);
  return products(sum, codes & low, numbers) + (products(v_set1_i(0), (codes >> 4) & low, numbers) << 4);
}

#define NBITS_VARIANT(name) name##_neon
#define NBITS_DOT(sum, codes, numbers) products(sum, codes, numbers)
#define NBITS_DOT_BYTES(sum, codes, numbers) byte_products(sum, codes, numbers)
#include "gemm_nbits_i8.inc.h"
#endif
