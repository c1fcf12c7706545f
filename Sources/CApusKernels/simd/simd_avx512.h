// The vector vocabulary for AVX-512 (F, BW, DQ, VL): sixteen float32 lanes, masks in k registers.
// Included inside an attribute push for that target, by one C file per kernel family. The same names, with the same
// meaning in every lane, are in simd_avx2.h and simd_portable.h.
#pragma once
#include "simd_common.h"

#define APUS_(name) APUS_JOIN(name, _avx512)
#define APUS_HAS_FMA 1
#define APUS_LANES 16
enum { VL = APUS_LANES };

typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));
typedef uint8_t vraw __attribute__((ext_vector_type(64)));
typedef __mmask16 vm;

INLINE vm v_mask_first(size_t n) { return (vm)((1u << n) - 1u); }  // n < VL
INLINE vf v_set1(float x) { return (vf)_mm512_set1_ps(x); }
INLINE vi v_set1_i(int32_t x) { return (vi)_mm512_set1_epi32(x); }
INLINE vf v_load(const float *p) { return (vf)_mm512_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm512_storeu_ps(p, (__m512)x); }
// Partial access touches only the first n < VL elements; the other lanes load as zero.
INLINE vf v_load_n(const float *p, size_t n) { return (vf)_mm512_maskz_loadu_ps(v_mask_first(n), p); }
// The lanes of m, at p and behind it; the other lanes touch nothing and are zero.
INLINE vf v_load_where(const float *p, vm m) { return (vf)_mm512_maskz_loadu_ps(m, p); }
INLINE void v_store_n(float *p, vf x, size_t n) { _mm512_mask_storeu_ps(p, v_mask_first(n), (__m512)x); }

// The first `bytes` <= 4 VL bytes at p, the others zero.
INLINE vraw v_load_bytes(const void *p, size_t bytes) {
  return (vraw)_mm512_maskz_loadu_epi8(~(__mmask64)0 >> (63 - (bytes - 1) % 64) & -(__mmask64)(bytes > 0), p);
}
INLINE void v_store_bytes(void *p, vraw x, size_t bytes) {
  _mm512_mask_storeu_epi8(p, ~(__mmask64)0 >> (63 - (bytes - 1) % 64) & -(__mmask64)(bytes > 0), (__m512i)x);
}

INLINE vf v_fma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE vf v_fnma(vf a, vf b, vf c) { return (vf)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c); }
// a < b ? a : b, and so b when either is NaN; likewise max.
INLINE vf v_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE vf v_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf v_sqrt(vf x) { return (vf)_mm512_sqrt_ps((__m512)x); }
INLINE vf v_round(vf x) { return (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf v_floor(vf x) { return (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
INLINE vf v_ceil(vf x) { return (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
INLINE vi v_to_int(vf x) { return (vi)_mm512_cvtps_epi32((__m512)x); }  // rounds half to even
INLINE vf v_to_float(vi x) { return (vf)_mm512_cvtepi32_ps((__m512i)x); }

INLINE vm v_lt(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
INLINE vm v_le(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ); }
INLINE vm v_eq(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ); }
INLINE vm v_is_nan(vf a) { return _mm512_cmp_ps_mask((__m512)a, (__m512)a, _CMP_UNORD_Q); }
INLINE vf v_select(vm m, vf yes, vf no) { return (vf)_mm512_mask_blend_ps(m, (__m512)no, (__m512)yes); }
INLINE vi v_select_i(vm m, vi yes, vi no) { return (vi)_mm512_mask_blend_epi32(m, (__m512i)no, (__m512i)yes); }
INLINE int v_any(vm m) { return m != 0; }

// x * 2^n for integral n in [-300, 300], rounded once.
INLINE vf v_ldexp(vf x, vf n) { return (vf)_mm512_scalef_ps((__m512)x, (__m512)n); }
// The same for integral n in [-126, 127].
INLINE vf v_scale(vf x, vf n) { return v_ldexp(x, n); }

// VL float16 values at p.
INLINE vf v_from_f16(const uint16_t *p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE void v_store_f16(uint16_t *p, vf x) {
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// 4 VL bytes at p: the integers of four vectors, saturated to bytes with a sign or without. In each lane of 128 bits
// the instructions put together what lies at its place in the four.
INLINE void v_store_saturated(void *p, const vi *x, const int is_signed) {
  const __m512i low = _mm512_packs_epi32((__m512i)x[0], (__m512i)x[1]);
  const __m512i high = _mm512_packs_epi32((__m512i)x[2], (__m512i)x[3]);
  const __m512i bytes = is_signed ? _mm512_packs_epi16(low, high) : _mm512_packus_epi16(low, high);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, bytes));
}

// The elements p[i] where i is not negative, else 0; and the same of two vectors, with i < 2 VL, where `present` is
// not negative.
INLINE vf v_gather(const float *p, vi i) {
  const __mmask16 present = _mm512_cmpge_epi32_mask((__m512i)i, _mm512_setzero_si512());
  return (vf)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), present, (__m512i)i, p, 4);
}
INLINE vf v_pick(vf a, vf b, vi i, vi present) {
  const __mmask16 mask = _mm512_cmpge_epi32_mask((__m512i)present, _mm512_setzero_si512());
  return (vf)_mm512_maskz_permutex2var_ps(mask, (__m512)a, (__m512i)i, (__m512)b);
}

#include "simd_shared.h"
