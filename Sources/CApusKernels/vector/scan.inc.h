// Sums and products of all elements up to each, in the order of the elements.

// Rows side by side, so that one need not wait for the sum of another.
enum { SCAN_ROWS = 8 };
// Vectors of a segment of a row: some of them stay in the inner cache.
enum { SCAN_SEGMENT = 32 };

#define SCAN(name, type, none, expression) \
  typedef type name##_block __attribute__((ext_vector_type(4 * VL / sizeof(type)))); \
  INLINE void name##_lines(size_t rows, size_t n, const type *x, ptrdiff_t ld, ptrdiff_t step, type *y, \
                           int exclusive) { \
    type sums[SCAN_ROWS]; \
    for (size_t r = 0; r < rows; r++) sums[r] = none; \
    for (ptrdiff_t k = 0; k < (ptrdiff_t)n; k++, x += step, y += step) { \
      _Pragma("clang loop unroll(full)") for (size_t r = 0; r < rows; r++) { \
        const type a = sums[r], b = x[(ptrdiff_t)r * ld]; \
        sums[r] = k == 0 ? b : expression; \
        y[(ptrdiff_t)r * ld] = exclusive ? a : sums[r]; \
      } \
    } \
  } \
  static void name##_rows(size_t rows, size_t n, const type *x, ptrdiff_t ld, type *y, int exclusive, int reverse) { \
    const ptrdiff_t step = reverse ? -1 : 1, begin = reverse && n ? (ptrdiff_t)n - 1 : 0; \
    size_t r = 0; \
    for (; r + SCAN_ROWS <= rows; r += SCAN_ROWS) { \
      const ptrdiff_t offset = (ptrdiff_t)r * ld + begin; \
      if (exclusive) name##_lines(SCAN_ROWS, n, x + offset, ld, step, y + offset, 1); \
      else name##_lines(SCAN_ROWS, n, x + offset, ld, step, y + offset, 0); \
    } \
    for (; r < rows; r++) { \
      const ptrdiff_t offset = (ptrdiff_t)r * ld + begin; \
      name##_lines(1, n, x + offset, ld, step, y + offset, exclusive); \
    } \
  } \
  /* `blocks` vectors of columns, of the last of which `bytes` count. */ \
  INLINE void name##_strip(size_t rows, int blocks, size_t bytes, const type *x, ptrdiff_t ld, type *y, \
                           int exclusive) { \
    enum { COUNT = 4 * VL / sizeof(type) }; \
    name##_block sums[4]; \
    for (size_t r = 0; r < rows; r++, x += ld, y += ld) { \
      _Pragma("clang loop unroll(full)") for (int v = 0; v < blocks; v++) { \
        const name##_block a = r ? sums[v] : (name##_block)(type)none; \
        name##_block b; \
        if (bytes) b = (name##_block)v_load_bytes(x + v * COUNT, bytes); \
        else memcpy(&b, x + v * COUNT, sizeof b); \
        sums[v] = r ? expression : b; \
        const name##_block shown = exclusive ? a : sums[v]; \
        if (bytes) v_store_bytes(y + v * COUNT, (vraw)shown, bytes); \
        else memcpy(y + v * COUNT, &shown, sizeof shown); \
      } \
    } \
  } \
  static void name##_segment(size_t rows, const type *x, ptrdiff_t ld, type *y, int exclusive) { \
    enum { COUNT = 4 * VL / sizeof(type) }; \
    for (size_t r = 0; r < rows; r++, y += ld) { \
      const type *from = x + (ptrdiff_t)(exclusive && r ? r - 1 : r) * ld; \
      for (int v = 0; v < SCAN_SEGMENT * COUNT; v += COUNT) { \
        name##_block a = (name##_block)(type)none, b = a, shown = a; \
        if (r || !exclusive) memcpy(&b, from + v, sizeof b); \
        if (r) memcpy(&a, y - ld + v, sizeof a); \
        if (r > (size_t)exclusive) shown = expression; \
        else if (r || !exclusive) shown = b; \
        memcpy(y + v, &shown, sizeof shown); \
      } \
    } \
  } \
  static void name##_columns(size_t rows, size_t n, const type *x, ptrdiff_t ld, type *y, int exclusive, \
                             int reverse) { \
    enum { COUNT = 4 * VL / sizeof(type) }; \
    if (rows == 0) return; \
    if (reverse) { \
      x += (ptrdiff_t)(rows - 1) * ld; \
      y += (ptrdiff_t)(rows - 1) * ld; \
      ld = -ld; \
    } \
    size_t j = 0; \
    /* Wide rows go by segments, which memory gives faster than strips; the sums are those of the row before. */ \
    for (; j + SCAN_SEGMENT * COUNT <= n; j += SCAN_SEGMENT * COUNT) \
      name##_segment(rows, x + j, ld, y + j, exclusive); \
    for (; j + 4 * COUNT <= n; j += 4 * COUNT) name##_strip(rows, 4, 0, x + j, ld, y + j, exclusive); \
    for (; j + COUNT <= n; j += COUNT) name##_strip(rows, 1, 0, x + j, ld, y + j, exclusive); \
    if (j < n) name##_strip(rows, 1, (n - j) * sizeof(type), x + j, ld, y + j, exclusive); \
  }
#define TABLE(suffix, form) \
  void APUS_(apus_scan_##form##_##suffix)(bool product, size_t rows, size_t n, const void *x, ptrdiff_t ld, void *y, \
                                          bool exclusive, bool reverse) { \
    if (product) scan_product_##suffix##_##form(rows, n, x, ld, y, exclusive, reverse); \
    else scan_sum_##suffix##_##form(rows, n, x, ld, y, exclusive, reverse); \
  }
#define SCANS(suffix, type) \
  SCAN(scan_sum_##suffix, type, 0, a + b) \
  SCAN(scan_product_##suffix, type, 1, a *b) \
  TABLE(suffix, rows) TABLE(suffix, columns)
SCANS(f32, float)
SCANS(f64, double)
SCANS(i32, uint32_t)
SCANS(i64, uint64_t)
#undef SCANS
#undef TABLE
#undef SCAN
