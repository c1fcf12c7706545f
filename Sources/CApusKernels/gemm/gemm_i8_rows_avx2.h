// Rows of bytes for AVX2: turned, and their sums.

// A byte in all lanes, of which the compiler knows nothing: it would turn each quad before it is spread, at the price
// of another instruction.
INLINE __m256i i8_turns(const int turn) {
  __m256i turns = _mm256_set1_epi8((char)turn);
  __asm__("" : "+x"(turns));
  return turns;
}

INLINE vi i8_add_quads(vi sum, vi quads) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), (__m256i)quads);
  return sum + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

INLINE uint32_t i8_sum_vectors(const uint8_t *a, size_t n, uint8_t turn, size_t *done) {
  __m256i sums = _mm256_setzero_si256();
  const __m256i turns = _mm256_set1_epi8((char)turn), zero = _mm256_setzero_si256();
  size_t k = 0;
  for (; k + 32 <= n; k += 32) {
    const __m256i x = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(const void *)(a + k)), turns);
    sums = _mm256_add_epi64(sums, _mm256_sad_epu8(x, zero));
  }
  *done = k;
  uint64_t lanes[4];
  _mm256_storeu_si256((__m256i *)(void *)lanes, sums);
  return (uint32_t)(lanes[0] + lanes[1] + lanes[2] + lanes[3]);
}
