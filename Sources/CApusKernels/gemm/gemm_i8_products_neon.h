// Inner products by SMULL and SADALP: products of signed bytes in 16 bits, pairs of which are added to 32. A'' = A'
// less 128 is signed, and so 128 times the sum of its column is added to each sum.
#include "gemm_i8_signed_neon.h"

INLINE void i8_products(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int columns,
                        uint32_t *sums) {
  const int vectors = columns / 4;
  const size_t kc = g->kc;
  const uint32_t turn = i8_turn(g);
  const int8_t *b = i8_panel(g, panel);
  // Of two columns each, two partial sums.
  int32x4_t acc[I8_MR][8];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < 2 * vectors; v++) acc[i][v] = vdupq_n_s32(0);
  }
  for (size_t t = 0; t < g->taps; t++) {
    const uint8_t *a[I8_MR];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) a[i] = i8_row(g, row + (size_t)i, t);
    for (size_t k = 0; k < kc; k += 4, b += 4 * I8_NR) {
      int8x16_t x[I8_MR];
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) x[i] = (int8x16_t)vdupq_n_u32(i8_quad(a[i] + k, kc - k, turn));
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) {
        const int8x16_t column = vld1q_s8(b + v * 16);
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
          const int16x8_t low = vmull_s8(vget_low_s8(x[i]), vget_low_s8(column)), high = vmull_high_s8(x[i], column);
          acc[i][2 * v] = vpadalq_s16(acc[i][2 * v], low);
          acc[i][2 * v + 1] = vpadalq_s16(acc[i][2 * v + 1], high);
        }
      }
    }
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      const uint32x4_t sum = (uint32x4_t)vpaddq_s32(acc[i][2 * v], acc[i][2 * v + 1]);
      vst1q_u32(sums + i * columns + v * 4, vaddq_u32(sum, i8_start(g, panel, v)));
    }
  }
}
