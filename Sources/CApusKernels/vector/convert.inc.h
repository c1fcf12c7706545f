// Conversions between float32 and the 16-bit floats, and quantization to and from 8-bit integers.

#include "../quantized/quotient.inc.h"

typedef uint8_t vb __attribute__((vector_size(VL)));
typedef int8_t vsb __attribute__((vector_size(VL)));

// Runs `body` over blocks of VL elements; the last block goes through zero-filled copies, so that a body is always
// whole.
#define BLOCKS(n, from_type, to_type, body) \
  { \
    const from_type *source_ = x_; \
    to_type *target_ = y_; \
    size_t i_ = 0; \
    for (; i_ + VL <= n; i_ += VL) { \
      const from_type *from = source_ + i_; \
      to_type *to = target_ + i_; \
      body \
    } \
    if (i_ < n) { \
      from_type from[VL] = {0}; \
      to_type to[VL]; \
      memcpy(from, source_ + i_, (n - i_) * sizeof *from); \
      body \
      memcpy(target_ + i_, to, (n - i_) * sizeof *to); \
    } \
  }

INLINE void store_half(uint16_t *p, vh x) { memcpy(p, &x, sizeof x); }

void APUS_(apus_bf16_to_f32)(size_t n, const void *x_, void *y_) {
  BLOCKS(n, uint16_t, float, { v_store(to, v_from_bf16(from)); })
}

// Adding just under half of the dropped part, plus its lowest kept bit, rounds half to even; NaN is made quiet instead.
INLINE vh v_to_bf16(vf x) {
  const vi bits = (vi)x, odd = (bits >> 16) & 1;
  const vi rounded = (vi)((vu)bits + (vu)(odd + 0x7fff));
  const vi kept = v_select_i(v_is_nan(x), bits | 0x400000, rounded);
  return __builtin_convertvector((vu)kept >> 16, vh);
}
void APUS_(apus_f32_to_bf16)(size_t n, const void *x_, void *y_) {
  BLOCKS(n, float, uint16_t, { store_half(to, v_to_bf16(v_load(from))); })
}

void APUS_(apus_f16_to_f32)(size_t n, const void *x_, void *y_) {
  BLOCKS(n, uint16_t, float, { v_store(to, v_from_f16(from)); })
}
void APUS_(apus_f32_to_f16)(size_t n, const void *x_, void *y_) {
  BLOCKS(n, float, uint16_t, { v_store_f16(to, v_load(from)); })
}

typedef int16_t vsh __attribute__((vector_size(2 * VL)));

// A block of `type` at an address of any alignment, as integers of 32 bits.
#define INTEGERS(vector, from) \
  ({ \
    vector codes_; \
    memcpy(&codes_, from, sizeof codes_); \
    __builtin_convertvector(codes_, vi); \
  })

#define DEQUANTIZE(name, type, vector) \
  void APUS_(apus_dequantize_##name)(size_t n, const void *x_, float *y_, float scale, int32_t zero) { \
    const vf s = v_set1(scale); \
    BLOCKS(n, type, float, { v_store(to, v_to_float(INTEGERS(vector, from) - zero) * s); }) \
  } \
  void APUS_(apus_dequantize_each_##name)(size_t n, const void *x_, float *y, const float *scales, \
                                          const void *zeros_) { \
    const type *x = x_, *zeros = zeros_; \
    size_t i = 0; \
    for (; i + VL <= n; i += VL) { \
      vi q = INTEGERS(vector, x + i); \
      if (zeros) q -= INTEGERS(vector, zeros + i); \
      v_store(y + i, v_to_float(q) * v_load(scales + i)); \
    } \
    for (; i < n; i++) y[i] = (float)((int32_t)x[i] - (zeros ? (int32_t)zeros[i] : 0)) * scales[i]; \
  }
DEQUANTIZE(u8, uint8_t, vb)
DEQUANTIZE(s8, int8_t, vsb)
DEQUANTIZE(u16, uint16_t, vh)
DEQUANTIZE(s16, int16_t, vsh)
#undef DEQUANTIZE

void APUS_(apus_dequantize_i32)(size_t n, const void *x_, float *y_, float scale, int32_t zero) {
  const vf s = v_set1(scale);
  BLOCKS(n, int32_t, float, { v_store(to, v_to_float(INTEGERS(vi, from) - zero) * s); })
}

// Bounded before the conversion to integer; the bounds are whole numbers, so this is saturation. NaN becomes lo.
INLINE vi v_saturated(vf quotient, vf zero, float lo, float hi) {
  return v_to_int(v_min(v_set1(hi), v_max(v_round(quotient) + zero, v_set1(lo))));
}

// Four vectors at a time to codes of 8 bits; returns how many are done. What is beyond the bounds is saturated with the
// integers: a float beyond those becomes the least one, as NaN does.
INLINE size_t quantize_groups(size_t n, const float *x, uint8_t *y, float scale, int32_t zero, const int is_signed) {
  const vf s = v_set1(scale), z = v_set1((float)zero), high = v_set1(is_signed ? 127 : 255);
  const vf inverse = v_quotient_inverse(scale), reach = v_set1(v_quotient_reach(scale));
  size_t i = 0;
  for (; i + 4 * VL <= n; i += 4 * VL) {
    vi codes[4];
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++)
      codes[v] = v_to_int(v_min(high, v_round(v_quotient(v_load(x + i + v * VL), s, inverse, reach)) + z));
    v_store_saturated(y + i, codes, is_signed);
  }
  return i;
}

#define QUANTIZE(name, type, vector, lo, hi) \
  void APUS_(apus_quantize_##name)(size_t n, const float *x_, void *y_, float scale, int32_t zero) { \
    if (sizeof(type) == 1) { \
      const size_t done = quantize_groups(n, x_, y_, scale, zero, lo < 0); \
      n -= done, x_ += done, y_ = (type *)y_ + done; \
    } \
    const vf s = v_set1(scale), z = v_set1((float)zero); \
    BLOCKS(n, float, type, { \
      const vector q = __builtin_convertvector(v_saturated(v_load(from) / s, z, lo, hi), vector); \
      memcpy(to, &q, sizeof q); \
    }) \
  } \
  void APUS_(apus_quantize_each_##name)(size_t n, const float *x, void *y_, const float *scales, \
                                        const void *zeros_) { \
    const type *zeros = zeros_; \
    type *y = y_; \
    size_t i = 0; \
    for (; i + VL <= n; i += VL) { \
      const vf z = zeros ? v_to_float(INTEGERS(vector, zeros + i)) : v_zero(); \
      const vf quotient = v_load(x + i) / v_load(scales + i); \
      const vector q = __builtin_convertvector(v_saturated(quotient, z, lo, hi), vector); \
      memcpy(y + i, &q, sizeof q); \
    } \
    if (i < n) { \
      float last[VL] = {0}, divisors[VL] = {0}; \
      type own[VL] = {0}, result[VL]; \
      memcpy(last, x + i, (n - i) * sizeof *x); \
      memcpy(divisors, scales + i, (n - i) * sizeof *scales); \
      if (zeros) memcpy(own, zeros + i, (n - i) * sizeof *own); \
      const vf z = v_to_float(INTEGERS(vector, own)), quotient = v_load(last) / v_load(divisors); \
      const vector q = __builtin_convertvector(v_saturated(quotient, z, lo, hi), vector); \
      memcpy(result, &q, sizeof q); \
      memcpy(y + i, result, (n - i) * sizeof *y); \
    } \
  }
QUANTIZE(u8, uint8_t, vb, 0, 255)
QUANTIZE(s8, int8_t, vsb, -128, 127)
QUANTIZE(u16, uint16_t, vh, 0, 65535)
QUANTIZE(s16, int16_t, vsh, -32768, 32767)
#undef QUANTIZE
#undef INTEGERS
