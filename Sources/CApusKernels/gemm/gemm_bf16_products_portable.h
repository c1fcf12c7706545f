// The products without instructions of their own, in the order of VDPBF16PS: the second of a pair is added first.

INLINE void bf16_begin(size_t rows) { (void)rows; }
INLINE void bf16_end(void) {}

INLINE float bf16_widen(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float y;
  memcpy(&y, &bits, sizeof y);
  return y;
}

INLINE void bf16_round(const float *from, size_t count, uint16_t *out) {
  apus_f32_to_bf16_portable(count, from, out);
  memset(out + count, 0, (APUS_BF16_DEPTH - count % APUS_BF16_DEPTH) % APUS_BF16_DEPTH * sizeof *out);
}

static void bf16_products(const uint16_t *a, const uint16_t *b, size_t depth, size_t rows, float *sums, int first) {
  for (size_t i = 0; i < rows; i++, a += BF16_PIECE, sums += BF16_NR) {
    float acc[BF16_NR] = {0};
    if (!first) memcpy(acc, sums, sizeof acc);
    for (size_t k = 0; k < depth; k += 2) {
      const float even = bf16_widen(a[k]), odd = bf16_widen(a[k + 1]);
      const uint16_t *pairs = b + k * BF16_NR;
      for (size_t j = 0; j < BF16_NR; j++) {
        acc[j] += odd * bf16_widen(pairs[2 * j + 1]);
        acc[j] += even * bf16_widen(pairs[2 * j]);
      }
    }
    memcpy(sums, acc, sizeof acc);
  }
}
