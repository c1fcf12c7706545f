// Rounding rows of A for the bfloat16 GEMM of AVX-512: 32 elements at a time.

INLINE void bf16_round(const float *from, size_t count, uint16_t *out) {
  for (; count >= 32; count -= 32, from += 32, out += 32) {
    const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + 16), _mm512_loadu_ps(from));
    _mm512_storeu_si512(out, (__m512i)x);
  }
  if (count == 0) return;
  const uint32_t there = ~(uint32_t)0 >> (32 - count);
  const __m512 low = _mm512_maskz_loadu_ps((__mmask16)there, from);
  const __m512 high = count > 16 ? _mm512_maskz_loadu_ps((__mmask16)(there >> 16), from + 16) : _mm512_setzero_ps();
  _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}
