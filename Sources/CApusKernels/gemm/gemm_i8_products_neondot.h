// Inner products by SDOT: four columns of four products of signed bytes each, added to 32 bits without saturation, with
// four elements of A taken from a lane. A'' = A' less 128 is signed, and so each sum begins with 128 times that of its
// column.
#include "gemm_i8_signed_neon.h"

INLINE void i8_products(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int columns,
                        uint32_t *sums) {
  const int vectors = columns / 4;
  const size_t kc = g->kc;
  const uint32_t turn = i8_turn(g);
  const int8x16_t turns = (int8x16_t)vdupq_n_u32(turn);
  const int8_t *b = i8_panel(g, panel);
  int32x4_t acc[I8_MR][4];
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) {
    const int32x4_t start = (int32x4_t)i8_start(g, panel, v);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) acc[i][v] = start;
  }
// The group at lane `lane` of x.
#define GROUP(lane) \
  { \
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) { \
      const int8x16_t column = vld1q_s8(b + v * 16); \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) \
          acc[i][v] = vdotq_laneq_s32(acc[i][v], column, x[i], lane); \
    } \
    b += 4 * I8_NR; \
  }
  for (size_t t = 0; t < g->taps; t++) {
    const uint8_t *a[I8_MR];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) a[i] = i8_row(g, row + (size_t)i, t);
    size_t k = 0;
    int8x16_t x[I8_MR];
    for (; k + 16 <= kc; k += 16) {
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) x[i] = veorq_s8((int8x16_t)vld1q_u8(a[i] + k), turns);
      GROUP(0) GROUP(1) GROUP(2) GROUP(3)
    }
    for (; k < kc; k += 4) {
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) x[i] = (int8x16_t)vdupq_n_u32(i8_quad(a[i] + k, kc - k, turn));
      GROUP(0)
    }
  }
#undef GROUP
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) vst1q_u32(sums + i * columns + v * 4, (uint32x4_t)acc[i][v]);
  }
}
