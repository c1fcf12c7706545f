// The products of many rows and of panels from which nothing was taken off, by VPMADDWD on operands that were widened
// to 16 bits before, a block at a time: pairs of neighbouring rows of B, added to 32 bits, which cannot overflow on the
// way.
//
// For some rows and a piece of the depth, A is widened once, and each panel of B once: both then stay in the caches
// while register tiles of six rows by sixteen columns go over them.

enum {
  // Fewer rows are as fast without.
  TILES_LEAST_ROWS = 6,
  TILES_HEIGHT = 6,
  TILES_ROWS = 8 * TILES_HEIGHT,
  // Bytes of a row that are widened at a time, and the panels whose sums wait for the next piece.
  TILES_PIECE = 512,
  TILES_PANELS = 8,
};

// Bytes [start, start + count) of the depth of some rows, in which each tap is a multiple of four bytes, as 16 bits.
static void i8_widen_rows(const apus_gemm_i8_args *g, size_t row, size_t rows, size_t start, size_t count,
                          int16_t *out) {
  const size_t tap_bytes = (g->kc + 3) / 4 * 4, first_tap = start / tap_bytes, first_byte = start % tap_bytes;
  for (size_t i = 0; i < rows; i++, out += TILES_PIECE) {
    size_t at = 0, byte = first_byte;
    for (size_t t = first_tap; at < count; t++, byte = 0) {
      const size_t length = tap_bytes - byte < count - at ? tap_bytes - byte : count - at;
      const size_t there = g->kc - byte < length ? g->kc - byte : length;
      const uint8_t *from = i8_row(g, row + i, t) + byte;
      size_t k = 0;
      if (g->a_signed) {
        for (; k + 16 <= there; k += 16)
          _mm256_storeu_si256((__m256i *)(void *)(out + at + k),
                              _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(from + k))));
        for (; k < there; k++) out[at + k] = (int8_t)from[k];
      } else {
        for (; k + 16 <= there; k += 16)
          _mm256_storeu_si256((__m256i *)(void *)(out + at + k),
                              _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(from + k))));
        for (; k < there; k++) out[at + k] = from[k];
      }
      for (; k < length; k++) out[at + k] = 0;
      at += length;
    }
  }
}

// `count` rows of a panel, a multiple of four, as pairs of 16 bits: [count / 2][16 columns][2].
static void i8_widen_panel(const int8_t *b, size_t count, int16_t *out) {
  for (size_t k = 0; k < count; k += 4, b += 4 * I8_NR, out += 4 * I8_NR) {
#pragma clang loop unroll(full)
    for (int half = 0; half < 2; half++) {
      const __m128i *from = (const __m128i *)(const void *)(b + half * 32);
      // Columns 0 to 3 and 4 to 7, of each both pairs.
      const __m256 low = _mm256_castsi256_ps(_mm256_cvtepi8_epi16(_mm_loadu_si128(from)));
      const __m256 high = _mm256_castsi256_ps(_mm256_cvtepi8_epi16(_mm_loadu_si128(from + 1)));
      const __m256i first = _mm256_castps_si256(_mm256_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
      const __m256i second = _mm256_castps_si256(_mm256_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1)));
      _mm256_storeu_si256((__m256i *)(void *)(out + half * 16),
                          _mm256_permute4x64_epi64(first, _MM_SHUFFLE(3, 1, 2, 0)));
      _mm256_storeu_si256((__m256i *)(void *)(out + 2 * I8_NR + half * 16),
                          _mm256_permute4x64_epi64(second, _MM_SHUFFLE(3, 1, 2, 0)));
    }
  }
}

// Adds the products of `count` elements of some rows to their sums, which begin at zero in the first piece.
INLINE void i8_widened_tile(const int16_t *a, const int16_t *b, size_t count, uint32_t *sums, int first,
                            const int rows) {
  __m256i acc[TILES_HEIGHT][2];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < 2; v++)
      acc[i][v] = first ? _mm256_setzero_si256()
                        : _mm256_loadu_si256((const __m256i *)(const void *)(sums + i * I8_NR + v * 8));
  }
  for (size_t k = 0; k < count; k += 2, b += 2 * I8_NR) {
    const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)b);
    const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(b + 16));
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
      int32_t pair;
      memcpy(&pair, a + (size_t)i * TILES_PIECE + k, sizeof pair);
      const __m256i x = _mm256_set1_epi32(pair);
      acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(x, low));
      acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(x, high));
    }
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < 2; v++) _mm256_storeu_si256((__m256i *)(void *)(sums + i * I8_NR + v * 8), acc[i][v]);
  }
}

static void i8_widened_tiles(const int16_t *a, const int16_t *b, size_t count, uint32_t *sums, int first,
                             size_t rows) {
  for (; rows >= TILES_HEIGHT; rows -= TILES_HEIGHT, a += TILES_HEIGHT * TILES_PIECE, sums += TILES_HEIGHT * I8_NR)
    i8_widened_tile(a, b, count, sums, first, TILES_HEIGHT);
  for (; rows >= 2; rows -= 2, a += 2 * TILES_PIECE, sums += 2 * I8_NR) i8_widened_tile(a, b, count, sums, first, 2);
  if (rows) i8_widened_tile(a, b, count, sums, first, 1);
}

// Rows [row, row + rows), at most TILES_ROWS, of panels [p0, p1), at most TILES_PANELS.
static void i8_widened_block(const apus_gemm_i8_args *g, size_t row, size_t rows, size_t p0, size_t p1) {
  int16_t a[TILES_ROWS * TILES_PIECE] __attribute__((aligned(32)));
  int16_t b[TILES_PIECE * I8_NR] __attribute__((aligned(32)));
  uint32_t sums[TILES_PANELS * TILES_ROWS * I8_NR] __attribute__((aligned(32)));
  uint32_t a_zeros[TILES_ROWS], row_terms[TILES_ROWS];
  const int is_centred = i8_b_is_centred(g), even = is_centred && !g->a_zeros;
  for (size_t i = 0; i < rows; i++) {
    a_zeros[i] = i8_a_zero(g, row + i, 0);
    row_terms[i] = is_centred ? 0 : i8_row_term(g, row + i);
  }
  const size_t depth = g->taps * ((g->kc + 3) / 4) * 4;
  for (size_t k = 0; k < depth; k += TILES_PIECE) {
    const size_t count = depth - k < TILES_PIECE ? depth - k : TILES_PIECE;
    i8_widen_rows(g, row, rows, k, count, a);
    for (size_t p = p0; p < p1; p++) {
      uint32_t *block_sums = sums + (p - p0) * TILES_ROWS * I8_NR;
      i8_widen_panel(i8_panel(g, p) + k * I8_NR, count, b);
      i8_widened_tiles(a, b, count, block_sums, k == 0, rows);
      if (k + count < depth) continue;
      const i8_block block = {block_sums, I8_NR, i8_column_sums(g, p), a_zeros, row_terms};
      i8_finish(g, &block, row, rows, p * I8_NR, even);
    }
  }
  i8_activate(g, row, rows, p0, p1);
}

INLINE int i8_is_widened(const apus_gemm_i8_args *g, size_t panel) {
  return i8_rests(g, panel)->count == APUS_GEMM_I8_WHOLE;
}

// False if the products are better done without.
static int i8_tiles_multiply(const apus_gemm_i8_args *g, size_t m0, size_t m1, size_t p0, size_t p1) {
  if (m1 - m0 < TILES_LEAST_ROWS || g->taps * g->kc < 16) return 0;
  for (size_t p = p0, end; p < p1; p = end) {
    const int is_widened = i8_is_widened(g, p);
    for (end = p + 1; end < p1 && i8_is_widened(g, end) == is_widened; end++) continue;
    if (!is_widened) {
      i8_rows_multiply(g, m0, m1, p, end);
      continue;
    }
    for (size_t q = p; q < end; q += TILES_PANELS) {
      for (size_t row = m0; row < m1; row += TILES_ROWS)
        i8_widened_block(g, row, m1 - row < TILES_ROWS ? m1 - row : TILES_ROWS, q,
                         end - q < TILES_PANELS ? end : q + TILES_PANELS);
    }
  }
  return 1;
}
