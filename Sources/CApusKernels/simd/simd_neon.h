// The vector vocabulary for NEON as every AArch64 machine has it: four float32 lanes. See simd_avx512.h for what each
// name means. Sums, products and comparisons are those of simd_portable.h, which has as many lanes: the compiler makes
// of them what can be made; here is what it cannot find out.
#pragma once
#include "simd_common.h"

#define APUS_(name) APUS_JOIN(name, _neon)
#define APUS_HAS_FMA 1
#define APUS_LANES 4
#define APUS_HAS_TABLES 1  // v_table_bytes
enum { VL = APUS_LANES };

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint8_t vraw __attribute__((ext_vector_type(16)));
typedef vi vm;  // all ones or all zeros in each lane

INLINE vm v_mask_first(size_t n) { return (vi){0, 1, 2, 3} < (vi)vdupq_n_s32((int32_t)n); }
INLINE vf v_set1(float x) { return (vf)vdupq_n_f32(x); }
INLINE vi v_set1_i(int32_t x) { return (vi)vdupq_n_s32(x); }
INLINE vf v_load(const float *p) { return (vf)vld1q_f32(p); }
INLINE void v_store(float *p, vf x) { vst1q_f32(p, (float32x4_t)x); }

// Parts of a vector by halves: there are no masks in memory.
INLINE vf v_load_n(const float *p, size_t n) {
  const float32x2_t none = vdup_n_f32(0);
  const float32x2_t low = n >= 2 ? vld1_f32(p) : n ? vld1_lane_f32(p, none, 0) : none;
  return (vf)vcombine_f32(low, n == 3 ? vld1_lane_f32(p + 2, none, 0) : none);
}
INLINE vf v_load_where(const float *p, vm m) {
  if (vminvq_u32((uint32x4_t)m)) return v_load(p);
  vf x = {0, 0, 0, 0};
#pragma clang loop unroll(full)
  for (int i = 0; i < VL; i++)
    if (m[i]) x[i] = p[i];
  return x;
}
INLINE void v_store_n(float *p, vf x, size_t n) {
  const float32x4_t lanes = (float32x4_t)x;
  if (n >= 2) vst1_f32(p, vget_low_f32(lanes));
  if (n == 3) vst1q_lane_f32(p + 2, lanes, 2);
  if (n == 1) vst1q_lane_f32(p, lanes, 0);
}

// Up to eight bytes as a number, by two loads that overlap.
INLINE uint64_t v_load_word(const uint8_t *p, size_t bytes) {
  if (bytes >= 4) {
    uint32_t first, last;
    memcpy(&first, p, 4);
    memcpy(&last, p + bytes - 4, 4);
    return first | (uint64_t)last << (8 * (bytes - 4));
  }
  if (bytes == 0) return 0;
  return p[0] | (uint64_t)p[bytes / 2] << (8 * (bytes / 2)) | (uint64_t)p[bytes - 1] << (8 * (bytes - 1));
}
INLINE vraw v_load_bytes(const void *p, size_t bytes) {
  const uint8_t *from = p;
  if (bytes == 16) return (vraw)vld1q_u8(from);
  const size_t low = bytes < 8 ? bytes : 8;
  const uint64_t first = v_load_word(from, low), second = v_load_word(from + low, bytes - low);
  return (vraw)vcombine_u64(vcreate_u64(first), vcreate_u64(second));
}
INLINE void v_store_bytes(void *p, vraw x, size_t bytes) {
  uint8_t *to = p;
  if (bytes == 16) {
    vst1q_u8(to, (uint8x16_t)x);
    return;
  }
  const uint64x2_t words = (uint64x2_t)x;
  uint64_t left = vgetq_lane_u64(words, 0);
  if (bytes & 8) {
    memcpy(to, &left, 8);
    to += 8, left = vgetq_lane_u64(words, 1);
  }
  if (bytes & 4) {
    memcpy(to, &left, 4);
    to += 4, left >>= 32;
  }
  if (bytes & 2) {
    memcpy(to, &left, 2);
    to += 2, left >>= 16;
  }
  if (bytes & 1) *to = (uint8_t)left;
}

INLINE vf v_fma(vf a, vf b, vf c) { return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE vf v_fnma(vf a, vf b, vf c) { return (vf)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE vf v_select(vm m, vf yes, vf no) {
  return (vf)vbslq_f32((uint32x4_t)m, (float32x4_t)yes, (float32x4_t)no);
}
INLINE vi v_select_i(vm m, vi yes, vi no) { return (vi)vbslq_s32((uint32x4_t)m, (int32x4_t)yes, (int32x4_t)no); }
INLINE vm v_lt(vf a, vf b) { return a < b; }
INLINE vm v_le(vf a, vf b) { return a <= b; }
INLINE vm v_eq(vf a, vf b) { return a == b; }
INLINE vm v_is_nan(vf a) { return a != a; }
INLINE int v_any(vm m) { return vmaxvq_u32((uint32x4_t)m) != 0; }
// FMIN and FMAX treat NaN and zeros of different signs in ways of their own.
INLINE vf v_min(vf a, vf b) { return v_select(a < b, a, b); }
INLINE vf v_max(vf a, vf b) { return v_select(a > b, a, b); }
INLINE vf v_sqrt(vf x) { return (vf)vsqrtq_f32((float32x4_t)x); }
INLINE vf v_round(vf x) { return (vf)vrndnq_f32((float32x4_t)x); }
INLINE vf v_floor(vf x) { return (vf)vrndmq_f32((float32x4_t)x); }
INLINE vf v_ceil(vf x) { return (vf)vrndpq_f32((float32x4_t)x); }
// FCVTNS saturates, and makes 0 of NaN.
INLINE vi v_to_int(vf x) {
  return v_select_i(x < v_set1(0x1p31f), (vi)vcvtnq_s32_f32((float32x4_t)x), v_set1_i(INT32_MIN));
}
INLINE vf v_to_float(vi x) { return (vf)vcvtq_f32_s32((int32x4_t)x); }

// In two steps, so that each factor is a normal number and only the second product can round. Where n is NaN, so is x.
INLINE vf v_ldexp(vf x, vf n) {
  const vi k = (vi)vcvtnq_s32_f32((float32x4_t)n), half = k >> 1;
  return x * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);
}
INLINE vf v_scale(vf x, vf n) { return x * (vf)(((vi)vcvtnq_s32_f32((float32x4_t)n) + 127) << 23); }

INLINE vf v_from_f16(const uint16_t *p) { return (vf)vcvt_f32_f16((float16x4_t)vld1_u16(p)); }
INLINE void v_store_f16(uint16_t *p, vf x) { vst1_u16(p, (uint16x4_t)vcvt_f16_f32((float32x4_t)x)); }

INLINE void v_store_saturated(void *p, const vi *x, const int is_signed) {
  const int16x8_t low = vqmovn_high_s32(vqmovn_s32((int32x4_t)x[0]), (int32x4_t)x[1]);
  const int16x8_t high = vqmovn_high_s32(vqmovn_s32((int32x4_t)x[2]), (int32x4_t)x[3]);
  if (is_signed) vst1q_s8(p, vqmovn_high_s16(vqmovn_s16(low), high));
  else vst1q_u8(p, vqmovun_high_s16(vqmovun_s16(low), high));
}

INLINE vf v_gather(const float *p, vi i) {
  vf x;
#pragma clang loop unroll(full)
  for (int k = 0; k < VL; k++) x[k] = i[k] < 0 ? 0 : p[i[k]];
  return x;
}
// The bytes of lane i are 4i to 4i + 3 of a table of bytes.
INLINE uint8x16_t v_table_bytes(vi i) { return (uint8x16_t)(i * 0x04040404 + 0x03020100); }
INLINE vf v_pick(vf a, vf b, vi i, vi present) {
  const uint8x16x2_t table = {{(uint8x16_t)a, (uint8x16_t)b}};
  return (vf)((vi)vqtbl2q_u8(table, v_table_bytes(i & (2 * VL - 1))) & (present >= 0));
}

#include "simd_shared.h"
