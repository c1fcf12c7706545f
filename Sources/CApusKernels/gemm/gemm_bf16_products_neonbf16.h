// The products by BFMMLA: two rows of four elements of A by two columns of four of B, the second pair of a column added
// to the sum with the first. Pairs of rows of B are taken two at a time, and their columns put together on the way.
// Blocks of one row use it too, since other instructions add in another order.

INLINE void bf16_begin(size_t rows) { (void)rows; }
INLINE void bf16_end(void) {}

INLINE void bf16_round(const float *from, size_t count, uint16_t *out) {
  size_t i = 0;
  for (; i + 4 <= count; i += 4) vst1_bf16((bfloat16_t *)(void *)(out + i), vcvt_bf16_f32(vld1q_f32(from + i)));
  for (; i < count; i++) {
    const bfloat16_t x = vcvth_bf16_f32(from[i]);
    memcpy(out + i, &x, sizeof x);
  }
  memset(out + count, 0, (APUS_BF16_DEPTH - count % APUS_BF16_DEPTH) % APUS_BF16_DEPTH * sizeof *out);
}

// The rows of a tile by eight columns of a panel, which are half of it: more sums do not fit registers.
INLINE void bf16_tile(const uint16_t *a, const uint16_t *b, size_t depth, float *sums, int first, const int rows) {
  const int pairs = (rows + 1) / 2;
  // acc[p][c]: rows 2p and 2p + 1 of columns 2c and 2c + 1. A row that is missing is the last one, once more.
  float32x4_t acc[BF16_ROWS / 2][4];
#define ROW(i) (size_t)((i) < rows ? (i) : rows - 1)
#pragma clang loop unroll(full)
  for (int p = 0; p < pairs; p++) {
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++) {
      const float *at = sums + 2 * c;
      acc[p][c] = first ? vdupq_n_f32(0)
                        : vcombine_f32(vld1_f32(at + ROW(2 * p) * BF16_NR), vld1_f32(at + ROW(2 * p + 1) * BF16_NR));
    }
  }
  for (size_t k = 0; k < depth; k += 4, b += 4 * BF16_NR) {
    bfloat16x8_t x[BF16_ROWS / 2];
#pragma clang loop unroll(full)
    for (int p = 0; p < pairs; p++)
      x[p] = (bfloat16x8_t)vcombine_u16(vld1_u16(a + ROW(2 * p) * BF16_PIECE + k),
                                        vld1_u16(a + ROW(2 * p + 1) * BF16_PIECE + k));
#pragma clang loop unroll(full)
    for (int v = 0; v < 2; v++) {
      const uint32x4_t low = (uint32x4_t)vld1q_u16(b + v * 8), high = (uint32x4_t)vld1q_u16(b + 2 * BF16_NR + v * 8);
      const bfloat16x8_t even = (bfloat16x8_t)vzip1q_u32(low, high), odd = (bfloat16x8_t)vzip2q_u32(low, high);
#pragma clang loop unroll(full)
      for (int p = 0; p < pairs; p++) {
        acc[p][2 * v] = vbfmmlaq_f32(acc[p][2 * v], x[p], even);
        acc[p][2 * v + 1] = vbfmmlaq_f32(acc[p][2 * v + 1], x[p], odd);
      }
    }
  }
#undef ROW
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++)
      vst1_f32(sums + i * BF16_NR + 2 * c, i % 2 ? vget_high_f32(acc[i / 2][c]) : vget_low_f32(acc[i / 2][c]));
  }
}

static void bf16_products(const uint16_t *a, const uint16_t *b, size_t depth, size_t rows, float *sums, int first) {
  for (int j = 0; j < BF16_NR; j += 8, b += 16, sums += 8) {
    switch (rows) {
#define HEIGHT(rows) \
  case rows: bf16_tile(a, b, depth, sums, first, rows); break;
      HEIGHT(1) HEIGHT(2) HEIGHT(3) HEIGHT(4) HEIGHT(5) HEIGHT(6) HEIGHT(7) HEIGHT(8)
#undef HEIGHT
    }
  }
}
