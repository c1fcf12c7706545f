// Binary element-wise kernels for all element types. One expression in operators serves whole vectors and, at the end,
// single elements; a vector of operands is read before its results are written, so that y may be a or b.

#define LOOP(name, type, a_whole, a_one, b_whole, b_one, expression) \
  void APUS_(apus_##name)(size_t n, const void *a_, const void *b_, void *y_) { \
    typedef type block __attribute__((ext_vector_type(4 * VL / sizeof(type)))); \
    enum { COUNT = 4 * VL / sizeof(type) }; \
    const type *as = a_, *bs = b_; \
    type *ys = y_; \
    if (n == 0) return; \
    const type a0 = *as, b0 = *bs; \
    (void)a0, (void)b0; \
    size_t i = 0; \
    for (; i + COUNT <= n; i += COUNT) { \
      block a, b; \
      a_whole; \
      b_whole; \
      const block y = expression; \
      memcpy(ys + i, &y, sizeof y); \
    } \
    for (; i < n; i++) { \
      const type a = a_one, b = b_one; \
      ys[i] = expression; \
    } \
  }
#define FORMS(op, suffix, type, expression) \
  LOOP(op##_##suffix##_vv, type, memcpy(&a, as + i, sizeof a), as[i], memcpy(&b, bs + i, sizeof b), bs[i], expression) \
  LOOP(op##_##suffix##_vs, type, memcpy(&a, as + i, sizeof a), as[i], b = (block)b0, b0, expression) \
  LOOP(op##_##suffix##_sv, type, a = (block)a0, a0, memcpy(&b, bs + i, sizeof b), bs[i], expression)

FORMS(add, f32, float, a + b)
FORMS(sub, f32, float, a - b)
FORMS(mul, f32, float, a * b)
FORMS(div, f32, float, a / b)
FORMS(min, f32, float, a != a ? a : (a < b ? a : b))
FORMS(max, f32, float, a != a ? a : (a > b ? a : b))
FORMS(add, f64, double, a + b)
FORMS(sub, f64, double, a - b)
FORMS(mul, f64, double, a * b)
FORMS(div, f64, double, a / b)
FORMS(min, f64, double, a != a ? a : (a < b ? a : b))
FORMS(max, f64, double, a != a ? a : (a > b ? a : b))
// Unsigned, so that wrapping is defined; the bits are those of signed numbers.
FORMS(add, i32, uint32_t, a + b)
FORMS(sub, i32, uint32_t, a - b)
FORMS(mul, i32, uint32_t, a * b)
FORMS(min, i32, int32_t, a < b ? a : b)
FORMS(max, i32, int32_t, a > b ? a : b)
FORMS(add, i16, uint16_t, a + b)
FORMS(sub, i16, uint16_t, a - b)
// Not as signed numbers, which two of these may overflow.
FORMS(mul, i16, uint16_t, 1u * a * b)
FORMS(add, i8, uint8_t, a + b)
FORMS(sub, i8, uint8_t, a - b)
FORMS(mul, i8, uint8_t, a * b)
FORMS(add, i64, uint64_t, a + b)
FORMS(sub, i64, uint64_t, a - b)
FORMS(mul, i64, uint64_t, a * b)
FORMS(min, i64, int64_t, a < b ? a : b)
FORMS(max, i64, int64_t, a > b ? a : b)
#undef FORMS
#define BOTH(name, type, expression) \
  LOOP(name, type, memcpy(&a, as + i, sizeof a), as[i], memcpy(&b, bs + i, sizeof b), bs[i], expression)
BOTH(max_u8_vv, uint8_t, a > b ? a : b)
BOTH(max_s8_vv, int8_t, a > b ? a : b)
#undef BOTH
#undef LOOP

// Quotients of integers by way of a float that has more digits than both together leave in doubt, so that truncating it
// is exact. Plain loops, which the compiler makes vectors of; y may be a or b.
#define QUOTIENT(name, type, wide, least, beyond) \
  void APUS_(apus_##name)(size_t n, const void *a_, const void *b_, void *y_) { \
    const type *as = a_, *bs = b_; \
    type *ys = y_; \
    _Pragma("clang loop vectorize(assume_safety) interleave(enable)") \
    for (size_t i = 0; i < n; i++) { \
      const wide q = (wide)as[i] / (wide)bs[i]; \
      ys[i] = bs[i] == 0 ? 0 : q < beyond ? (type)q : least; \
    } \
  }
QUOTIENT(div_u8_vv, uint8_t, float, 0, 256.0f)
QUOTIENT(div_i8_vv, int8_t, float, INT8_MIN, 128.0f)
QUOTIENT(div_u16_vv, uint16_t, float, 0, 65536.0f)
QUOTIENT(div_i16_vv, int16_t, float, INT16_MIN, 32768.0f)
QUOTIENT(div_u32_vv, uint32_t, double, 0, 4294967296.0)
QUOTIENT(div_i32_vv, int32_t, double, INT32_MIN, 2147483648.0)
#undef QUOTIENT

// Quotients of integers of 64 bits: blocks of numbers below 2^52 by way of float64, in which their quotients do not
// round up to a whole number that they are below; others one by one. y may be a or b.
enum { QUOTIENT_BLOCK = 64 };
#define WIDE_QUOTIENT(name, type, offset, quotient) \
  void APUS_(apus_##name)(size_t n, const void *a_, const void *b_, void *y_) { \
    const type *as = a_, *bs = b_; \
    type *ys = y_; \
    for (size_t start = 0; start < n; start += QUOTIENT_BLOCK) { \
      const size_t end = n - start < QUOTIENT_BLOCK ? n : start + QUOTIENT_BLOCK; \
      uint64_t bits = 0; \
      for (size_t i = start; i < end; i++) bits |= ((uint64_t)as[i] + offset) | ((uint64_t)bs[i] + offset); \
      if (bits >> 53 == 0) { \
        _Pragma("clang loop vectorize(assume_safety) interleave(enable)") \
        for (size_t i = start; i < end; i++) { \
          const int64_t b = (int64_t)bs[i]; \
          const double q = (double)(int64_t)as[i] / (double)(b == 0 ? 1 : b); \
          ys[i] = b == 0 ? 0 : (type)(int64_t)q; \
        } \
      } else { \
        for (size_t i = start; i < end; i++) { \
          const type a = as[i], b = bs[i]; \
          ys[i] = b == 0 ? 0 : quotient; \
        } \
      } \
    } \
  }
WIDE_QUOTIENT(div_u64_vv, uint64_t, 0, a / b)
WIDE_QUOTIENT(div_i64_vv, int64_t, (UINT64_C(1) << 52), b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b)
#undef WIDE_QUOTIENT

void APUS_(apus_accumulate_f32)(size_t n, const float *x, float *y) {
  for (size_t i = 0; i < n; i += VL) v_store_upto(y + i, v_load_upto(y + i, n - i) + v_load_upto(x + i, n - i), n - i);
}
