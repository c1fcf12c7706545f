// Conversions between float32 and the 16-bit floats, and quantization to and from 8-bit integers.

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

#define DEQUANTIZE(name, type, vector) \
  void APUS_(apus_dequantize_##name)(size_t n, const void *x_, float *y_, float scale, int32_t zero) { \
    const vf s = v_set1(scale); \
    BLOCKS(n, type, float, { \
      vector q; \
      memcpy(&q, from, sizeof q); \
      v_store(to, v_to_float(__builtin_convertvector(q, vi) - zero) * s); \
    }) \
  }
DEQUANTIZE(u8, uint8_t, vb)
DEQUANTIZE(s8, int8_t, vsb)
DEQUANTIZE(i32, int32_t, vi)
#undef DEQUANTIZE

// Bounded before the conversion to integer; the bounds are whole numbers, so this is saturation. NaN becomes lo.
INLINE vi v_quantize(vf x, vf scale, vf zero, float lo, float hi) {
  return v_to_int(v_min(v_set1(hi), v_max(v_round(x / scale) + zero, v_set1(lo))));
}
#define QUANTIZE(name, type, vector, lo, hi) \
  void APUS_(apus_quantize_##name)(size_t n, const float *x_, void *y_, float scale, int32_t zero) { \
    const vf s = v_set1(scale), z = v_set1((float)zero); \
    BLOCKS(n, float, type, { \
      const vector q = __builtin_convertvector(v_quantize(v_load(from), s, z, lo, hi), vector); \
      memcpy(to, &q, sizeof q); \
    }) \
  }
QUANTIZE(u8, uint8_t, vb, 0, 255)
QUANTIZE(s8, int8_t, vsb, -128, 127)
#undef QUANTIZE
