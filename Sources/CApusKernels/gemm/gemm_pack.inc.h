// Packing of B for the float32 GEMM: panels of NR columns, rows in (tap, k) order, zeros beyond the last column.
// Included after gemm_f32.inc.h, which defines NR and GEMM_B, with PACK_NAME and PACK_TRANSPOSE, the kernel for
// elements of that width.

typedef GEMM_B unaligned_element __attribute__((aligned(1)));

// From [n][c][taps], whose rows are contiguous: a stretch of a few channels is transposed whole, then its rows, which
// are in (channel, tap) order, are dealt out.
static void pack_convolution(const apus_gemm_source *s, const unaligned_element *source, GEMM_B *out, size_t columns) {
  enum { STRETCH = 128 };
  GEMM_B turned[STRETCH * NR];
  const size_t channels = STRETCH / s->taps;
  for (size_t c0 = 0; c0 < s->kc; c0 += channels) {
    const size_t count = s->kc - c0 < channels ? s->kc - c0 : channels;
    APUS_(PACK_TRANSPOSE)(columns, count * s->taps, source + c0 * s->taps, s->stride_n, turned, NR);
    for (size_t c = 0; c < count; c++)
      for (size_t t = 0; t < s->taps; t++)
        memcpy(out + (t * s->kc + c0 + c) * NR, turned + (c * s->taps + t) * NR, columns * sizeof(GEMM_B));
  }
}

static void pack_tap(const apus_gemm_source *s, const unaligned_element *source, GEMM_B *out, size_t columns) {
  if (s->stride_k == 1) {
    APUS_(PACK_TRANSPOSE)(columns, s->kc, source, s->stride_n, out, NR);
  } else if (s->stride_n == 1 && columns == NR) {
    for (size_t k = 0; k < s->kc; k++) memcpy(out + k * NR, source + (ptrdiff_t)k * s->stride_k, NR * sizeof(GEMM_B));
  } else {
    for (size_t k = 0; k < s->kc; k++)
      for (size_t j = 0; j < columns; j++)
        out[k * NR + j] = source[(ptrdiff_t)k * s->stride_k + (ptrdiff_t)j * s->stride_n];
  }
}

void APUS_(PACK_NAME)(const apus_gemm_source *s, GEMM_B *packed, size_t p0, size_t p1) {
  const size_t last = apus_gemm_panels(s->n, NR), depth = s->taps * s->kc;
  const int contiguous = s->taps > 1 && s->taps <= 128 && s->stride_tap == 1 && s->stride_k == (ptrdiff_t)s->taps;
  if (p1 > last) p1 = last;
  for (size_t p = p0; p < p1; p++) {
    const size_t columns = s->n - p * NR < NR ? s->n - p * NR : NR;
    const unaligned_element *source = (const unaligned_element *)s->b + (ptrdiff_t)(p * NR) * s->stride_n;
    GEMM_B *out = packed + p * depth * NR;
    if (columns < NR) memset(out, 0, depth * NR * sizeof(GEMM_B));
    if (contiguous) {
      pack_convolution(s, source, out, columns);
      continue;
    }
    for (size_t t = 0; t < s->taps; t++)
      pack_tap(s, source + (ptrdiff_t)t * s->stride_tap, out + t * s->kc * NR, columns);
  }
}
