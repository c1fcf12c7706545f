// Products of rows in 8 bits with weights of few bits for portable C.
#include "../simd/simd_portable.h"
#include "gemm_tiles_portable.h"

typedef uint8_t vcodes __attribute__((vector_size(4 * VL)));
typedef int8_t vnumbers __attribute__((vector_size(4 * VL)));
typedef int32_t vproducts __attribute__((vector_size(16 * VL)));

INLINE vi products(vi sum, vi codes, vi numbers) {
  const vproducts p =
      __builtin_convertvector((vcodes)codes, vproducts) * __builtin_convertvector((vnumbers)numbers, vproducts);
#pragma clang loop unroll(full)
  for (int i = 0; i < VL; i++) sum[i] += (p[4 * i] + p[4 * i + 1]) + (p[4 * i + 2] + p[4 * i + 3]);
  return sum;
}

#define NBITS_VARIANT(name) name##_portable
#define NBITS_DOT(sum, codes, numbers) products(sum, codes, numbers)
#define NBITS_DOT_BYTES(sum, codes, numbers) products(sum, codes, numbers)
#include "gemm_nbits_i8.inc.h"
