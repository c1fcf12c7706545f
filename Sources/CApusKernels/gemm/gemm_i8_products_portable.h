// Inner products in plain integers.

INLINE void i8_products(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int columns,
                        uint32_t *sums) {
  const uint32_t turn = g->a_signed ? 0x80808080u : 0;
  for (int i = 0; i < rows; i++) {
    int32_t acc[I8_NR] = {0};
    const int8_t *b = i8_panel(g, panel);
    for (size_t t = 0; t < g->taps; t++) {
      const uint8_t *a = i8_row(g, row + (size_t)i, t);
      for (size_t k = 0; k < g->kc; k += 4, b += 4 * I8_NR) {
        const uint32_t quad = i8_quad(a + k, g->kc - k, turn);
        const int32_t a0 = quad & 255, a1 = quad >> 8 & 255, a2 = quad >> 16 & 255, a3 = quad >> 24;
        for (int j = 0; j < I8_NR; j++) {
          const int32_t sum = a0 * b[4 * j] + a1 * b[4 * j + 1] + a2 * b[4 * j + 2] + a3 * b[4 * j + 3];
          acc[j] = (int32_t)((uint32_t)acc[j] + (uint32_t)sum);
        }
      }
    }
    memcpy(sums + i * columns, acc, sizeof acc);
  }
}
