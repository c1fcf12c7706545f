// Inner products in the compiler's vector types: a product of u8 and s8 fits 16 bits, and is added to 32.

typedef int8_t bytes8 __attribute__((vector_size(8)));
typedef int16_t words8 __attribute__((vector_size(16)));
typedef int16_t words4 __attribute__((vector_size(8)));

// Eight columns of one row, the first at b. A vector of sums holds the four residues of k of one column.
INLINE void eight_columns(const apus_gemm_i8_args *g, size_t row, const int8_t *b, uint32_t turn, uint32_t *sums) {
  vi acc[8];
  for (int j = 0; j < 8; j++) acc[j] = v_set1_i(0);
  for (size_t t = 0; t < g->taps; t++) {
    const uint8_t *a = i8_row(g, row, t);
    for (size_t k = 0; k < g->kc; k += 4, b += 4 * I8_NR) {
      const uint32_t quad = i8_quad(a + k, g->kc - k, turn);
      const int16_t a0 = quad & 255, a1 = quad >> 8 & 255, a2 = quad >> 16 & 255, a3 = (int16_t)(quad >> 24);
      const words8 x = {a0, a1, a2, a3, a0, a1, a2, a3};
#pragma clang loop unroll(full)
      for (int v = 0; v < 4; v++) {
        bytes8 pair;
        memcpy(&pair, b + v * 8, sizeof pair);
        const words8 product = x * __builtin_convertvector(pair, words8);
        const words4 low = __builtin_shufflevector(product, product, 0, 1, 2, 3);
        const words4 high = __builtin_shufflevector(product, product, 4, 5, 6, 7);
        acc[2 * v] += __builtin_convertvector(low, vi);
        acc[2 * v + 1] += __builtin_convertvector(high, vi);
      }
    }
  }
  for (int j = 0; j < 8; j++) {
    const vu lanes = (vu)acc[j];
    sums[j] = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
  }
}

INLINE void i8_products(const apus_gemm_i8_args *g, size_t row, size_t panel, const int rows, const int columns,
                        uint32_t *sums) {
  const uint32_t turn = g->a_signed ? 0x80808080u : 0;
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < I8_NR; j += 8)
      eight_columns(g, row + (size_t)i, i8_panel(g, panel) + 4 * j, turn, sums + i * columns + j);
}

INLINE vi i8_add_quads(vi sum, vi quads) {
  return sum + (quads >> 24) + (quads << 8 >> 24) + (quads << 16 >> 24) + (quads << 24 >> 24);
}

INLINE uint32_t i8_sum_vectors(const uint8_t *a, size_t n, uint8_t turn, size_t *done) {
  (void)a, (void)n, (void)turn;
  *done = 0;
  return 0;
}
