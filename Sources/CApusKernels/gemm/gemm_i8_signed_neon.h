// What the products of signed bytes share: A as A'' = A' less 128, for which a sum begins with 128 times that of its
// column of B'.
#pragma once

// What turns four bytes of A to A'': an unsigned value less 128 has its top bit turned.
INLINE uint32_t i8_turn(const apus_gemm_i8_args *g) { return g->a_signed ? 0 : 0x80808080u; }

// The beginning of the sums of vector `v` of the columns of a panel.
INLINE uint32x4_t i8_start(const apus_gemm_i8_args *g, size_t panel, int v) {
  return vshlq_n_u32(vld1q_u32((const uint32_t *)(const void *)(i8_column_sums(g, panel) + 4 * v)), 7);
}

INLINE uint32_t i8_sum_vectors(const uint8_t *a, size_t n, uint8_t turn, size_t *done) {
  uint32x4_t sums = vdupq_n_u32(0);
  const uint8x16_t turns = vdupq_n_u8(turn);
  size_t k = 0;
  for (; k + 16 <= n; k += 16) sums = vpadalq_u16(sums, vpaddlq_u8(veorq_u8(vld1q_u8(a + k), turns)));
  *done = k;
  return vaddvq_u32(sums);
}
