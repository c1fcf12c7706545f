// The vector vocabulary without any instruction set of its own: four float32 lanes in the compiler's vector types,
// which become SSE2 on x86-64 and NEON on AArch64. See simd_avx512.h for what each name means.
#pragma once
#include "simd_common.h"

#define APUS_(name) APUS_JOIN(name, _portable)
#if defined(__ARM_FEATURE_FMA) || defined(__FMA__)
#define APUS_HAS_FMA 1
#else
#define APUS_HAS_FMA 0
#endif
#define APUS_LANES 4
#define APUS_HAS_TABLES 0
enum { VL = APUS_LANES };

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint8_t vraw __attribute__((ext_vector_type(16)));
typedef vi vm;

INLINE vm v_mask_first(size_t n) { return (vi){n > 0 ? -1 : 0, n > 1 ? -1 : 0, n > 2 ? -1 : 0, n > 3 ? -1 : 0}; }
INLINE vf v_set1(float x) { return (vf){x, x, x, x}; }
INLINE vi v_set1_i(int32_t x) { return (vi){x, x, x, x}; }
INLINE vf v_load(const float *p) {
  vf x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
INLINE void v_store(float *p, vf x) { __builtin_memcpy(p, &x, sizeof x); }
INLINE vf v_load_n(const float *p, size_t n) {
  vf x = {0, 0, 0, 0};
  __builtin_memcpy(&x, p, n * sizeof(float));
  return x;
}
INLINE vf v_load_where(const float *p, vm m) {
  vf x = {0, 0, 0, 0};
  for (int i = 0; i < VL; i++)
    if (m[i]) x[i] = p[i];
  return x;
}
INLINE void v_store_n(float *p, vf x, size_t n) { __builtin_memcpy(p, &x, n * sizeof(float)); }

INLINE vraw v_load_bytes(const void *p, size_t bytes) {
  vraw x = 0;
  memcpy(&x, p, bytes);
  return x;
}
INLINE void v_store_bytes(void *p, vraw x, size_t bytes) { memcpy(p, &x, bytes); }

INLINE vf v_select(vm m, vf yes, vf no) { return (vf)((m & (vi)yes) | (~m & (vi)no)); }
INLINE vi v_select_i(vm m, vi yes, vi no) { return (m & yes) | (~m & no); }
INLINE vm v_lt(vf a, vf b) { return a < b; }
INLINE vm v_le(vf a, vf b) { return a <= b; }
INLINE vm v_eq(vf a, vf b) { return a == b; }
INLINE vm v_is_nan(vf a) { return a != a; }
INLINE int v_any(vm m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }

#if APUS_HAS_FMA
INLINE vf v_fma(vf a, vf b, vf c) { return __builtin_elementwise_fma(a, b, c); }
INLINE vf v_fnma(vf a, vf b, vf c) { return __builtin_elementwise_fma(-a, b, c); }
#else
// Without the instruction a fused product would be a library call per lane: product and sum round apart.
INLINE vf v_fma(vf a, vf b, vf c) { return a * b + c; }
INLINE vf v_fnma(vf a, vf b, vf c) { return c - a * b; }
#endif
INLINE vf v_min(vf a, vf b) { return v_select(a < b, a, b); }
INLINE vf v_max(vf a, vf b) { return v_select(a > b, a, b); }
INLINE vf v_sqrt(vf x) { return __builtin_elementwise_sqrt(x); }

// Adding and taking away 2^23 leaves the nearest integer; larger magnitudes are integers already, and NaN stays.
INLINE vf v_round(vf x) {
  vi sign = (vi)x & v_set1_i(INT32_MIN);
  vf magnitude = (vf)((vi)x & v_set1_i(INT32_MAX)), big = v_set1(0x1p23f);
  vf rounded = (vf)((vi)((magnitude + big) - big) | sign);
  return v_select(magnitude < big, rounded, x);
}
INLINE vf v_floor(vf x) {
  vf r = v_round(x);
  return v_select(r > x, r - v_set1(1), r);
}
INLINE vf v_ceil(vf x) {
  vf r = v_round(x), up = v_select(r < x, r + v_set1(1), r);
  return (vf)((vi)up | ((vi)x & v_set1_i(INT32_MIN)));
}
// Saturating, so that no lane is outside int32_t; NaN becomes INT32_MIN.
INLINE vi v_to_int(vf x) {
  vf r = v_round(x);
  vm fits = (r >= v_set1(-0x1p31f)) & (r < v_set1(0x1p31f));
  vi k = __builtin_convertvector(v_select(fits, r, v_set1(0)), vi);
  return v_select_i(fits, k, v_set1_i(INT32_MIN));
}
INLINE vf v_to_float(vi x) { return __builtin_convertvector(x, vf); }

INLINE vf v_ldexp(vf x, vf n) {
  vi k = v_to_int(n), half = k >> 1;
  return x * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);
}
INLINE vf v_scale(vf x, vf n) { return x * (vf)((v_to_int(n) + 127) << 23); }

// One float16 to float32 and back: subnormals by way of exact products with powers of two.
INLINE float f16_to_f32(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
  uint32_t bits;
  if (rest >= 0x7c00u << 13) {
    bits = rest + ((255u - 31u) << 23);
    if (rest > 0x7c00u << 13) bits |= 0x400000;
  } else {
    float x;
    memcpy(&x, &rest, sizeof x);
    x *= 0x1p112f;
    memcpy(&bits, &x, sizeof bits);
  }
  bits |= sign;
  float y;
  memcpy(&y, &bits, sizeof y);
  return y;
}
INLINE uint16_t f32_to_f16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x1ff));
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);  // 65520 and above
  if (magnitude < 0x38800000) {  // below 2^-14: the unit is 2^-24, and adding 1/2 makes it the last place
    float y;
    memcpy(&y, &magnitude, sizeof y);
    y += 0.5f;
    uint32_t sum;
    memcpy(&sum, &y, sizeof sum);
    return (uint16_t)(sign | (sum - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return (uint16_t)(sign | ((rounded - (112u << 23)) >> 13));
}
INLINE vf v_from_f16(const uint16_t *p) {
  return (vf){f16_to_f32(p[0]), f16_to_f32(p[1]), f16_to_f32(p[2]), f16_to_f32(p[3])};
}
INLINE void v_store_f16(uint16_t *p, vf x) {
  for (int i = 0; i < VL; i++) p[i] = f32_to_f16(x[i]);
}

INLINE void v_store_saturated(void *p, const vi *x, const int is_signed) {
  const int low = is_signed ? -128 : 0, high = is_signed ? 127 : 255;
  uint8_t *bytes = p;
  for (int v = 0; v < 4; v++) {
    for (int i = 0; i < VL; i++) *bytes++ = (uint8_t)(x[v][i] < low ? low : x[v][i] > high ? high : x[v][i]);
  }
}

INLINE vf v_gather(const float *p, vi i) {
  vf x;
  for (int k = 0; k < VL; k++) x[k] = i[k] < 0 ? 0 : p[i[k]];
  return x;
}
INLINE vf v_pick(vf a, vf b, vi i, vi present) {
  float lane[2 * VL];
  v_store(lane, a);
  v_store(lane + VL, b);
  vf x;
  for (int k = 0; k < VL; k++) x[k] = present[k] < 0 ? 0 : lane[i[k] & (2 * VL - 1)];
  return x;
}

#include "simd_shared.h"
