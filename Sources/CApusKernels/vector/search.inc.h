// Where elements stand: the place of a value in rows and columns, keys to order elements of any type by, and the keys
// that lie below a bound.

// Bit l of the result is lane l of a comparison.
#define LANE_BITS(count, comparison) \
  ({ \
    typedef _Bool bits_ __attribute__((ext_vector_type(count))); \
    const bits_ b_ = __builtin_convertvector(comparison, bits_); \
    uint64_t word_ = 0; \
    memcpy(&word_, &b_, sizeof b_); \
    (count) < 64 ? word_ & (((uint64_t)1 << (count) % 64) - 1) : word_; \
  })

#define FIND(suffix, type) \
  typedef type find_##suffix##_block __attribute__((ext_vector_type(4 * VL / sizeof(type)))); \
  INLINE uint64_t find_##suffix##_hits(find_##suffix##_block x, type value) { \
    return LANE_BITS(4 * VL / sizeof(type), (x == value) | (x != x)); \
  } \
  INLINE uint64_t find_##suffix##_whole(const type *p, type value) { \
    find_##suffix##_block x; \
    memcpy(&x, p, sizeof x); \
    return find_##suffix##_hits(x, value); \
  } \
  /* n is less than a block. */ \
  INLINE uint64_t find_##suffix##_part(const type *p, size_t n, type value) { \
    return find_##suffix##_hits((find_##suffix##_block)v_load_bytes(p, n * sizeof(type)), value) & \
        (((uint64_t)1 << n) - 1); \
  } \
  static int64_t find_##suffix##_first(size_t n, const type *p, type value) { \
    enum { COUNT = 4 * VL / sizeof(type) }; \
    size_t i = 0; \
    for (; i + COUNT <= n; i += COUNT) { \
      const uint64_t hits = find_##suffix##_whole(p + i, value); \
      if (hits) return (int64_t)i + __builtin_ctzll(hits); \
    } \
    const uint64_t hits = i < n ? find_##suffix##_part(p + i, n - i, value) : 0; \
    return hits ? (int64_t)i + __builtin_ctzll(hits) : -1; \
  } \
  static int64_t find_##suffix##_last(size_t n, const type *p, type value) { \
    enum { COUNT = 4 * VL / sizeof(type) }; \
    size_t i = n - n % COUNT; \
    uint64_t hits = i < n ? find_##suffix##_part(p + i, n - i, value) : 0; \
    while (!hits && i) { \
      i -= COUNT; \
      hits = find_##suffix##_whole(p + i, value); \
    } \
    return hits ? (int64_t)i + 63 - __builtin_clzll(hits) : -1; \
  } \
  void APUS_(apus_find_rows_##suffix)(size_t rows, size_t n, const void *x_, ptrdiff_t ld, const void *values_, \
                                      bool last, int64_t *places) { \
    const type *x = x_, *values = values_; \
    for (size_t r = 0; r < rows; r++, x += ld) \
      places[r] = last ? find_##suffix##_last(n, x, values[r]) : find_##suffix##_first(n, x, values[r]); \
  } \
  void APUS_(apus_find_columns_##suffix)(size_t rows, size_t n, const void *x_, ptrdiff_t ld, const void *values_, \
                                         bool last, int64_t *restrict places) { \
    const type *restrict values = values_; \
    for (size_t j = 0; j < n; j++) places[j] = -1; \
    for (size_t k = 0; k < rows; k++) { \
      /* The hit that counts comes last. */ \
      const int64_t r = (int64_t)(last ? k : rows - 1 - k); \
      const type *restrict x = (const type *)x_ + (ptrdiff_t)r * ld; \
      for (size_t j = 0; j < n; j++) places[j] = x[j] == values[j] || x[j] != x[j] ? r : places[j]; \
    } \
  }
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wtautological-compare"
FIND(f32, float)
FIND(f64, double)
FIND(i8, uint8_t)
FIND(i32, uint32_t)
FIND(i64, uint64_t)
#pragma clang diagnostic pop
#undef FIND

#define KEYS(suffix, type, expression) \
  void APUS_(apus_sort_keys_##suffix)(size_t n, const void *x_, uint64_t *restrict keys) { \
    const type *restrict xs = x_; \
    for (size_t i = 0; i < n; i++) { \
      const type x = xs[i]; \
      keys[i] = expression; \
    } \
  }
// Magnitudes count upwards from the sign bit for positive numbers, downwards for negative ones.
#define FLOAT_KEYS(suffix, type, sign, infinity) \
  KEYS(suffix, type, \
       (x & (sign - 1)) > infinity ? UINT64_MAX : (type)(x & sign ? sign - (x & (sign - 1)) : sign + (x & (sign - 1))))
KEYS(bool, uint8_t, x != 0)
KEYS(u8, uint8_t, x)
KEYS(u16, uint16_t, x)
KEYS(u32, uint32_t, x)
KEYS(u64, uint64_t, x)
KEYS(s8, int8_t, (uint64_t)(int64_t)x ^ (uint64_t)1 << 63)
KEYS(i16, int16_t, (uint64_t)(int64_t)x ^ (uint64_t)1 << 63)
KEYS(i32, int32_t, (uint64_t)(int64_t)x ^ (uint64_t)1 << 63)
KEYS(i64, int64_t, (uint64_t)x ^ (uint64_t)1 << 63)
FLOAT_KEYS(f16, uint16_t, 0x8000u, 0x7c00u)
FLOAT_KEYS(bf16, uint16_t, 0x8000u, 0x7f80u)
FLOAT_KEYS(f32, uint32_t, 0x80000000u, 0x7f800000u)
FLOAT_KEYS(f64, uint64_t, ((uint64_t)1 << 63), ((uint64_t)0x7ff << 52))
#undef FLOAT_KEYS
#undef KEYS

size_t APUS_(apus_keys_below)(size_t n, const uint64_t *keys, uint64_t bound, uint32_t *places) {
  typedef uint64_t block __attribute__((ext_vector_type(VL / 2)));
  size_t i = 0, count = 0;
  for (; i + VL / 2 <= n; i += VL / 2) {
    block x;
    memcpy(&x, keys + i, sizeof x);
    for (uint64_t hits = LANE_BITS(VL / 2, x < bound); hits; hits &= hits - 1)
      places[count++] = (uint32_t)i + (uint32_t)__builtin_ctzll(hits);
  }
  for (; i < n; i++)
    if (keys[i] < bound) places[count++] = (uint32_t)i;
  return count;
}
#undef LANE_BITS

bool APUS_(apus_index_offsets)(size_t n, const ptrdiff_t *indices, ptrdiff_t extent, ptrdiff_t stride,
                               ptrdiff_t first, ptrdiff_t step, ptrdiff_t *offsets) {
  size_t outside = 0;
#pragma clang loop vectorize(assume_safety) interleave(enable)
  for (size_t i = 0; i < n; i++) {
    const ptrdiff_t index = indices[i];
    const size_t place = (size_t)index + (size_t)(index < 0 ? extent : 0);
    outside |= place >= (size_t)extent;
    offsets[i] = (ptrdiff_t)(place * (size_t)stride + (size_t)first + i * (size_t)step);
  }
  return outside == 0;
}
