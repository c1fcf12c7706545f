// The vector vocabulary for AVX2 with FMA: eight float32 lanes. See simd_avx512.h for what each name means.
#pragma once
#include "simd_common.h"

#define APUS_(name) APUS_JOIN(name, _avx2)
#define APUS_HAS_FMA 1
#define APUS_LANES 8
enum { VL = APUS_LANES };

typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));
typedef uint8_t vraw __attribute__((ext_vector_type(32)));
typedef vi vm;  // all ones or all zeros in each lane

static const int32_t mask_source[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

INLINE vm v_mask_first(size_t n) { return (vm)_mm256_loadu_si256((const __m256i *)(mask_source + 8 - n)); }
INLINE vf v_set1(float x) { return (vf)_mm256_set1_ps(x); }
INLINE vi v_set1_i(int32_t x) { return (vi)_mm256_set1_epi32(x); }
INLINE vf v_load(const float *p) { return (vf)_mm256_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm256_storeu_ps(p, (__m256)x); }
INLINE vf v_load_n(const float *p, size_t n) { return (vf)_mm256_maskload_ps(p, (__m256i)v_mask_first(n)); }
INLINE vf v_load_where(const float *p, vm m) { return (vf)_mm256_maskload_ps(p, (__m256i)m); }
INLINE void v_store_n(float *p, vf x, size_t n) { _mm256_maskstore_ps(p, (__m256i)v_mask_first(n), (__m256)x); }

// Masks count in four bytes; what is no multiple of them goes through memory.
INLINE vraw v_load_bytes(const void *p, size_t bytes) {
  if (bytes % 4 == 0) return (vraw)_mm256_maskload_epi32(p, (__m256i)v_mask_first(bytes / 4));
  vraw x = 0;
  memcpy(&x, p, bytes);
  return x;
}
INLINE void v_store_bytes(void *p, vraw x, size_t bytes) {
  if (bytes % 4 == 0) _mm256_maskstore_epi32(p, (__m256i)v_mask_first(bytes / 4), (__m256i)x);
  else memcpy(p, &x, bytes);
}

INLINE vf v_fma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE vf v_fnma(vf a, vf b, vf c) { return (vf)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE vf v_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE vf v_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf v_sqrt(vf x) { return (vf)_mm256_sqrt_ps((__m256)x); }
INLINE vf v_round(vf x) { return (vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vf v_floor(vf x) { return (vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
INLINE vf v_ceil(vf x) { return (vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
INLINE vi v_to_int(vf x) { return (vi)_mm256_cvtps_epi32((__m256)x); }
INLINE vf v_to_float(vi x) { return (vf)_mm256_cvtepi32_ps((__m256i)x); }

INLINE vm v_lt(vf a, vf b) { return (vm)_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LT_OQ); }
INLINE vm v_le(vf a, vf b) { return (vm)_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LE_OQ); }
INLINE vm v_eq(vf a, vf b) { return (vm)_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_EQ_OQ); }
INLINE vm v_is_nan(vf a) { return (vm)_mm256_cmp_ps((__m256)a, (__m256)a, _CMP_UNORD_Q); }
INLINE vf v_select(vm m, vf yes, vf no) { return (vf)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)m); }
INLINE vi v_select_i(vm m, vi yes, vi no) { return (vi)_mm256_blendv_epi8((__m256i)no, (__m256i)yes, (__m256i)m); }
INLINE int v_any(vm m) { return _mm256_movemask_ps((__m256)m) != 0; }

// In two steps, so that each factor is a normal number and only the second product can round.
INLINE vf v_ldexp(vf x, vf n) {
  vi k = v_to_int(n), half = k >> 1;
  return x * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);
}
INLINE vf v_scale(vf x, vf n) { return x * (vf)((v_to_int(n) + 127) << 23); }

INLINE vf v_from_f16(const uint16_t *p) { return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
INLINE void v_store_f16(uint16_t *p, vf x) {
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
}

INLINE void v_store_saturated(void *p, const vi *x, const int is_signed) {
  const __m256i low = _mm256_packs_epi32((__m256i)x[0], (__m256i)x[1]);
  const __m256i high = _mm256_packs_epi32((__m256i)x[2], (__m256i)x[3]);
  const __m256i bytes = is_signed ? _mm256_packs_epi16(low, high) : _mm256_packus_epi16(low, high);
  _mm256_storeu_si256((__m256i *)p, _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

INLINE vf v_gather(const float *p, vi i) {
  const __m256 present = (__m256)(i >= 0);
  return (vf)_mm256_mask_i32gather_ps(_mm256_setzero_ps(), p, (__m256i)i, present, 4);
}
INLINE vf v_pick(vf a, vf b, vi i, vi present) {
  const __m256 low = _mm256_permutevar8x32_ps((__m256)a, (__m256i)i);
  const __m256 high = _mm256_permutevar8x32_ps((__m256)b, (__m256i)i);
  return (vf)_mm256_and_ps(_mm256_blendv_ps(low, high, (__m256)(i >= 8)), (__m256)(present >= 0));
}

#include "simd_shared.h"
