// Functions of bytes given by tables, for AVX-512 with VBMI: a table is four registers.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX512 ",avx512vbmi"))), apply_to = function)
#include "../simd/simd_avx512.h"

INLINE __m512i map_vector(__m512i x, const __m512i *table) {
  const __m512i low = _mm512_permutex2var_epi8(table[0], x, table[1]);
  const __m512i high = _mm512_permutex2var_epi8(table[2], x, table[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
}

void apus_map_bytes_avx512vbmi(size_t n, const uint8_t *x, uint8_t *y, const uint8_t *table_) {
  __m512i table[4];
  for (int i = 0; i < 4; i++) table[i] = _mm512_loadu_si512(table_ + i * 64);
  size_t i = 0;
  for (; i + 64 <= n; i += 64) _mm512_storeu_si512(y + i, map_vector(_mm512_loadu_si512(x + i), table));
  if (i == n) return;
  const __mmask64 left = ~(uint64_t)0 >> (64 - (n - i));
  _mm512_mask_storeu_epi8(y + i, left, map_vector(_mm512_maskz_loadu_epi8(left, x + i), table));
}
#pragma clang attribute pop
#endif
