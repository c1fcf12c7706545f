// What the products of signed bytes share: A as A'' = A' less 128, for which a sum begins with 128 times that of its
// column of B'.
#pragma once
#include "gemm_i8_sums_neon.h"

// What turns four bytes of A to A'': an unsigned value less 128 has its top bit turned.
INLINE uint32_t i8_turn(const apus_gemm_i8_args *g) { return g->a_signed ? 0 : 0x80808080u; }

// The beginning of the sums of vector `v` of the columns of a panel.
INLINE uint32x4_t i8_start(const apus_gemm_i8_args *g, size_t panel, int v) {
  return vshlq_n_u32(vld1q_u32((const uint32_t *)(const void *)(i8_column_sums(g, panel) + 4 * v)), 7);
}
