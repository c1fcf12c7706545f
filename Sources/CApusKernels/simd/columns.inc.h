// Columns of rows of float32 as vectors, for kernels that take a matrix across its rows.
#pragma once

// Vector i has rows i, i + 4, ..., 16 bytes of each, and so gives, when its quarters are turned with those of the
// others, whole columns.
#if APUS_LANES >= 8
#if APUS_LANES == 16
#define QUARTERS(name) _mm512_##name
typedef __m512i quarters;
INLINE quarters load_quarters(const float *const *rows) {
  const quarters x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)rows[0]));
  const quarters y = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(const void *)rows[4]), 1);
  const quarters z = _mm512_inserti32x4(y, _mm_loadu_si128((const __m128i *)(const void *)rows[8]), 2);
  return _mm512_inserti32x4(z, _mm_loadu_si128((const __m128i *)(const void *)rows[12]), 3);
}
#else
#define QUARTERS(name) _mm256_##name
typedef __m256i quarters;
INLINE quarters load_quarters(const float *const *rows) {
  const quarters x = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)rows[0]));
  return _mm256_inserti128_si256(x, _mm_loadu_si128((const __m128i *)(const void *)rows[4]), 1);
}
#endif
// columns[c] = element c of VL rows of `ld` elements, from `rows` on; the rows behind row `last` are that one again.
INLINE void v_load_columns(const float *rows, ptrdiff_t ld, size_t last, vf *columns) {
  const float *row[VL];
#pragma clang loop unroll(full)
  for (size_t i = 0; i < VL; i++) row[i] = rows + (ptrdiff_t)(i < last ? i : last) * ld;
  quarters x[4];
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) x[i] = load_quarters(row + i);
  const quarters low0 = QUARTERS(unpacklo_epi32)(x[0], x[1]), high0 = QUARTERS(unpackhi_epi32)(x[0], x[1]);
  const quarters low1 = QUARTERS(unpacklo_epi32)(x[2], x[3]), high1 = QUARTERS(unpackhi_epi32)(x[2], x[3]);
  columns[0] = (vf)QUARTERS(unpacklo_epi64)(low0, low1), columns[1] = (vf)QUARTERS(unpackhi_epi64)(low0, low1);
  columns[2] = (vf)QUARTERS(unpacklo_epi64)(high0, high1), columns[3] = (vf)QUARTERS(unpackhi_epi64)(high0, high1);
}
#undef QUARTERS
#else
INLINE void v_load_columns(const float *rows, ptrdiff_t ld, size_t last, vf *columns) {
  vf x[4];
#pragma clang loop unroll(full)
  for (size_t i = 0; i < 4; i++) x[i] = v_load(rows + (ptrdiff_t)(i < last ? i : last) * ld);
  const vf a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5), b = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7);
  const vf c = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5), d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
  columns[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5), columns[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  columns[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5), columns[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}
#endif
