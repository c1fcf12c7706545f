// Conversions between the number types as Cast has them: plain loops, which the compiler makes vectors of. Floats to
// integers are truncated, what does not fit is the least integer of 32 or 64 bits, cut to the width.

#define CAST(name, from, to, expression) \
  void APUS_(apus_##name)(size_t n, const void *x_, void *y_) { \
    const from *xs = x_; \
    to *ys = y_; \
    _Pragma("clang loop vectorize(assume_safety) interleave(enable)") \
    for (size_t i = 0; i < n; i++) { \
      const from x = xs[i]; \
      ys[i] = (to)(expression); \
    } \
  }

// No float32 lies between -2^31 - 1 and -2^31.
#define TO_I32(x) ((x) > -2147483649.0 && (x) < 0x1p31 ? (int32_t)(x) : INT32_MIN)
#define TO_I64(x) ((x) >= -0x1p63 && (x) < 0x1p63 ? (int64_t)(x) : INT64_MIN)
#define TO_U64(x) ((x) >= 0x1p63 && (x) < 0x1p64 ? (uint64_t)(x) : (uint64_t)TO_I64(x))
#define FROM_FLOAT(from, type, TO_32) \
  CAST(from##_to_i8, type, int8_t, TO_32(x)) \
  CAST(from##_to_i16, type, int16_t, TO_32(x)) \
  CAST(from##_to_i32, type, int32_t, TO_32(x)) \
  CAST(from##_to_u32, type, uint32_t, TO_I64(x)) \
  CAST(from##_to_i64, type, int64_t, TO_I64(x)) \
  CAST(from##_to_u64, type, uint64_t, TO_U64(x))
#define TO_I32_F32(x) ((x) >= -0x1p31f && (x) < 0x1p31f ? (int32_t)(x) : INT32_MIN)
FROM_FLOAT(f32, float, TO_I32_F32)
FROM_FLOAT(f64, double, TO_I32)
CAST(f32_to_f64, float, double, x)
CAST(f64_to_f32, double, float, x)

// The nearest float, or that towards zero if it lies beyond x; its last bit says whether anything was lost.
INLINE float to_odd(double x) {
  const float nearest = (float)x;
  const double back = nearest;
  uint32_t bits;
  memcpy(&bits, &nearest, sizeof bits);
  const uint32_t beyond = __builtin_fabs(back) > __builtin_fabs(x), inexact = (back > x) | (back < x);
  bits = (bits - beyond) | inexact;
  float y;
  memcpy(&y, &bits, sizeof y);
  return y;
}
CAST(f64_to_f32_odd, double, float, to_odd(x))

#define FROM_INTEGER(from, type) \
  CAST(from##_to_f32, type, float, x) \
  CAST(from##_to_f64, type, double, x)
FROM_INTEGER(u8, uint8_t)
FROM_INTEGER(i8, int8_t)
FROM_INTEGER(u16, uint16_t)
FROM_INTEGER(i16, int16_t)
FROM_INTEGER(u32, uint32_t)
FROM_INTEGER(i32, int32_t)
FROM_INTEGER(u64, uint64_t)
FROM_INTEGER(i64, int64_t)

CAST(u8_to_i16, uint8_t, int16_t, x)
CAST(u8_to_i32, uint8_t, int32_t, x)
CAST(u8_to_i64, uint8_t, int64_t, x)
CAST(i8_to_i16, int8_t, int16_t, x)
CAST(i8_to_i32, int8_t, int32_t, x)
CAST(i8_to_i64, int8_t, int64_t, x)
CAST(u16_to_i32, uint16_t, int32_t, x)
CAST(u16_to_i64, uint16_t, int64_t, x)
CAST(i16_to_i32, int16_t, int32_t, x)
CAST(i16_to_i64, int16_t, int64_t, x)
CAST(u32_to_i64, uint32_t, int64_t, x)
CAST(i32_to_i64, int32_t, int64_t, x)
CAST(i16_to_i8, int16_t, int8_t, x)
CAST(i32_to_i8, int32_t, int8_t, x)
CAST(i64_to_i8, int64_t, int8_t, x)
CAST(i32_to_i16, int32_t, int16_t, x)
CAST(i64_to_i16, int64_t, int16_t, x)
CAST(i64_to_i32, int64_t, int32_t, x)
#undef FROM_INTEGER
#undef FROM_FLOAT
#undef TO_I32_F32
#undef TO_U64
#undef TO_I64
#undef TO_I32
#undef CAST
