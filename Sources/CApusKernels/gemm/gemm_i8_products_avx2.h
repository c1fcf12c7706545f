// Inner products by VPMADDUBSW, which adds two products of a byte of A' and one of B' in 16 bits, and VPMADDWD, which
// adds two such sums in 32.
//
// A pair of B' can overflow the 16 bits only if its sum is beyond 128 or below -128: what is too much was taken off
// when B was packed, and is multiplied on its own. In panels where that is too much work, even and odd bytes are
// widened to 16 bits and multiplied by VPMADDWD, which cannot overflow.

#define I8_PAIRS
#include "gemm_i8_rows_avx2.h"

INLINE int i8_overflows(const int8_t *group) {
  const __m256i ones = _mm256_set1_epi8(1), most = _mm256_set1_epi16(128), least = _mm256_set1_epi16(-128);
  const __m256i *b = (const __m256i *)(const void *)group;
  __m256i over = _mm256_setzero_si256();
#pragma clang loop unroll(full)
  for (int v = 0; v < 2; v++) {
    const __m256i pairs = _mm256_maddubs_epi16(ones, _mm256_loadu_si256(b + v));
    over = _mm256_or_si256(over, _mm256_or_si256(_mm256_cmpgt_epi16(pairs, most), _mm256_cmpgt_epi16(least, pairs)));
  }
  return !_mm256_testz_si256(over, over);
}

INLINE __m256i i8_add_bytes(__m256i sum, __m256i a, __m256i b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}
INLINE __m256i i8_add_words(__m256i sum, __m256i a, __m256i b) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(255)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

// Adds the products of four bytes of each row, `quad` of row i, and of one group of B.
#define I8_STEP(add, quad) \
  { \
    const __m256i *column = (const __m256i *)(const void *)b; \
    const __m256i low = _mm256_loadu_si256(column), high = _mm256_loadu_si256(column + 1); \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) { \
      __m256i x = _mm256_set1_epi32((int32_t)(quad)); \
      if (turn) x = _mm256_xor_si256(x, turns); \
      acc[i][0] = add(acc[i][0], x, low); \
      acc[i][1] = add(acc[i][1], x, high); \
    } \
    b += 4 * I8_NR; \
  }
// `rest`, of which `left` are left: what was taken off B. The sums begin at zero.
#define I8_PRODUCTS_BY(name, add) \
  INLINE void name(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int turn, \
                   const apus_gemm_i8_rest *rest, size_t left, uint32_t *sums) { \
    const size_t kc = g->kc, whole = kc / 4 * 4; \
    const __m256i turns = i8_turns(turn); \
    const int8_t *b = i8_panel(g, panel); \
    __m256i acc[I8_MR][2]; \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = _mm256_setzero_si256(); \
    for (size_t t = 0; t < g->taps; t++) { \
      const uint8_t *a[I8_MR]; \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) a[i] = i8_row(g, row + (size_t)i, t); \
      for (; left > 0 && rest->tap == t; left--, rest++) { \
        _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) \
            sums[i * I8_NR + rest->column] += (uint32_t)((uint8_t)(a[i][rest->k] ^ turn) * rest->rest); \
      } \
      for (size_t k = 0; k < whole; k += 4) I8_STEP(add, i8_quad(a[i] + k, 4, 0)) \
      if (whole == kc) continue; \
      if (kc >= 4) I8_STEP(add, i8_quad(a[i] + kc - 4, 4, 0) >> (8 * (whole + 4 - kc))) \
      else I8_STEP(add, i8_quad(a[i], kc, 0)) \
    } \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) { \
      __m256i *to = (__m256i *)(void *)(sums + i * I8_NR); \
      _mm256_storeu_si256(to, _mm256_add_epi32(acc[i][0], _mm256_loadu_si256(to))); \
      _mm256_storeu_si256(to + 1, _mm256_add_epi32(acc[i][1], _mm256_loadu_si256(to + 1))); \
    } \
  }
I8_PRODUCTS_BY(i8_products_in_pairs, i8_add_bytes)
I8_PRODUCTS_BY(i8_products_widened, i8_add_words)
#undef I8_PRODUCTS_BY
#undef I8_STEP

INLINE const apus_gemm_i8_rests *i8_rests(const apus_gemm_i8_args *g, size_t panel) {
  return (const apus_gemm_i8_rests *)(const void *)(i8_column_sums(g, panel) + I8_NR);
}

INLINE void i8_products_turned(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int turn,
                               uint32_t *sums) {
  const apus_gemm_i8_rests *list = i8_rests(g, panel);
  memset(sums, 0, (size_t)rows * I8_NR * sizeof *sums);
  if (list->count == APUS_GEMM_I8_WHOLE) i8_products_widened(g, row, panel, rows, turn, NULL, 0, sums);
  else i8_products_in_pairs(g, row, panel, rows, turn, list->rests, list->count, sums);
}

INLINE void i8_products(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int columns,
                        uint32_t *sums) {
  (void)columns;
  if (g->a_signed) i8_products_turned(g, row, panel, rows, 0x80, sums);
  else i8_products_turned(g, row, panel, rows, 0, sums);
}
