// Packing of B for the float32 GEMM: panels of NR columns, rows in (tap, k) order, zeros beyond the last column.
// Included after gemm_f32.inc.h, which defines NR.

typedef float unaligned_float __attribute__((aligned(1)));

void APUS_(apus_gemm_f32_pack)(const apus_gemm_source *s, float *packed, size_t p0, size_t p1) {
  enum { BLOCK = 32 };  // rows of a block that stays in the first-level cache while columns are gathered
  const size_t last = apus_gemm_panels(s->n, NR), depth = s->taps * s->kc;
  if (p1 > last) p1 = last;
  for (size_t p = p0; p < p1; p++) {
    const size_t columns = s->n - p * NR < NR ? s->n - p * NR : NR;
    const unaligned_float *source = (const unaligned_float *)s->b + (ptrdiff_t)(p * NR) * s->stride_n;
    float *out = packed + p * depth * NR;
    if (columns < NR) memset(out, 0, depth * NR * sizeof(float));
    for (size_t t = 0; t < s->taps; t++, source += s->stride_tap, out += s->kc * NR) {
      if (s->stride_n == 1) {
        for (size_t k = 0; k < s->kc; k++)
          memcpy(out + k * NR, source + (ptrdiff_t)k * s->stride_k, columns * sizeof(float));
        continue;
      }
      for (size_t k0 = 0; k0 < s->kc; k0 += BLOCK) {
        const size_t k1 = s->kc - k0 < BLOCK ? s->kc : k0 + BLOCK;
        for (size_t j = 0; j < columns; j++) {
          const unaligned_float *from = source + (ptrdiff_t)j * s->stride_n;
          for (size_t k = k0; k < k1; k++) out[k * NR + j] = from[(ptrdiff_t)k * s->stride_k];
        }
      }
    }
  }
}
