// Folds: one number from many, for rows of neighbours and for columns, of every element type. One pair of expressions a
// fold serves vectors, parts of them and single elements: what an element x counts (`mapped`), and how two parts of the
// result, a and b, are one (`merged`).
//
// A row of n elements keeps four vectors, which are merged pairwise, then the lanes by halves; a row of at most
// SHORT_ROW goes element by element, many rows side by side. A column keeps four accumulators, for the index of the row
// modulo 4. After LONG_FOLD steps they are merged into a total and begin anew, so that sums of many elements stay
// accurate. So the order depends on n (rows), the number of rows (columns) and the instruction set only.

enum { SHORT_ROW = 8, LONG_FOLD = 1024 };

// Vectors of columns that are folded side by side, so that a row is read in runs of some cache lines.
enum { STRIP = APUS_LANES >= 16 ? 4 : 2 };

// q = the lanes of its 16 bytes merged by halves, for elements of a size: the result is in all of them.
#define MERGE_SHUFFLED(merged, ...) \
  { \
    const quad a = q, b = __builtin_shufflevector(q, q, __VA_ARGS__); \
    q = merged; \
  }
#define MERGE_LANES_8(merged) MERGE_SHUFFLED(merged, 1, 0)
#define MERGE_LANES_4(merged) MERGE_SHUFFLED(merged, 2, 3, 0, 1) MERGE_SHUFFLED(merged, 1, 0, 3, 2)
#define MERGE_LANES_1(merged) \
  MERGE_SHUFFLED(merged, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7) \
  MERGE_SHUFFLED(merged, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11) \
  MERGE_SHUFFLED(merged, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13) \
  MERGE_SHUFFLED(merged, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)

// 0, 1, 2, … in as many lanes as a vector has for elements of a size.
#define LANE_NUMBERS(type) \
  ({ \
    type lanes_; \
    _Pragma("clang loop unroll(full)") for (size_t l_ = 0; l_ < sizeof lanes_ / sizeof lanes_[0]; l_++) lanes_[l_] = \
        (__typeof__(lanes_[0]))l_; \
    lanes_; \
  })

// acc merged with a vector; NaN among its lanes is noted where `merged` may lose it.
#define TAKE(name, check, acc, value) \
  { \
    const name##_block value_ = value; \
    if (check) bad |= (name##_lanes)(value_ != value_); \
    acc = name##_merge(acc, value_); \
  }
#define NAN_WHERE_BAD(name, type, check, value) \
  ({ \
    name##_block value_ = value; \
    if (check) value_ = bad ? (name##_block)(type)__builtin_nan("") : value_; \
    value_; \
  })

// Of a strip of columns: its next row, at x, into the accumulators `q`; and the accumulators of a vector as one.
#define STRIP_ROW(name, check, q) \
  _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) { \
    const name##_block value = is_whole ? name##_whole(x + v * COUNT) : name##_part(x, n); \
    if (check) bads[v] |= (name##_lanes)(value != value); \
    acc[q][v] = name##_merge(acc[q][v], value); \
  }
#define STRIP_MERGED(name, v) name##_merge(name##_merge(acc[0][v], acc[1][v]), name##_merge(acc[2][v], acc[3][v]))

#define FOLD(name, type, integer, size, none, check, mapped, merged) \
  typedef type name##_block __attribute__((ext_vector_type(4 * VL / size))); \
  typedef integer name##_lanes __attribute__((ext_vector_type(4 * VL / size))); \
  INLINE name##_block name##_whole(const type *p) { \
    name##_block x; \
    memcpy(&x, p, sizeof x); \
    return mapped; \
  } \
  INLINE name##_block name##_part(const type *p, size_t n) { \
    const name##_block x = (name##_block)v_load_bytes(p, n * size); \
    const name##_block y = mapped; \
    if ((none) == 0) return y; \
    const name##_lanes lanes = LANE_NUMBERS(name##_lanes); \
    return lanes < (name##_lanes)(integer)n ? y : (name##_block)(type)(none); \
  } \
  INLINE name##_block name##_merge(name##_block a, name##_block b) { return merged; } \
  INLINE type name##_reduce(name##_block x, name##_lanes bad) { \
    typedef type quad __attribute__((ext_vector_type(16 / size))); \
    if (check && __builtin_reduce_or(bad)) return (type)__builtin_nan(""); \
    quad qs[VL / 4]; \
    memcpy(qs, &x, sizeof x); \
    _Pragma("clang loop unroll(full)") for (int half = VL / 8; half; half /= 2) { \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < half; i++) { \
        const quad a = qs[i], b = qs[i + half]; \
        qs[i] = merged; \
      } \
    } \
    quad q = qs[0]; \
    MERGE_LANES_##size(merged) \
    return q[0]; \
  } \
  static void name##_short_rows(size_t rows, size_t n, const type *p, ptrdiff_t ld, type *y) { \
    enum { COUNT = 4 * VL / size }; \
    size_t r = 0; \
    for (; r + COUNT <= rows; r += COUNT, p += COUNT * ld) { \
      name##_block acc = (name##_block)(type)(none); \
      name##_lanes bad = 0; \
      for (size_t j = 0; j < n; j++) { \
        name##_block x; \
        _Pragma("clang loop unroll(full)") for (int l = 0; l < COUNT; l++) x[l] = p[l * ld + (ptrdiff_t)j]; \
        TAKE(name, check, acc, mapped) \
      } \
      acc = NAN_WHERE_BAD(name, type, check, acc); \
      memcpy(y + r, &acc, sizeof acc); \
    } \
    for (; r < rows; r++, p += ld) { \
      type a = (type)(none); \
      int bad = 0; \
      for (size_t j = 0; j < n; j++) { \
        const type x = p[j]; \
        const type b = mapped; \
        bad |= check && b != b; \
        a = merged; \
      } \
      y[r] = bad ? (type)__builtin_nan("") : a; \
    } \
  } \
  static void name##_rows(size_t rows, size_t n, const type *p, ptrdiff_t ld, type *y) { \
    enum { COUNT = 4 * VL / size }; \
    if (n <= SHORT_ROW) return name##_short_rows(rows, n, p, ld, y); \
    const size_t whole = n / COUNT, rest = n % COUNT; \
    const name##_block start = (name##_block)(type)(none); \
    for (size_t r = 0; r < rows; r++, p += ld) { \
      name##_block a = start, b = start, c = start, d = start; \
      name##_lanes bad = 0; \
      const type *x = p; \
      if (whole == 0) { \
        TAKE(name, check, d, name##_part(x, rest)) \
        y[r] = name##_reduce(d, bad); \
        continue; \
      } \
      name##_block total = start; \
      for (size_t i = whole / 4; i; x += 4 * COUNT) { \
        TAKE(name, check, a, name##_whole(x)) \
        TAKE(name, check, b, name##_whole(x + COUNT)) \
        TAKE(name, check, c, name##_whole(x + 2 * COUNT)) \
        TAKE(name, check, d, name##_whole(x + 3 * COUNT)) \
        if (--i % LONG_FOLD == 0 && i) { \
          total = name##_merge(total, name##_merge(name##_merge(a, b), name##_merge(c, d))); \
          a = b = c = d = start; \
        } \
      } \
      if (whole & 2) { \
        TAKE(name, check, a, name##_whole(x)) \
        TAKE(name, check, b, name##_whole(x + COUNT)) \
        x += 2 * COUNT; \
      } \
      if (whole & 1) { \
        TAKE(name, check, c, name##_whole(x)) \
        x += COUNT; \
      } \
      if (rest) TAKE(name, check, d, name##_part(x, rest)) \
      const name##_block last = name##_merge(name##_merge(a, b), name##_merge(c, d)); \
      y[r] = name##_reduce(whole / 4 > LONG_FOLD ? name##_merge(total, last) : last, bad); \
    } \
  } \
  /* Some vectors of columns side by side; of a single one n columns count. */ \
  INLINE void name##_strip(size_t rows, size_t n, const type *x, ptrdiff_t ld, type *y, const int vectors, \
                           const int is_whole) { \
    enum { COUNT = 4 * VL / size }; \
    const name##_block start = (name##_block)(type)(none); \
    name##_block acc[4][STRIP], total[STRIP]; \
    name##_lanes bads[STRIP]; \
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) { \
      acc[0][v] = acc[1][v] = acc[2][v] = acc[3][v] = total[v] = start; \
      bads[v] = 0; \
    } \
    size_t r = 0; \
    for (; r + 4 <= rows; r += 4) { \
      if (r && r % (4 * LONG_FOLD) == 0) { \
        _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) { \
          total[v] = name##_merge(total[v], STRIP_MERGED(name, v)); \
          acc[0][v] = acc[1][v] = acc[2][v] = acc[3][v] = start; \
        } \
      } \
      _Pragma("clang loop unroll(full)") for (int q = 0; q < 4; q++, x += ld) STRIP_ROW(name, check, q) \
    } \
    if (r < rows) STRIP_ROW(name, check, 0) \
    x += ld; \
    if (r + 1 < rows) STRIP_ROW(name, check, 1) \
    x += ld; \
    if (r + 2 < rows) STRIP_ROW(name, check, 2) \
    _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) { \
      const name##_lanes bad = bads[v]; \
      const name##_block last = STRIP_MERGED(name, v); \
      const name##_block all = \
          NAN_WHERE_BAD(name, type, check, rows > 4 * LONG_FOLD ? name##_merge(total[v], last) : last); \
      if (is_whole) memcpy(y + v * COUNT, &all, sizeof all); \
      else v_store_bytes(y, (vraw)all, n * size); \
    } \
  } \
  static void name##_columns(size_t rows, size_t n, const type *x, ptrdiff_t ld, type *y) { \
    enum { COUNT = 4 * VL / size }; \
    size_t j = 0; \
    for (; j + STRIP * COUNT <= n; j += STRIP * COUNT) name##_strip(rows, 0, x + j, ld, y + j, STRIP, 1); \
    for (; j + COUNT <= n; j += COUNT) name##_strip(rows, 0, x + j, ld, y + j, 1, 1); \
    if (j < n) name##_strip(rows, n - j, x + j, ld, y + j, 1, 0); \
  }

#define SUMS(suffix, type, integer, size, magnitude) \
  FOLD(sum_##suffix, type, integer, size, 0, 0, x, a + b) \
  FOLD(squares_##suffix, type, integer, size, 0, 0, x *x, a + b) \
  FOLD(magnitudes_##suffix, type, integer, size, 0, 0, magnitude, a + b) \
  FOLD(product_##suffix, type, integer, size, 1, 0, x, a *b)
#define EXTREMES(suffix, type, integer, size, lowest, highest) \
  FOLD(max_##suffix, type, integer, size, lowest, 0, x, a > b ? a : b) \
  FOLD(min_##suffix, type, integer, size, highest, 0, x, a < b ? a : b)
#define FLOATS(suffix, type, integer, size) \
  SUMS(suffix, type, integer, size, x < 0 ? -x : x) \
  FOLD(max_##suffix, type, integer, size, -__builtin_inff(), 1, x, a > b ? a : b) \
  FOLD(min_##suffix, type, integer, size, __builtin_inff(), 1, x, a < b ? a : b)

FLOATS(f32, float, int32_t, 4)
FLOATS(f64, double, int64_t, 8)
// Sums and products are those of unsigned numbers, so that wrapping is defined; the bits are those of signed ones.
SUMS(i32, uint32_t, int32_t, 4, x > (uint32_t)INT32_MAX ? 0 - x : x)
SUMS(i64, uint64_t, int64_t, 8, x > (uint64_t)INT64_MAX ? 0 - x : x)
EXTREMES(i32, int32_t, int32_t, 4, INT32_MIN, INT32_MAX)
EXTREMES(u32, uint32_t, int32_t, 4, 0, UINT32_MAX)
EXTREMES(i64, int64_t, int64_t, 8, INT64_MIN, INT64_MAX)
EXTREMES(u64, uint64_t, int64_t, 8, 0, UINT64_MAX)
EXTREMES(s8, int8_t, int8_t, 1, INT8_MIN, INT8_MAX)
EXTREMES(u8, uint8_t, int8_t, 1, 0, UINT8_MAX)

// The functions of a type: those of sums and products of one suffix, magnitudes and extremes of others.
#define EXTREME_CASES(suffix, form) \
  case APUS_FOLD_MAX: return max_##suffix##_##form(rows, n, x, ld, y); \
  case APUS_FOLD_MIN: return min_##suffix##_##form(rows, n, x, ld, y);
#define TABLE(suffix, form, sums, magnitudes) \
  void APUS_(apus_fold_##form##_##suffix)(apus_fold fold, size_t rows, size_t n, const void *x, ptrdiff_t ld, \
                                          void *y) { \
    switch (fold) { \
      case APUS_FOLD_SUM: return sum_##sums##_##form(rows, n, x, ld, y); \
      case APUS_FOLD_SUM_SQUARES: return squares_##sums##_##form(rows, n, x, ld, y); \
      case APUS_FOLD_SUM_ABS: return magnitudes##_##form(rows, n, x, ld, y); \
      case APUS_FOLD_PRODUCT: return product_##sums##_##form(rows, n, x, ld, y); \
      EXTREME_CASES(suffix, form) \
    } \
  }
#define EXTREME_TABLE(suffix, form) \
  void APUS_(apus_fold_##form##_##suffix)(apus_fold fold, size_t rows, size_t n, const void *x, ptrdiff_t ld, \
                                          void *y) { \
    switch (fold) { \
      EXTREME_CASES(suffix, form) \
      default: break; \
    } \
  }
#define TABLES(suffix, sums, magnitudes) TABLE(suffix, rows, sums, magnitudes) TABLE(suffix, columns, sums, magnitudes)
TABLES(f32, f32, magnitudes_f32)
TABLES(f64, f64, magnitudes_f64)
TABLES(i32, i32, magnitudes_i32)
TABLES(u32, i32, sum_i32)
TABLES(i64, i64, magnitudes_i64)
TABLES(u64, i64, sum_i64)
EXTREME_TABLE(s8, rows) EXTREME_TABLE(s8, columns)
EXTREME_TABLE(u8, rows) EXTREME_TABLE(u8, columns)
#undef TABLES
#undef TABLE
#undef EXTREME_TABLE
#undef EXTREME_CASES
#undef FLOATS
#undef EXTREMES
#undef SUMS
#undef FOLD
#undef TAKE
#undef STRIP_ROW
#undef STRIP_MERGED
#undef NAN_WHERE_BAD
#undef LANE_NUMBERS
#undef MERGE_LANES_1
#undef MERGE_LANES_4
#undef MERGE_LANES_8
#undef MERGE_SHUFFLED
