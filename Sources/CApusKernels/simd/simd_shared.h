// Vector helpers that follow from the vocabulary of the instruction set, in the same words for all of them.
#pragma once

INLINE vf v_abs(vf x) { return (vf)((vi)x & v_set1_i(INT32_MAX)); }
INLINE vf v_neg(vf x) { return (vf)((vi)x ^ v_set1_i(INT32_MIN)); }
INLINE vf v_copysign(vf magnitude, vf sign) {
  return (vf)(((vi)magnitude & v_set1_i(INT32_MAX)) | ((vi)sign & v_set1_i(INT32_MIN)));
}
INLINE vf v_zero(void) { return v_set1(0); }

// The value between lo and hi nearest to x; NaN stays NaN. As ONNX has it, hi wins when lo > hi.
INLINE vf v_clamp(vf x, vf lo, vf hi) { return v_min(hi, v_max(lo, x)); }

// Element access for a full vector (n >= VL) or a part of one.
INLINE vf v_load_upto(const float *p, size_t n) { return n >= VL ? v_load(p) : v_load_n(p, n); }
INLINE void v_store_upto(float *p, vf x, size_t n) {
  if (n >= VL) v_store(p, x);
  else v_store_n(p, x, n);
}

// Minimum and maximum in which NaN of either side wins.
INLINE vf v_min_nan(vf a, vf b) { return v_select(v_is_nan(a), a, v_min(a, b)); }
INLINE vf v_max_nan(vf a, vf b) { return v_select(v_is_nan(a), a, v_max(a, b)); }

typedef uint32_t vu __attribute__((vector_size(4 * VL)));
typedef uint16_t vh __attribute__((vector_size(2 * VL)));

// VL bfloat16 values at p.
INLINE vf v_from_bf16(const uint16_t *p) {
  vh x;
  memcpy(&x, p, sizeof x);
  return (vf)(__builtin_convertvector(x, vu) << 16);
}

// The lanes of a vector reduced to one: the upper half onto the lower until one is left.
INLINE float v_sum(vf x) {
#if APUS_LANES >= 16
  const vf eight = x + __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
#else
  const vf eight = x;
#endif
#if APUS_LANES >= 8
  typedef float quad __attribute__((vector_size(16)));
  const quad four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
#else
  const vf four = eight;
#endif
  return (four[0] + four[2]) + (four[1] + four[3]);
}
// a > b ? a : b of lanes, likewise.
INLINE float v_largest(vf x) {
#if APUS_LANES >= 16
  const vf eight = v_max(x, __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
#else
  const vf eight = x;
#endif
  typedef float quad __attribute__((ext_vector_type(4)));
#if APUS_LANES >= 8
  const quad low = __builtin_shufflevector(eight, eight, 0, 1, 2, 3);
  const quad high = __builtin_shufflevector(eight, eight, 4, 5, 6, 7), four = low > high ? low : high;
#else
  const quad four = __builtin_shufflevector(eight, eight, 0, 1, 2, 3);
#endif
  const quad turned = four.zwxy, two = four > turned ? four : turned;
  return two.x > two.y ? two.x : two.y;
}
