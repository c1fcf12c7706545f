// The most multiply-adds of bytes into 32 bits that there are: independent chains in registers. The includer defines
// I8_VECTOR, I8_SPLAT(number), I8_DOT(sum, a, b), I8_PRODUCTS (those of one I8_DOT), I8_LANE(vector) and PEAK_NAME.

double PEAK_NAME(size_t rounds) {
  enum { CHAINS = 12 };
  // Read in every round, and multiplied with what the chain has, so that no product is like another.
  static const volatile int32_t factor = 0x01010101;
  static volatile int32_t sink;
  I8_VECTOR chains[CHAINS];
  for (int i = 0; i < CHAINS; i++) chains[i] = I8_SPLAT(i);
  for (size_t round = 0; round < rounds; round++) {
    const I8_VECTOR a = I8_SPLAT(factor);
#pragma clang loop unroll(full)
    for (int i = 0; i < CHAINS; i++) chains[i] = I8_DOT(chains[i], chains[i], a);
  }
  int32_t sum = 0;
  for (int i = 0; i < CHAINS; i++) sum ^= I8_LANE(chains[i]);
  sink = sum;
  (void)sink;
  return 2.0 * I8_PRODUCTS * CHAINS * (double)rounds;
}
