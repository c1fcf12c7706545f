// Sums of the bytes of A and of B, which zero points are multiplied with.
#pragma once

INLINE vi i8_add_quads(vi sum, vi quads) {
  return (vi)vpadalq_s16((int32x4_t)sum, vpaddlq_s8((int8x16_t)quads));
}

INLINE uint32_t i8_sum_vectors(const uint8_t *a, size_t n, uint8_t turn, size_t *done) {
  uint32x4_t sums = vdupq_n_u32(0);
  const uint8x16_t turns = vdupq_n_u8(turn);
  size_t k = 0;
  for (; k + 16 <= n; k += 16) sums = vpadalq_u16(sums, vpaddlq_u8(veorq_u8(vld1q_u8(a + k), turns)));
  *done = k;
  return vaddvq_u32(sums);
}
