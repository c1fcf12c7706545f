// Transposes of two dimensions by element width. Square blocks of 16 bytes a side are turned in registers by rounds of
// interleaving; a strip of source rows fills whole cache lines of the destination. The last block of a side is done
// with some of what was done before, again; only what is smaller than a block goes element by element.
// Elements of four bytes are turned a vector of rows at a time where vectors are wider.
#include "../simd/columns.inc.h"

#if APUS_LANES == 16
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif APUS_LANES == 8
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15
#endif
// Takes pairs of four bytes apart, where they are a few vectors, the last of them with some of what was taken before,
// again; else 0.
INLINE int take_pairs(size_t n, const void *src, void *dst, ptrdiff_t ld) {
#if APUS_LANES >= 8
  if (n < VL || n >= 4 * VL) return 0;
  const float *x = src;
  float *a = dst, *b = a + ld;
  for (size_t i = 0; i < n; i += VL) {
    const size_t at = i + VL <= n ? i : n - VL;
    const vf low = v_load(x + 2 * at), high = v_load(x + 2 * at + VL);
    v_store(a + at, __builtin_shufflevector(low, high, EVENS));
    v_store(b + at, __builtin_shufflevector(low, high, ODDS));
  }
  return 1;
#else
  return (void)n, (void)src, (void)dst, (void)ld, 0;
#endif
}
#undef EVENS
#undef ODDS

// Rows of two to four elements one after the other, which are taken apart, and the way back: loops that the compiler
// knows how to vectorize.
#define FEW_LOOPS(bytes, type, count) \
  INLINE void take_apart_##bytes##_##count(size_t n, const type *restrict x, type *restrict y, ptrdiff_t ld) { \
    type *restrict a = y, *restrict b = y + ld; \
    type *restrict c = y + (count > 2 ? 2 * ld : 0), *restrict d = y + (count > 3 ? 3 * ld : 0); \
    for (size_t i = 0; i < n; i++) { \
      a[i] = x[count * i]; \
      b[i] = x[count * i + 1]; \
      if (count > 2) c[i] = x[count * i + 2]; \
      if (count > 3) d[i] = x[count * i + 3]; \
    } \
  } \
  INLINE void put_together_##bytes##_##count(size_t n, const type *restrict x, ptrdiff_t ld, type *restrict y) { \
    const type *restrict a = x, *restrict b = x + ld; \
    const type *restrict c = x + (count > 2 ? 2 * ld : 0), *restrict d = x + (count > 3 ? 3 * ld : 0); \
    for (size_t i = 0; i < n; i++) { \
      y[count * i] = a[i]; \
      y[count * i + 1] = b[i]; \
      if (count > 2) y[count * i + 2] = c[i]; \
      if (count > 3) y[count * i + 3] = d[i]; \
    } \
  }
#define FEW(bytes, word) \
  typedef word few_##bytes __attribute__((aligned(1), may_alias)); \
  FEW_LOOPS(bytes, few_##bytes, 2) \
  FEW_LOOPS(bytes, few_##bytes, 3) \
  FEW_LOOPS(bytes, few_##bytes, 4) \
  static int transpose_few_##bytes(size_t rows, size_t columns, const void *src, ptrdiff_t src_ld, void *dst, \
                                   ptrdiff_t dst_ld) { \
    if (columns >= 2 && columns <= 4 && src_ld == (ptrdiff_t)columns && rows > columns) { \
      if (bytes == 4 && columns == 2 && take_pairs(rows, src, dst, dst_ld)) return 1; \
      if (columns == 2) take_apart_##bytes##_2(rows, src, dst, dst_ld); \
      else if (columns == 3) take_apart_##bytes##_3(rows, src, dst, dst_ld); \
      else take_apart_##bytes##_4(rows, src, dst, dst_ld); \
      return 1; \
    } \
    if (rows >= 2 && rows <= 4 && dst_ld == (ptrdiff_t)rows && columns > rows) { \
      if (rows == 2) put_together_##bytes##_2(columns, src, src_ld, dst); \
      else if (rows == 3) put_together_##bytes##_3(columns, src, src_ld, dst); \
      else put_together_##bytes##_4(columns, src, src_ld, dst); \
      return 1; \
    } \
    return 0; \
  }
FEW(1, uint8_t)
FEW(2, uint16_t)
FEW(4, uint32_t)
FEW(8, uint64_t)
#undef FEW
#undef FEW_LOOPS

#define TRANSPOSE(bytes, TILE_ROWS, NAME) \
  INLINE void transpose_edge_##bytes(size_t rows, size_t columns, const char *src, ptrdiff_t src_step, char *dst, \
                                     ptrdiff_t dst_step) { \
    for (size_t r = 0; r < rows; r++) \
      _Pragma("clang loop vectorize(disable)") for (size_t c = 0; c < columns; c++) \
        memcpy(dst + (ptrdiff_t)c * dst_step + (ptrdiff_t)(r * bytes), \
               src + (ptrdiff_t)r * src_step + (ptrdiff_t)(c * bytes), bytes); \
  } \
  void NAME(size_t rows, size_t columns, const void *src_, ptrdiff_t src_ld, void *dst_, ptrdiff_t dst_ld) { \
    enum { STRIP = 64 / bytes, SIDE = TILE_ROWS }; \
    if (transpose_few_##bytes(rows, columns, src_, src_ld, dst_, dst_ld)) return; \
    const ptrdiff_t src_step = src_ld * bytes, dst_step = dst_ld * bytes; \
    const char *src = src_; \
    char *dst = dst_; \
    if (rows < SIDE || columns < SIDE) { \
      transpose_edge_##bytes(rows, columns, src, src_step, dst, dst_step); \
      return; \
    } \
    for (size_t r0 = 0; r0 < rows; r0 += STRIP) { \
      const size_t r1 = rows - r0 < STRIP ? rows : r0 + STRIP; \
      for (size_t c0 = 0; c0 < columns; c0 += SIDE) { \
        const size_t c = c0 + SIDE <= columns ? c0 : columns - SIDE; \
        for (size_t r = r0; r < r1; r += SIDE) { \
          const size_t row = r + SIDE <= rows ? r : rows - SIDE; \
          block_##bytes(src + (ptrdiff_t)row * src_step + (ptrdiff_t)(c * bytes), src_step, \
                        dst + (ptrdiff_t)c * dst_step + (ptrdiff_t)(row * bytes), dst_step); \
        } \
      } \
    } \
  }

// One round for `count` rows: rows i and i + count/2 interleave into rows 2i and 2i + 1.
typedef uint8_t q8 __attribute__((vector_size(16)));
typedef uint16_t q16 __attribute__((vector_size(16)));
typedef uint32_t q32 __attribute__((vector_size(16)));
typedef uint64_t q64 __attribute__((vector_size(16)));

INLINE void interleave_8(const q8 *in, q8 *out) {
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i++) {
    out[2 * i] = __builtin_shufflevector(in[i], in[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    out[2 * i + 1] =
        __builtin_shufflevector(in[i], in[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  }
}
INLINE void interleave_16(const q16 *in, q16 *out) {
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    out[2 * i] = __builtin_shufflevector(in[i], in[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
    out[2 * i + 1] = __builtin_shufflevector(in[i], in[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
  }
}
INLINE void interleave_32(const q32 *in, q32 *out) {
#pragma clang loop unroll(full)
  for (int i = 0; i < 2; i++) {
    out[2 * i] = __builtin_shufflevector(in[i], in[i + 2], 0, 4, 1, 5);
    out[2 * i + 1] = __builtin_shufflevector(in[i], in[i + 2], 2, 6, 3, 7);
  }
}
INLINE void interleave_64(const q64 *in, q64 *out) {
  out[0] = __builtin_shufflevector(in[0], in[1], 0, 2);
  out[1] = __builtin_shufflevector(in[0], in[1], 1, 3);
}

#define LOAD_ROWS(x, count) \
  _Pragma("clang loop unroll(full)") for (int i = 0; i < count; i++) memcpy(&x[i], src + i * src_step, 16)
#define STORE_ROWS(x, count) \
  _Pragma("clang loop unroll(full)") for (int i = 0; i < count; i++) memcpy(dst + i * dst_step, &x[i], 16)

INLINE void block_1(const char *src, ptrdiff_t src_step, char *dst, ptrdiff_t dst_step) {
  q8 a[16], b[16];
  LOAD_ROWS(a, 16);
  interleave_8(a, b);
  interleave_8(b, a);
  interleave_8(a, b);
  interleave_8(b, a);
  STORE_ROWS(a, 16);
}
INLINE void block_2(const char *src, ptrdiff_t src_step, char *dst, ptrdiff_t dst_step) {
  q16 a[8], b[8];
  LOAD_ROWS(a, 8);
  interleave_16(a, b);
  interleave_16(b, a);
  interleave_16(a, b);
  STORE_ROWS(b, 8);
}
INLINE void block_8(const char *src, ptrdiff_t src_step, char *dst, ptrdiff_t dst_step) {
  q64 a[2], b[2];
  LOAD_ROWS(a, 2);
  interleave_64(a, b);
  STORE_ROWS(b, 2);
}

INLINE void block_4(const char *src, ptrdiff_t src_step, char *dst, ptrdiff_t dst_step) {
  q32 a[4], b[4];
  LOAD_ROWS(a, 4);
  interleave_32(a, b);
  interleave_32(b, a);
  STORE_ROWS(a, 4);
}

#if APUS_LANES >= 8
INLINE void strip_block(const char *src, ptrdiff_t src_step, char *dst, ptrdiff_t dst_step) {
  vf x[4];
  v_load_columns((const float *)(const void *)src, src_step / 4, VL - 1, x);
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) memcpy(dst + i * dst_step, &x[i], sizeof x[i]);
}

static apus_transpose_fn transpose_quads;
TRANSPOSE(4, 4, transpose_quads)
void APUS_(apus_transpose_4)(size_t rows, size_t columns, const void *src_, ptrdiff_t src_ld, void *dst_,
                             ptrdiff_t dst_ld) {
  if (transpose_few_4(rows, columns, src_, src_ld, dst_, dst_ld)) return;
  const char *src = src_;
  char *dst = dst_;
  enum { STRIP = 16 };
  if (columns < 4) {
    transpose_quads(rows, columns, src_, src_ld, dst_, dst_ld);
    return;
  }
  const size_t strips = rows / STRIP * STRIP;
  for (size_t r0 = 0; r0 < strips; r0 += STRIP) {
    for (size_t c0 = 0; c0 < columns; c0 += 4) {
      const size_t c = c0 + 4 <= columns ? c0 : columns - 4;
      for (size_t r = r0; r < r0 + STRIP; r += VL)
        strip_block(src + ((ptrdiff_t)r * src_ld + (ptrdiff_t)c) * 4, src_ld * 4,
                    dst + ((ptrdiff_t)c * dst_ld + (ptrdiff_t)r) * 4, dst_ld * 4);
    }
  }
  transpose_quads(rows - strips, columns, src + (ptrdiff_t)strips * src_ld * 4, src_ld, dst + strips * 4, dst_ld);
}
#else
TRANSPOSE(4, 4, APUS_(apus_transpose_4))
#endif

static apus_transpose_fn transpose_bytes;
TRANSPOSE(1, 16, transpose_bytes)

// Rows of less than a block, one after the other: blocks see the beginning of the next row, too, and leave that out.
// Returns the rows that are done: all but those at the end, behind which there is nothing to read.
INLINE size_t transpose_narrow(size_t rows, size_t columns, const char *src, char *dst, ptrdiff_t dst_step) {
  size_t r = 0;
  for (; r + 16 <= rows && (r + 15) * columns + 16 <= rows * columns; r += 16, src += 16 * columns, dst += 16) {
    char block[16][16];
    block_1(src, (ptrdiff_t)columns, block[0], 16);
    for (size_t c = 0; c < columns; c++) memcpy(dst + (ptrdiff_t)c * dst_step, block[c], 16);
  }
  return r;
}
void APUS_(apus_transpose_1)(size_t rows, size_t columns, const void *src, ptrdiff_t src_ld, void *dst,
                             ptrdiff_t dst_ld) {
  const int is_narrow = columns > 4 && columns < 16 && src_ld == (ptrdiff_t)columns;
  const size_t done = is_narrow ? transpose_narrow(rows, columns, src, dst, dst_ld) : 0;
  if (done == rows) return;
  transpose_bytes(rows - done, columns, (const char *)src + (ptrdiff_t)done * src_ld, src_ld, (char *)dst + done,
                  dst_ld);
}
TRANSPOSE(2, 8, APUS_(apus_transpose_2))
TRANSPOSE(8, 2, APUS_(apus_transpose_8))
#undef TRANSPOSE
#undef LOAD_ROWS
#undef STORE_ROWS
