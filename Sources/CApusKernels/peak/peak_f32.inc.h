// The most float32 multiply-adds that there are: independent chains in registers, enough of them to hide the latency.

double APUS_(apus_peak_f32)(size_t rounds) {
  enum { CHAINS = 12 };
  // Read anew, so that nothing is computed beforehand. Each chain tends to 1, so no operand is subnormal.
  static const volatile float factor = 0.5f;
  static volatile float sink;
  const vf a = v_set1(factor), b = v_set1(factor);
  vf chains[CHAINS];
  for (int i = 0; i < CHAINS; i++) chains[i] = v_set1((float)i);
  for (size_t round = 0; round < rounds; round++) {
#pragma clang loop unroll(full)
    for (int i = 0; i < CHAINS; i++) chains[i] = v_fma(chains[i], a, b);
  }
  vf sum = chains[0];
  for (int i = 1; i < CHAINS; i++) sum += chains[i];
  sink = sum[0];
  (void)sink;
  return 2.0 * CHAINS * VL * (double)rounds;
}
