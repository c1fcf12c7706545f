// Inner products by widening to 16 bits and VPMADDWD, which cannot overflow: a vector holds two partial sums for each
// of four columns, added at the end.

INLINE void i8_products(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int columns,
                        uint32_t *sums) {
  const int vectors = columns / 4;
  const size_t kc = g->kc;
  const uint32_t turn = g->a_signed ? 0x80808080u : 0;
  const int8_t *b = i8_panel(g, panel);
  __m256i acc[I8_MR][4];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[i][v] = _mm256_setzero_si256();
  }
#define STEP(left) \
  { \
    __m256i x[I8_MR]; \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) \
        x[i] = _mm256_cvtepu8_epi16(_mm_set1_epi32((int32_t)i8_quad(a[i] + k, left, turn))); \
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) { \
      const __m256i column = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(b + v * 16))); \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) \
          acc[i][v] = _mm256_add_epi32(acc[i][v], _mm256_madd_epi16(x[i], column)); \
    } \
    b += 4 * I8_NR; \
  }
  for (size_t t = 0; t < g->taps; t++) {
    const uint8_t *a[I8_MR];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) a[i] = i8_row(g, row + (size_t)i, t);
    size_t k = 0;
    for (; k + 4 <= kc; k += 4) STEP(4)
    if (k < kc) STEP(kc - k)
  }
#undef STEP
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v += 2) {
      // Within each 128-bit half: columns (0, 1 | 2, 3) of both, so the middle pairs change places.
      const __m256i pairs = _mm256_hadd_epi32(acc[i][v], acc[i][v + 1]);
      _mm256_storeu_si256((__m256i *)(void *)(sums + i * columns + v * 4),
                          _mm256_permute4x64_epi64(pairs, _MM_SHUFFLE(3, 1, 2, 0)));
    }
  }
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
