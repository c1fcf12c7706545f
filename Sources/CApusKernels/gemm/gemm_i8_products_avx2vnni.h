// Inner products by VPDPBUSD on vectors of 256 bits: eight columns of four products each, added to 32 bits without
// saturation. The halves of a panel go one after the other, for more rows at a time.

#include "gemm_i8_rows_avx2.h"

INLINE void i8_products_turned(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int half,
                               const int columns, const int turn, uint32_t *sums) {
  const size_t kc = g->kc, whole = kc / 4 * 4;
  const __m256i turns = i8_turns(turn);
  const int8_t *b = i8_panel(g, panel) + half * 64;
  __m256i acc[I8_MR][2];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
#define STEP(quad) \
  { \
    const __m256i *column = (const __m256i *)(const void *)b; \
    const __m256i low = _mm256_loadu_si256(column), high = _mm256_loadu_si256(column + 1); \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) { \
      __m256i x = _mm256_set1_epi32((int32_t)(quad)); \
      if (turn) x = _mm256_xor_si256(x, turns); \
      acc[i][0] = _mm256_dpbusd_avx_epi32(acc[i][0], x, low); \
      acc[i][1] = _mm256_dpbusd_avx_epi32(acc[i][1], x, high); \
    } \
    b += 4 * I8_NR; \
  }
  for (size_t t = 0; t < g->taps; t++) {
    const uint8_t *a[I8_MR];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) a[i] = i8_row(g, row + (size_t)i, t);
    for (size_t k = 0; k < whole; k += 4) STEP(i8_quad(a[i] + k, 4, 0))
    if (whole == kc) continue;
    if (kc >= 4) STEP(i8_quad(a[i] + kc - 4, 4, 0) >> (8 * (whole + 4 - kc)))
    else STEP(i8_quad(a[i], kc, 0))
  }
#undef STEP
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
    __m256i *to = (__m256i *)(void *)(sums + i * columns + half * 16);
    _mm256_storeu_si256(to, acc[i][0]);
    _mm256_storeu_si256(to + 1, acc[i][1]);
  }
}

INLINE void i8_products(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int columns,
                        uint32_t *sums) {
#pragma clang loop unroll(full)
  for (int half = 0; half < columns / 16; half++) {
    if (g->a_signed) i8_products_turned(g, row, panel, rows, half, columns, 0x80, sums);
    else i8_products_turned(g, row, panel, rows, half, columns, 0, sums);
  }
}
