// Inner products by USMMLA: two rows of eight bytes of A' by two columns of eight bytes of B', added to four sums in 32
// bits without saturation. Groups of four rows of B are taken two at a time, and their columns put together on the way.
#include "gemm_i8_sums_neon.h"

// Eight bytes of a row, fewer at its end; turned to A'.
INLINE uint8x8_t i8_octet(const uint8_t *a, size_t left, uint8x8_t turns) {
  if (left >= 8) return veor_u8(vld1_u8(a), turns);
  return veor_u8(vcreate_u8(v_load_word(a, left)), turns);
}

// The rows of a tile by the eight columns of a panel from `b` on, which are half of it: more sums do not fit registers.
INLINE void i8_half_panel(const apus_gemm_i8_args *g, size_t row, const int8_t *b, const int rows, const int columns,
                          uint32_t *sums) {
  const int pairs = (rows + 1) / 2;
  const size_t kc = g->kc;
  const uint8x8_t turns = vdup_n_u8(g->a_signed ? 0x80 : 0);
  // acc[p][c]: rows 2p and 2p + 1 of columns 2c and 2c + 1.
  int32x4_t acc[I8_MR / 2][4];
#pragma clang loop unroll(full)
  for (int p = 0; p < pairs; p++) {
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++) acc[p][c] = vdupq_n_s32(0);
  }
#define GROUP(number) vld1q_s32((const int32_t *)(const void *)(b + number * 4 * I8_NR + v * 16))
// Adds two groups: the one at b and `second`.
#define STEP(left, second) \
  { \
    uint8x16_t x[I8_MR / 2]; \
    _Pragma("clang loop unroll(full)") for (int p = 0; p < pairs; p++) \
        x[p] = vcombine_u8(i8_octet(a[2 * p] + k, left, turns), i8_octet(a[2 * p + 1] + k, left, turns)); \
    _Pragma("clang loop unroll(full)") for (int v = 0; v < 2; v++) { \
      const int32x4_t low = GROUP(0), high = second; \
      const int8x16_t even = (int8x16_t)vzip1q_s32(low, high), odd = (int8x16_t)vzip2q_s32(low, high); \
      _Pragma("clang loop unroll(full)") for (int p = 0; p < pairs; p++) { \
        acc[p][2 * v] = vusmmlaq_s32(acc[p][2 * v], x[p], even); \
        acc[p][2 * v + 1] = vusmmlaq_s32(acc[p][2 * v + 1], x[p], odd); \
      } \
    } \
  }
  for (size_t t = 0; t < g->taps; t++) {
    // A row that is missing is the last one, once more.
    const uint8_t *a[I8_MR];
#pragma clang loop unroll(full)
    for (int i = 0; i < 2 * pairs; i++) a[i] = i8_row(g, row + (size_t)(i < rows ? i : rows - 1), t);
    size_t k = 0;
    for (; k + 8 <= kc; k += 8, b += 8 * I8_NR) STEP(8, GROUP(1))
    if (k + 4 < kc) {
      STEP(kc - k, GROUP(1))
      b += 8 * I8_NR;
    } else if (k < kc) {
      STEP(kc - k, vdupq_n_s32(0))
      b += 4 * I8_NR;
    }
  }
#undef STEP
#undef GROUP
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int c = 0; c < 4; c++) {
      const int32x4_t block = acc[i / 2][c];
      vst1_u32(sums + i * columns + c * 2, (uint32x2_t)(i % 2 ? vget_high_s32(block) : vget_low_s32(block)));
    }
  }
}

INLINE void i8_products(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int columns,
                        uint32_t *sums) {
  for (int j = 0; j < I8_NR; j += 8) i8_half_panel(g, row, i8_panel(g, panel) + 4 * j, rows, columns, sums + j);
}
