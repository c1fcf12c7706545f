// Inner products by VPDPBUSD: sixteen columns of four products each, added to 32 bits without saturation.

INLINE void i8_products(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int columns,
                        uint32_t *sums) {
  const int vectors = columns / 16;
  const size_t kc = g->kc, panel_bytes = apus_gemm_i8_panel_bytes(g->taps, kc, I8_NR);
  const uint32_t turn = g->a_signed ? 0x80808080u : 0;
  const __m512i turns = _mm512_set1_epi32((int32_t)turn);
  const int8_t *b = i8_panel(g, panel);
  __m512i acc[I8_MR][8];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[i][v] = _mm512_setzero_si512();
  }
#define STEP(quad) \
  { \
    __m512i column[8]; \
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) \
        column[v] = _mm512_loadu_si512(b + (size_t)(v / 2) * panel_bytes + (v % 2) * 64); \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) { \
      const __m512i x = quad; \
      _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) \
          acc[i][v] = _mm512_dpbusd_epi32(acc[i][v], x, column[v]); \
    } \
    b += 4 * I8_NR; \
  }
  for (size_t t = 0; t < g->taps; t++) {
    const uint8_t *a[I8_MR];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) a[i] = i8_row(g, row + (size_t)i, t);
    size_t k = 0;
    if (turn == 0) {
#pragma clang loop unroll_count(2)
      for (; k + 4 <= kc; k += 4) STEP(_mm512_set1_epi32((int32_t)i8_quad(a[i] + k, 4, 0)))
    } else {
#pragma clang loop unroll_count(2)
      for (; k + 4 <= kc; k += 4) STEP(_mm512_xor_si512(_mm512_set1_epi32((int32_t)i8_quad(a[i] + k, 4, 0)), turns))
    }
    if (k < kc) STEP(_mm512_set1_epi32((int32_t)i8_quad(a[i] + k, kc - k, turn)))
  }
#undef STEP
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) _mm512_storeu_si512(sums + i * columns + v * 16, acc[i][v]);
  }
}

INLINE vi i8_add_quads(vi sum, vi quads) {
  return (vi)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi8(1), (__m512i)quads);
}

INLINE uint32_t i8_sum_vectors(const uint8_t *a, size_t n, uint8_t turn, size_t *done) {
  __m512i sums = _mm512_setzero_si512();
  const __m512i turns = _mm512_set1_epi8((char)turn), zero = _mm512_setzero_si512();
  size_t k = 0;
  for (; k + 64 <= n; k += 64)
    sums = _mm512_add_epi64(sums, _mm512_sad_epu8(_mm512_xor_si512(_mm512_loadu_si512(a + k), turns), zero));
  *done = k;
  return (uint32_t)_mm512_reduce_add_epi64(sums);
}
