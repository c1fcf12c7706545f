// Comparisons, tests of bits and functions of truth values: bytes of 1 and 0 from elements of any type. Plain loops,
// which the compiler makes vectors of.

// Element i of the result depends on elements i only, so that y may be an operand of its width.
#define EACH(n, ...) \
  _Pragma("clang loop vectorize(assume_safety) interleave(enable)") \
  for (size_t i = 0; i < n; i++) __VA_ARGS__

#define COMPARE(name, type, expression) \
  void APUS_(apus_##name)(size_t n, const void *a_, const void *b_, uint8_t *y, apus_operands operands) { \
    const type *as = a_, *bs = b_; \
    if (n == 0) return; \
    if (operands == APUS_ONE_A) { \
      const type a = *as; \
      EACH(n, { \
        const type b = bs[i]; \
        y[i] = expression; \
      }) \
    } else if (operands == APUS_ONE_B) { \
      const type b = *bs; \
      EACH(n, { \
        const type a = as[i]; \
        y[i] = expression; \
      }) \
    } else { \
      EACH(n, { \
        const type a = as[i], b = bs[i]; \
        y[i] = expression; \
      }) \
    } \
  }
#define ORDER(suffix, type) \
  COMPARE(lt_##suffix, type, a < b) \
  COMPARE(le_##suffix, type, a <= b)
#define EVERY(suffix, type) \
  ORDER(suffix, type) \
  COMPARE(eq_##suffix, type, a == b)

EVERY(f32, float)
EVERY(f64, double)
EVERY(i8, int8_t)
EVERY(i16, int16_t)
EVERY(i32, int32_t)
EVERY(i64, int64_t)
ORDER(u8, uint8_t)
ORDER(u16, uint16_t)
ORDER(u32, uint32_t)
ORDER(u64, uint64_t)

// Floats of 16 bits by their bits: without the sign, numbers are in the order of their codes up to infinity.
INLINE int16_t key16(uint16_t x) { return (int16_t)(x & 0x8000 ? -(x & 0x7fff) : x); }
INLINE int nan16(uint16_t x, uint16_t infinity) { return (x & 0x7fff) > infinity; }
#define HALVES(suffix, infinity) \
  COMPARE(lt_##suffix, uint16_t, (key16(a) < key16(b)) & !(nan16(a, infinity) | nan16(b, infinity))) \
  COMPARE(le_##suffix, uint16_t, (key16(a) <= key16(b)) & !(nan16(a, infinity) | nan16(b, infinity))) \
  COMPARE(eq_##suffix, uint16_t, (key16(a) == key16(b)) & !(nan16(a, infinity) | nan16(b, infinity)))
HALVES(f16, 0x7c00)
HALVES(bf16, 0x7f80)
#undef HALVES

COMPARE(and_bool, uint8_t, (a != 0) & (b != 0))
COMPARE(or_bool, uint8_t, (a | b) != 0)
COMPARE(xor_bool, uint8_t, (a != 0) ^ (b != 0))
COMPARE(eq_bool, uint8_t, (a != 0) == (b != 0))
#undef EVERY
#undef ORDER
#undef COMPARE

// A function of its own for arguments of the width: cut from wider ones in place, they would widen the comparison.
#define IN_RANGE(width, type) \
  static __attribute__((noinline)) void in_range_##width(size_t n, const type *x, uint8_t *y, type mask, type low, \
                                                         type span) { \
    EACH(n, { \
      const type distance = (type)((type)(x[i] & mask) - low); \
      y[i] = distance <= span; \
    }) \
  } \
  void APUS_(apus_in_range_##width)(size_t n, const void *x, uint8_t *y, uint64_t mask, uint64_t low, uint64_t span) { \
    in_range_##width(n, x, y, (type)mask, (type)low, (type)span); \
  }
IN_RANGE(1, uint8_t)
IN_RANGE(2, uint16_t)
IN_RANGE(4, uint32_t)
IN_RANGE(8, uint64_t)
#undef IN_RANGE

#define SELECT(width, type) \
  void APUS_(apus_select_##width)(size_t n, const uint8_t *condition, const void *a_, const void *b_, void *y_) { \
    const type *as = a_, *bs = b_; \
    type *y = y_; \
    EACH(n, { \
      const type a = as[i], b = bs[i]; \
      y[i] = condition[i] ? a : b; \
    }) \
  }
SELECT(1, uint8_t)
SELECT(2, uint16_t)
SELECT(4, uint32_t)
SELECT(8, uint64_t)
#undef SELECT
#undef EACH

// Each row is written in whole vectors, over what the one before has left behind its end: rows come in ascending order.
#define EXPAND(width, type) \
  void APUS_(apus_expand_##width)(size_t rows, size_t length, const void *x_, ptrdiff_t row_stride, int moves, \
                                  void *y_) { \
    typedef type block __attribute__((vector_size(EXPAND_BYTES))); \
    enum { COUNT = EXPAND_BYTES / width }; \
    const type *x = x_; \
    type *y = y_; \
    for (size_t r = 0; r < rows; r++, x += row_stride, y += length) { \
      if (!moves) { \
        const block one = *x - (block){0}; \
        for (size_t i = 0; i < length; i += COUNT) memcpy(y + i, &one, sizeof one); \
      } else { \
        size_t i = 0; \
        for (; i + COUNT <= length; i += COUNT) memcpy(y + i, x + i, sizeof(block)); \
        for (; i < length; i++) y[i] = x[i]; \
      } \
    } \
  }
enum { EXPAND_BYTES = 4 * VL };
EXPAND(1, uint8_t)
EXPAND(2, uint16_t)
EXPAND(4, uint32_t)
EXPAND(8, uint64_t)
#undef EXPAND
