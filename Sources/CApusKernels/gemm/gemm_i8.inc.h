// The 8-bit GEMM around an inner product of each instruction set. Before it, the including file defines
//   I8_VARIANT(name)         the name of this variant
//   I8_NR, I8_MR             columns of a panel, rows of a full tile
//   I8_GROUP_BYTES           panels that are kept in a cache while the rows go by
//   I8_TILES                 the list TILE(rows, columns); columns beyond I8_NR span panels
//   I8_MANY_ROWS             perhaps a header with i8_tiles_multiply, which takes the products of many rows
//   I8_PAIRS                 perhaps, where products of neighbours are added in 16 bits: the panels have rests, and
//                            i8_overflows(group) says whether one of a group's pairs is too large for that
//   i8_products(...)         see the prototype in the comment below
//
// One form inside: A' is u8 (an s8 value has its top bit turned, which adds 128, to the zero point as well) and B' is
// s8 (from u8, less 128). Then sum (A - za)(B - zb) = sum A'B' - zb' (sum A' - K za') - za' sum B'.

// INLINE void i8_products(const apus_gemm_i8_args *g, size_t row, size_t panel, int rows, int columns, uint32_t *sums)
// sums[i * columns + j] = sum over taps and k of A'(row + i) B'(panel * I8_NR + j). It reads whole groups of B, and of
// A no more than kc bytes a tap.

INLINE const uint8_t *i8_row(const apus_gemm_i8_args *g, size_t row, size_t tap) {
  if (!g->offsets) return (const uint8_t *)g->a + (ptrdiff_t)row * g->lda;
  const int32_t offset = g->offsets[row * g->taps + tap];
  const uintptr_t at = (uintptr_t)g->a + (uintptr_t)(ptrdiff_t)offset;
  return __builtin_unpredictable(offset == APUS_OFFSET_ZERO) ? g->pad : (const uint8_t *)at;
}
INLINE const int8_t *i8_panel(const apus_gemm_i8_args *g, size_t panel) {
  return (const int8_t *)g->b + panel * apus_gemm_i8_panel_bytes(g->taps, g->kc, I8_NR);
}
INLINE const int32_t *i8_column_sums(const apus_gemm_i8_args *g, size_t panel) {
  return (const int32_t *)(const void *)(i8_panel(g, panel) + apus_gemm_i8_group_bytes(g->taps, g->kc, I8_NR));
}
// Four bytes of a row, fewer at its end; turned to A'.
INLINE uint32_t i8_quad(const uint8_t *a, size_t left, uint32_t turn) {
  uint32_t x;
  if (left >= 4) memcpy(&x, a, 4);
  else x = a[0] | (left > 1 ? (uint32_t)a[1] << 8 : 0) | (left > 2 ? (uint32_t)a[2] << 16 : 0);
  return x ^ turn;
}

// INLINE vi i8_add_quads(vi sum, vi quads)
// Adds to each sum the four bytes of B' of a quad.
//
// INLINE uint32_t i8_sum_vectors(const uint8_t *a, size_t n, uint8_t turn, size_t *done)
// The sum of a[k] ^ turn for k < *done, which is as many as fill vectors.

#include I8_PRODUCTS

// Sum of A' over a row.
static uint32_t i8_row_sum(const apus_gemm_i8_args *g, size_t row) {
  uint32_t sum = 0;
  const uint8_t turn = g->a_signed ? 0x80 : 0;
  for (size_t t = 0; t < g->taps; t++) {
    const uint8_t *a = i8_row(g, row, t);
    size_t k = 0;
    sum += i8_sum_vectors(a, g->kc, turn, &k);
    for (; k < g->kc; k++) sum += (uint8_t)(a[k] ^ turn);
  }
  return sum;
}

INLINE vu i8_load_upto(const int32_t *p, size_t n) { return (vu)v_load_upto((const float *)(const void *)p, n); }

// The sums of a few rows and what their zero points take off: za' of each row, and sum A' - K za'.
typedef struct {
  const uint32_t *sums;
  size_t ld;
  const int32_t *column_sums;
  const uint32_t *a_zeros, *row_terms;
} i8_block;

// saturate(round_half_even(sum * scale) + zero) in float64; NaN becomes 0.
typedef double vd __attribute__((vector_size(8 * VL)));
typedef int64_t vl __attribute__((vector_size(8 * VL)));
INLINE vi i8_requantize_wide(vi sum, vf scale, double zero, double low, double high) {
  // Added to a number of small magnitude it leaves the nearest integer, half to even; beyond `largest` every zero point
  // leaves the range.
  const double shift = 0x1.8p52, largest = 1024;
#define SELECT(mask, yes, no) ((vd)(((vl)(yes) & (mask)) | ((vl)(no) & ~(mask))))
  const vd x = __builtin_convertvector(sum, vd) * __builtin_convertvector(scale, vd), ends = {0};
  const vd below = SELECT(x < ends + largest, x, ends + largest);
  const vd bounded = SELECT(below > ends - largest, below, ends - largest);
  const vd whole = (bounded + shift) - shift + zero;
  const vd most = SELECT(whole < ends + high, whole, ends + high);
  return __builtin_convertvector((vd)((vl)SELECT(most > ends + low, most, ends + low) & (x == x)), vi);
#undef SELECT
}

// Zero points, bias and scale for one vector of columns of all rows of a block, then the store. `even` says that no row
// has a term of its own; `whole` that no column is cut off.
INLINE void i8_finish_columns(const apus_gemm_i8_args *g, const i8_block *s, size_t row, size_t rows, size_t column,
                              size_t j, const apus_gemm_i8_output output, const int even, const int whole) {
  const size_t left = whole ? VL : g->n - column - j;
  const vu column_sum = (vu)v_load((const float *)(const void *)(s->column_sums + j));
  vu start = {0}, b_zero = {0};
  if (even) start -= column_sum * s->a_zeros[0];
  else b_zero = (g->b_zeros ? i8_load_upto(g->b_zeros + column + j, left) : (vu)v_set1_i(g->b_zero)) -
                (g->b_signed ? 0 : 128);
  if (g->bias) start += i8_load_upto(g->bias + column + j, left);
  const vf scale = g->scales ? v_load_upto(g->scales + column + j, left) : v_set1(g->scale);
  const apus_epilogue_f32 *e = &g->epilogue;
  const vf bias = e->bias && output == APUS_GEMM_I8_TO_F32 ? v_load_upto(e->bias + column + j, left) : v_zero();
  ptrdiff_t at = (ptrdiff_t)row * g->ldc + (ptrdiff_t)(column + j);
  for (size_t i = 0; i < rows; i++, at += g->ldc) {
    vu sum;
    memcpy(&sum, s->sums + i * s->ld + j, sizeof sum);
    if (!even) sum -= b_zero * s->row_terms[i] + column_sum * s->a_zeros[i];
    sum += start;
    if (output == APUS_GEMM_I8_TO_I32) {
      v_store_upto((float *)g->c + at, (vf)sum, left);
      continue;
    }
    vf x = v_to_float((vi)sum) * scale;
    if (e->bias) x += bias;
    if (e->add) x += v_load_upto(e->add + (ptrdiff_t)(row + i) * e->add_ld + (ptrdiff_t)(column + j), left);
    v_store_upto((float *)g->c + at, x, left);
  }
}

INLINE void i8_finish_panel(const apus_gemm_i8_args *g, const i8_block *s, size_t row, size_t rows, size_t column,
                            const apus_gemm_i8_output output, const int even) {
  const size_t columns = g->n - column < I8_NR ? g->n - column : I8_NR;
  size_t j = 0;
  for (; j + VL <= columns; j += VL) i8_finish_columns(g, s, row, rows, column, j, output, even, 1);
  if (j < columns) i8_finish_columns(g, s, row, rows, column, j, output, even, 0);
}

// Four vectors of sums that become bytes together: one of four rows, two of two, or four of one.
enum { I8_VECTORS = 4, I8_CODES = I8_VECTORS * VL };
typedef uint8_t i8_codes __attribute__((vector_size(I8_CODES)));

INLINE void i8_store_codes(uint8_t *c, const uint8_t *codes, size_t count, const size_t most) {
  if (count == most) {
    memcpy(c, codes, most);
    return;
  }
#pragma clang loop unroll(full)
  for (size_t step = most / 2; step > 0; step /= 2) {
    if (!(count & step)) continue;
    memcpy(c, codes, step);
    c += step;
    codes += step;
  }
}

// All rows of a block to bytes, for columns that fill `vectors` of the vectors of a row.
//
// Bounded before the conversion to integer, by whole numbers, which is saturation; NaN becomes low. In float32 the
// product of sum and scale is off by 2^-23 of 512 at most; where it is nearer to the middle between two whole numbers
// than that, and `wide` asks for the rounding of the product in float64, that is computed.
INLINE void i8_finish_bytes(const apus_gemm_i8_args *g, const i8_block *s, size_t row, size_t rows, size_t column,
                            const int vectors, const int wide, const int even) {
  const size_t columns = g->n - column < I8_NR ? g->n - column : I8_NR, together = I8_VECTORS / (size_t)vectors;
  const uint8_t turn = g->output == APUS_GEMM_I8_TO_S8 ? 0x80 : 0;
  const vf low = v_set1((float)(g->low - g->zero)), high = v_set1((float)(g->high - g->zero));
  const vf reach = v_set1(0.5f - 0x1p-13f), huge = v_set1(0x1p126f);
  const vi code_zero = v_set1_i(g->zero + turn);
  vu start[I8_VECTORS], column_sum[I8_VECTORS], b_zero[I8_VECTORS];
  vf scale[I8_VECTORS];
  int is_exact = !wide;
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) {
    const size_t j = (size_t)v * VL, at = column + j, left = columns > j ? columns - j : 0;
    column_sum[v] = (vu)v_load((const float *)(const void *)(s->column_sums + j));
    b_zero[v] = (g->b_zeros ? i8_load_upto(g->b_zeros + at, left) : (vu)v_set1_i(g->b_zero)) - (g->b_signed ? 0 : 128);
    start[v] = g->bias ? i8_load_upto(g->bias + at, left) : (vu)v_set1_i(0);
    if (even) start[v] -= column_sum[v] * s->a_zeros[0];
    scale[v] = g->scales ? v_load_upto(g->scales + at, left) : v_set1(g->scale);
    if (wide && v_any((vm)~v_lt(v_abs(scale[v]), huge))) is_exact = 1;
  }
  uint8_t *c = (uint8_t *)g->c + (ptrdiff_t)row * g->ldc + (ptrdiff_t)column;
  for (size_t i = 0; i < rows; i += together) {
    vi sums[I8_VECTORS], codes[I8_VECTORS];
    vf farthest = v_zero();
#pragma clang loop unroll(full)
    for (int at = 0; at < I8_VECTORS; at++) {
      const int v = at % vectors;
      const size_t below = i + (size_t)(at / vectors), r = below < rows ? below : rows - 1;
      vu sum;
      memcpy(&sum, s->sums + r * s->ld + (size_t)v * VL, sizeof sum);
      if (!even) sum -= b_zero[v] * s->row_terms[r] + column_sum[v] * s->a_zeros[r];
      sums[at] = (vi)(sum + start[v]);
      const vf x = v_min(high, v_max(v_to_float(sums[at]) * scale[v], low));
      const vi rounded = v_to_int(x);
      if (wide) farthest = v_max(farthest, v_abs(x - v_to_float(rounded)));
      codes[at] = rounded + code_zero;
    }
    if (wide && __builtin_expect(is_exact || v_any((vm)~v_lt(farthest, reach)), 0)) {
#pragma clang loop unroll(full)
      for (int at = 0; at < I8_VECTORS; at++)
        codes[at] = i8_requantize_wide(sums[at], scale[at % vectors], g->zero, g->low, g->high) + turn;
    }
    uint8_t bytes[I8_CODES];
    v_store_saturated(bytes, codes, 0);
    i8_codes turned;
    memcpy(&turned, bytes, sizeof turned);
    turned ^= turn;
    memcpy(bytes, &turned, sizeof turned);
#pragma clang loop unroll(full)
    for (size_t r = 0; r < together; r++) {
      if (i + r >= rows) break;
      i8_store_codes(c + (ptrdiff_t)(i + r) * g->ldc, bytes + r * (size_t)vectors * VL, columns,
                     (size_t)vectors * VL);
    }
  }
}

static void i8_finish_codes(const apus_gemm_i8_args *g, const i8_block *s, size_t row, size_t rows, size_t column,
                            int even) {
  const size_t columns = g->n - column;
#define FINISH(vectors) \
  { \
    if (g->wide && even) i8_finish_bytes(g, s, row, rows, column, vectors, 1, 1); \
    else if (g->wide) i8_finish_bytes(g, s, row, rows, column, vectors, 1, 0); \
    else if (even) i8_finish_bytes(g, s, row, rows, column, vectors, 0, 1); \
    else i8_finish_bytes(g, s, row, rows, column, vectors, 0, 0); \
  }
  if (columns <= VL) FINISH(1)
  else if (I8_NR == 2 * VL || columns <= 2 * VL) FINISH(2)
  else FINISH(4)
#undef FINISH
}

// The columns of one panel for the rows of a block.
static void i8_finish(const apus_gemm_i8_args *g, const i8_block *s, size_t row, size_t rows, size_t column, int even) {
  switch (g->output) {
#define FINISH(output) \
  if (even) i8_finish_panel(g, s, row, rows, column, output, 1); \
  else i8_finish_panel(g, s, row, rows, column, output, 0);
    case APUS_GEMM_I8_TO_I32: FINISH(APUS_GEMM_I8_TO_I32) break;
    case APUS_GEMM_I8_TO_F32: FINISH(APUS_GEMM_I8_TO_F32) break;
    case APUS_GEMM_I8_TO_U8:
    case APUS_GEMM_I8_TO_S8: i8_finish_codes(g, s, row, rows, column, even); break;
#undef FINISH
  }
}

// Whether the zero point of B takes nothing off, and so no sum of a row is asked for.
INLINE int i8_b_is_centred(const apus_gemm_i8_args *g) { return !g->b_zeros && g->b_signed && g->b_zero == 0; }

typedef void i8_tile_fn(const apus_gemm_i8_args *g, size_t row, size_t panel, uint32_t *sums);
#define TILE(rows, columns) \
  static void i8_tile_##rows##x##columns(const apus_gemm_i8_args *g, size_t row, size_t panel, uint32_t *sums) { \
    i8_products(g, row, panel, rows, columns, sums); \
  }
I8_TILES
#undef TILE

static i8_tile_fn *i8_tile_for(size_t rows, size_t columns) {
  static i8_tile_fn *const table[I8_MR + 1][I8_NR * 4 / 16 + 1] = {
#define TILE(rows, columns) [rows][columns / 16] = i8_tile_##rows##x##columns,
      I8_TILES
#undef TILE
  };
  return table[rows][columns / 16];
}

// Bytes of rows that are turned once for all panels.
enum { I8_TURNED_BYTES = 24 * 1024 };

// Dense s8 rows as A', one after the other.
static void i8_turn_rows(const apus_gemm_i8_args *g, size_t row, size_t rows, uint8_t *turned) {
  for (size_t i = 0; i < rows; i++, turned += g->kc) {
    const uint8_t *a = i8_row(g, row + i, 0);
    for (size_t k = 0; k < g->kc; k++) turned[k] = a[k] ^ 0x80;
  }
}

// What a row takes off the sums of its block, for A with its top bit turned or not: za', and sum (A - za), which asks
// for the whole row.
INLINE uint32_t i8_a_zero(const apus_gemm_i8_args *g, size_t row, int turned) {
  return (uint32_t)(g->a_zeros ? g->a_zeros[row] : g->a_zero) + (turned ? 128 : 0);
}
INLINE uint32_t i8_row_term(const apus_gemm_i8_args *g, size_t row) {
  return i8_row_sum(g, row) - (uint32_t)(g->taps * g->kc) * i8_a_zero(g, row, g->a_signed);
}

// The activation of rows [row, row + rows) of panels [p0, p1) of a float result.
static void i8_activate(const apus_gemm_i8_args *g, size_t row, size_t rows, size_t p0, size_t p1) {
  if (g->output != APUS_GEMM_I8_TO_F32 || g->epilogue.activation == APUS_ACTIVATION_NONE) return;
  const size_t first = p0 * I8_NR, end = p1 * I8_NR < g->n ? p1 * I8_NR : g->n;
  const float params[2] = {g->epilogue.alpha, g->epilogue.beta};
  for (size_t i = 0; i < rows; i++) {
    float *c = (float *)g->c + (ptrdiff_t)(row + i) * g->ldc + (ptrdiff_t)first;
    APUS_(apus_activation_function)(g->epilogue.activation)(end - first, c, c, params);
  }
}

// All panels [p0, p1) of one tile of rows, which are those of `source` from source_row on.
static void i8_tile_row(const apus_gemm_i8_args *g, size_t row, size_t rows, size_t p0, size_t p1,
                        const apus_gemm_i8_args *source, size_t source_row) {
  uint32_t sums[I8_MR * I8_NR * 4] __attribute__((aligned(64)));
  uint32_t a_zeros[I8_MR], row_terms[I8_MR];
  const int is_centred = i8_b_is_centred(g), even = is_centred && !g->a_zeros;
  for (size_t i = 0; i < rows; i++) {
    a_zeros[i] = i8_a_zero(g, row + i, g->a_signed);
    row_terms[i] = is_centred ? 0 : i8_row_term(g, row + i);
  }
  for (size_t p = p0; p < p1;) {
    size_t span = 4;
    while (span > 1 && (p + span > p1 || !i8_tile_for(rows, span * I8_NR))) span /= 2;
    size_t columns = span * I8_NR;
    if (span == 1 && g->n - p * I8_NR <= 16) columns = 16;
    i8_tile_for(rows, columns)(source, source_row, p, sums);
    for (size_t s = 0; s < span; s++) {
      const i8_block block = {sums + s * I8_NR, columns, i8_column_sums(g, p + s), a_zeros, row_terms};
      i8_finish(g, &block, row, rows, (p + s) * I8_NR, even);
    }
    p += span;
  }
  i8_activate(g, row, rows, p0, p1);
}

// Rows [m0, m1) of panels [p0, p1) by register tiles; they are those of `source` from source_row on.
static void i8_tiles_of_rows(const apus_gemm_i8_args *g, size_t m0, size_t m1, size_t p0, size_t p1,
                             const apus_gemm_i8_args *source, size_t source_row) {
  const size_t rows = m1 - m0, count = (rows + I8_MR - 1) / I8_MR, height = rows / count, taller = rows % count;
  size_t group = count == 1 ? p1 - p0 : I8_GROUP_BYTES / apus_gemm_i8_panel_bytes(g->taps, g->kc, I8_NR);
  if (group == 0) group = 1;
  for (size_t p = p0; p < p1; p += group) {
    const size_t end = p1 - p < group ? p1 : p + group;
    size_t row = 0;
    for (size_t i = 0; i < count; i++) {
      const size_t tall = height + (i < taller);
      i8_tile_row(g, m0 + row, tall, p, end, source, source_row + row);
      row += tall;
    }
  }
}

// The same for rows where they lie; dense s8 rows are turned before, some at a time.
static void i8_rows_multiply(const apus_gemm_i8_args *g, size_t m0, size_t m1, size_t p0, size_t p1) {
  const size_t block = g->kc ? I8_TURNED_BYTES / g->kc / I8_MR * I8_MR : 0;
  if (!g->a_signed || g->offsets || p1 - p0 < 2 || block == 0) {
    i8_tiles_of_rows(g, m0, m1, p0, p1, g, m0);
    return;
  }
  uint8_t turned[I8_TURNED_BYTES];
  apus_gemm_i8_args source = *g;
  source.a = turned;
  source.lda = (ptrdiff_t)g->kc;
  source.a_signed = false;
  for (size_t row = m0; row < m1; row += block) {
    const size_t end = m1 - row < block ? m1 : row + block;
    i8_turn_rows(g, row, end - row, turned);
    i8_tiles_of_rows(g, row, end, p0, p1, &source, 0);
  }
}

#ifdef I8_MANY_ROWS
#include I8_MANY_ROWS
#endif

void I8_VARIANT(apus_gemm_i8)(const apus_gemm_i8_args *g, size_t m0, size_t m1, size_t p0, size_t p1) {
  const size_t last = apus_gemm_panels(g->n, I8_NR);
  if (p1 > last) p1 = last;
  if (m0 >= m1 || p0 >= p1) return;
#ifdef I8_MANY_ROWS
  if (i8_tiles_multiply(g, m0, m1, p0, p1)) return;
#endif
  i8_rows_multiply(g, m0, m1, p0, p1);
}

typedef uint8_t i8_bytes __attribute__((vector_size(I8_NR)));
typedef uint16_t i8_pairs __attribute__((vector_size(2 * I8_NR)));
typedef uint32_t i8_quads __attribute__((vector_size(4 * I8_NR)));

// A whole panel of one tap whose columns are neighbours: four rows become one of quads.
static void i8_pack_rows(const uint8_t *rows, ptrdiff_t stride, size_t kc, uint8_t turn, uint8_t *out) {
  for (size_t k = 0; k < kc; k += 4, out += sizeof(i8_quads)) {
    i8_bytes row[4] = {{0}};
    for (size_t i = 0; i < 4 && k + i < kc; i++) {
      memcpy(&row[i], rows + (ptrdiff_t)(k + i) * stride, sizeof row[i]);
      row[i] ^= turn;
    }
    const i8_pairs low = __builtin_convertvector(row[0], i8_pairs) | __builtin_convertvector(row[1], i8_pairs) << 8;
    const i8_pairs high = __builtin_convertvector(row[2], i8_pairs) | __builtin_convertvector(row[3], i8_pairs) << 8;
    const i8_quads quads = __builtin_convertvector(low, i8_quads) | __builtin_convertvector(high, i8_quads) << 16;
    memcpy(out, &quads, sizeof quads);
  }
}

typedef uint32_t i8_four __attribute__((vector_size(16)));

// Four quads of each of four columns: rows become columns. Returns the bytes that are done.
static size_t i8_pack_four(const uint8_t *columns, ptrdiff_t stride, size_t kc, uint32_t turns, uint8_t *out) {
  size_t k = 0;
  for (; k + 16 <= kc; k += 16) {
    i8_four quad[4];
    for (int i = 0; i < 4; i++) {
      memcpy(&quad[i], columns + i * stride + (ptrdiff_t)k, sizeof quad[i]);
      quad[i] ^= turns;
    }
    const i8_four low01 = __builtin_shufflevector(quad[0], quad[1], 0, 4, 1, 5);
    const i8_four low23 = __builtin_shufflevector(quad[2], quad[3], 0, 4, 1, 5);
    const i8_four high01 = __builtin_shufflevector(quad[0], quad[1], 2, 6, 3, 7);
    const i8_four high23 = __builtin_shufflevector(quad[2], quad[3], 2, 6, 3, 7);
    const i8_four rows[4] = {
        __builtin_shufflevector(low01, low23, 0, 1, 4, 5), __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
        __builtin_shufflevector(high01, high23, 0, 1, 4, 5), __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
    for (size_t i = 0; i < 4; i++) memcpy(out + (k + 4 * i) * I8_NR, &rows[i], sizeof rows[i]);
  }
  return k;
}

// Columns of one tap of a panel whose rows are neighbours: a quad is four bytes as they lie.
static void i8_pack_columns(const uint8_t *columns, ptrdiff_t stride, size_t count, size_t kc, uint8_t turn,
                            uint8_t *out) {
  const uint32_t turns = 0x01010101u * turn;
  size_t done = 0;
  for (size_t j = 0; j < count; j++, columns += stride, out += 4) {
    if (j % 4 == 0) done = j + 4 <= count ? i8_pack_four(columns, stride, kc, turns, out) : 0;
    size_t k = done;
    for (; k + 4 <= kc; k += 4) {
      uint32_t quad;
      memcpy(&quad, columns + k, sizeof quad);
      quad ^= turns;
      memcpy(out + k * I8_NR, &quad, sizeof quad);
    }
    for (; k < kc; k++) out[k / 4 * 4 * I8_NR + k % 4] = columns[k] ^ turn;
  }
}

// Any columns of one tap of a panel.
static void i8_pack_bytes(const uint8_t *bytes, ptrdiff_t stride_k, ptrdiff_t stride_n, size_t count, size_t kc,
                          uint8_t turn, uint8_t *out) {
  for (size_t k0 = 0; k0 < kc; k0 += 32) {
    const size_t k1 = kc - k0 < 32 ? kc : k0 + 32;
    for (size_t j = 0; j < count; j++) {
      const uint8_t *from = bytes + (ptrdiff_t)j * stride_n;
      for (size_t k = k0; k < k1; k++) out[(k / 4 * I8_NR + j) * 4 + k % 4] = from[(ptrdiff_t)k * stride_k] ^ turn;
    }
  }
}

// The sums of the columns of a panel, from its groups.
static void i8_sum_columns(const uint8_t *panel, size_t groups, int32_t *sums) {
  vi sum[I8_NR / VL];
  for (int v = 0; v < I8_NR / VL; v++) sum[v] = v_set1_i(0);
  for (size_t g = 0; g < groups; g++, panel += 4 * I8_NR) {
#pragma clang loop unroll(full)
    for (int v = 0; v < I8_NR / VL; v++) {
      vi quads;
      memcpy(&quads, panel + (size_t)v * sizeof quads, sizeof quads);
      sum[v] = i8_add_quads(sum[v], quads);
    }
  }
  memcpy(sums, sum, sizeof sum);
}

#ifdef I8_PAIRS
// What a pair of B' is beyond what can be added in 16 bits: 255 times 128.
INLINE int i8_excess(const int8_t *pair) {
  const int sum = pair[0] + pair[1];
  return sum > 128 ? sum - 128 : sum < -128 ? sum + 128 : 0;
}

// Takes off a panel whose groups are there what is too much in pairs of its rows, unless that is too often.
static void i8_take_rests(const apus_gemm_source *s, int8_t *panel) {
  const size_t groups = (s->kc + 3) / 4, most = apus_gemm_i8_most_rests(s->taps, s->kc);
  apus_gemm_i8_rests *list =
      (apus_gemm_i8_rests *)(void *)(panel + apus_gemm_i8_group_bytes(s->taps, s->kc, I8_NR) + 4 * I8_NR);
  *list = (apus_gemm_i8_rests){APUS_GEMM_I8_WHOLE, 0};
  if (s->taps > UINT16_MAX || s->kc > UINT32_MAX) return;
  size_t count = 0;
  for (size_t g = 0; g < s->taps * groups; g++) {
    const int8_t *group = panel + g * 4 * I8_NR;
    if (!i8_overflows(group)) continue;
    for (size_t i = 0; i < 2 * I8_NR; i++) count += i8_excess(group + 2 * i) != 0;
    if (count > most) return;
  }
  list->count = (uint32_t)count;
  apus_gemm_i8_rest *rest = list->rests;
  for (size_t g = 0; count > 0 && g < s->taps * groups; g++) {
    int8_t *group = panel + g * 4 * I8_NR;
    if (!i8_overflows(group)) continue;
    for (size_t i = 0; i < 2 * I8_NR; i++) {
      const int excess = i8_excess(group + 2 * i);
      if (excess == 0) continue;
      const size_t k = g % groups * 4 + i % 2 * 2 + 1;
      *rest++ = (apus_gemm_i8_rest){(uint32_t)k, (uint16_t)(g / groups), (uint8_t)(i / 2), (int8_t)excess};
      group[2 * i + 1] = (int8_t)(group[2 * i + 1] - excess);
    }
  }
}
#endif

void I8_VARIANT(apus_gemm_i8_pack)(const apus_gemm_source *s, bool b_signed, void *packed, size_t p0, size_t p1) {
  const size_t last = apus_gemm_panels(s->n, I8_NR), groups = (s->kc + 3) / 4;
  const size_t panel_bytes = apus_gemm_i8_panel_bytes(s->taps, s->kc, I8_NR);
  const uint8_t turn = b_signed ? 0 : 0x80;
  if (p1 > last) p1 = last;
  for (size_t p = p0; p < p1; p++) {
    const size_t columns = s->n - p * I8_NR < I8_NR ? s->n - p * I8_NR : I8_NR;
    uint8_t *panel = (uint8_t *)packed + p * panel_bytes, *out = panel;
    const int whole_rows = s->stride_n == 1 && columns == I8_NR;
    const int whole_columns = s->stride_k == 1 && columns == I8_NR && s->kc % 4 == 0;
    const size_t filled = whole_rows || whole_columns ? s->taps * groups * 4 * I8_NR : 0;
    memset(panel + filled, 0, panel_bytes - filled);
    for (size_t t = 0; t < s->taps; t++, out += groups * 4 * I8_NR) {
      const uint8_t *tap = (const uint8_t *)s->b + (ptrdiff_t)t * s->stride_tap + (ptrdiff_t)(p * I8_NR) * s->stride_n;
      if (whole_rows) i8_pack_rows(tap, s->stride_k, s->kc, turn, out);
      else if (s->stride_k == 1) i8_pack_columns(tap, s->stride_n, columns, s->kc, turn, out);
      else i8_pack_bytes(tap, s->stride_k, s->stride_n, columns, s->kc, turn, out);
    }
    const size_t bytes = apus_gemm_i8_group_bytes(s->taps, s->kc, I8_NR);
    i8_sum_columns(panel, s->taps * groups, (int32_t *)(void *)(panel + bytes));
#ifdef I8_PAIRS
    i8_take_rests(s, (int8_t *)panel);
#endif
  }
}
