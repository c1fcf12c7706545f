// The products by VDPBF16PS: sixteen columns of two products each, the second of a pair added first.
#include "gemm_bf16_round_avx512.h"

INLINE void bf16_begin(size_t rows) { (void)rows; }
INLINE void bf16_end(void) {}

INLINE void bf16_tile(const uint16_t *a, const uint16_t *b, size_t depth, float *sums, int first, const int rows) {
  __m512 acc[BF16_ROWS][2];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < 2; v++)
      acc[i][v] = first ? _mm512_setzero_ps() : _mm512_load_ps(sums + i * BF16_NR + v * 16);
  }
#pragma clang loop unroll_count(2)
  for (size_t k = 0; k < depth; k += 2, b += 2 * BF16_NR) {
    const __m512bh low = (__m512bh)_mm512_loadu_si512(b), high = (__m512bh)_mm512_loadu_si512(b + 32);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
      int32_t pair;
      memcpy(&pair, a + (size_t)i * BF16_PIECE + k, sizeof pair);
      const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
      acc[i][0] = _mm512_dpbf16_ps(acc[i][0], x, low);
      acc[i][1] = _mm512_dpbf16_ps(acc[i][1], x, high);
    }
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < 2; v++) _mm512_store_ps(sums + i * BF16_NR + v * 16, acc[i][v]);
  }
}

static void bf16_products(const uint16_t *a, const uint16_t *b, size_t depth, size_t rows, float *sums, int first) {
  switch (rows) {
#define HEIGHT(rows) \
  case rows: bf16_tile(a, b, depth, sums, first, rows); break;
    HEIGHT(1) HEIGHT(2) HEIGHT(3) HEIGHT(4) HEIGHT(5) HEIGHT(6) HEIGHT(7) HEIGHT(8) HEIGHT(9) HEIGHT(10) HEIGHT(11)
    HEIGHT(12)
#undef HEIGHT
  }
}
