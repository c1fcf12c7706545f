// The 8-bit GEMM around an inner product of each instruction set. Before it, the including file defines
//   I8_VARIANT(name)         the name of this variant
//   I8_NR, I8_MR             columns of a panel, rows of a full tile
//   I8_GROUP_BYTES           panels that are kept in a cache while the rows go by
//   I8_TILES                 the list TILE(rows, columns); columns beyond I8_NR span panels
//   I8_MANY_ROWS             perhaps a header with i8_tiles_multiply, which takes the products of many rows
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
  return (const int32_t *)(const void *)(i8_panel(g, panel + 1) - 4 * I8_NR);
}
// Four bytes of a row, fewer at its end; turned to A'.
INLINE uint32_t i8_quad(const uint8_t *a, size_t left, uint32_t turn) {
  uint32_t x;
  if (left >= 4) memcpy(&x, a, 4);
  else x = a[0] | (left > 1 ? (uint32_t)a[1] << 8 : 0) | (left > 2 ? (uint32_t)a[2] << 16 : 0);
  return x ^ turn;
}

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

typedef int8_t vbytes __attribute__((vector_size(VL)));
INLINE void i8_store_bytes(int8_t *c, vi q, size_t n) {
  const vbytes bytes = __builtin_convertvector(q, vbytes);
  if (n >= VL) memcpy(c, &bytes, VL);
  else memcpy(c, &bytes, n);
}

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
                              size_t j, const apus_gemm_i8_output output, const int wide, const int even,
                              const int whole) {
  const size_t left = whole ? VL : g->n - column - j;
  const vu column_sum = (vu)v_load((const float *)(const void *)(s->column_sums + j));
  vu start = {0}, b_zero = {0};
  if (even) start -= column_sum * s->a_zeros[0];
  else b_zero = (g->b_zeros ? i8_load_upto(g->b_zeros + column + j, left) : (vu)v_set1_i(g->b_zero)) -
                (g->b_signed ? 0 : 128);
  if (g->bias) start += i8_load_upto(g->bias + column + j, left);
  const vf scale = g->scales ? v_load_upto(g->scales + column + j, left) : v_set1(g->scale);
  const vf zero = v_set1((float)g->zero), low = v_set1((float)g->low), high = v_set1((float)g->high);
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
    if (wide) {
      i8_store_bytes((int8_t *)g->c + at, i8_requantize_wide((vi)sum, scale, g->zero, g->low, g->high), left);
      continue;
    }
    vf x = v_to_float((vi)sum) * scale;
    if (output == APUS_GEMM_I8_TO_F32) {
      if (e->bias) x += bias;
      if (e->add) x += v_load_upto(e->add + (ptrdiff_t)(row + i) * e->add_ld + (ptrdiff_t)(column + j), left);
      v_store_upto((float *)g->c + at, x, left);
      continue;
    }
    i8_store_bytes((int8_t *)g->c + at, v_to_int(v_min(high, v_max(v_round(x) + zero, low))), left);
  }
}

INLINE void i8_finish_panel(const apus_gemm_i8_args *g, const i8_block *s, size_t row, size_t rows, size_t column,
                            const apus_gemm_i8_output output, const int wide, const int even) {
  const size_t columns = g->n - column < I8_NR ? g->n - column : I8_NR;
  size_t j = 0;
  for (; j + VL <= columns; j += VL) i8_finish_columns(g, s, row, rows, column, j, output, wide, even, 1);
  if (j < columns) i8_finish_columns(g, s, row, rows, column, j, output, wide, even, 0);
}

// The columns of one panel for the rows of a block.
static void i8_finish(const apus_gemm_i8_args *g, const i8_block *s, size_t row, size_t rows, size_t column, int even) {
  switch (g->output) {
#define FINISH(output, wide) \
  if (even) i8_finish_panel(g, s, row, rows, column, output, wide, 1); \
  else i8_finish_panel(g, s, row, rows, column, output, wide, 0);
    case APUS_GEMM_I8_TO_I32: FINISH(APUS_GEMM_I8_TO_I32, 0) break;
    case APUS_GEMM_I8_TO_F32: FINISH(APUS_GEMM_I8_TO_F32, 0) break;
    case APUS_GEMM_I8_TO_U8:
    case APUS_GEMM_I8_TO_S8:
      if (g->wide) {
        FINISH(APUS_GEMM_I8_TO_S8, 1)
      } else {
        FINISH(APUS_GEMM_I8_TO_S8, 0)
      }
      break;
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

// Bytes of the rows of a tile that are turned once for all panels.
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

// All panels [p0, p1) of one tile of rows.
static void i8_tile_row(const apus_gemm_i8_args *g, size_t row, size_t rows, size_t p0, size_t p1) {
  uint8_t turned[I8_TURNED_BYTES];
  apus_gemm_i8_args tile = *g;
  size_t tile_row = row;
  if (g->a_signed && !g->offsets && p1 - p0 > 1 && g->kc <= I8_TURNED_BYTES / rows) {
    i8_turn_rows(g, row, rows, turned);
    tile.a = turned;
    tile.lda = (ptrdiff_t)g->kc;
    tile.a_signed = false;
    tile_row = 0;
  }
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
    i8_tile_for(rows, columns)(&tile, tile_row, p, sums);
    for (size_t s = 0; s < span; s++) {
      const i8_block block = {sums + s * I8_NR, columns, i8_column_sums(g, p + s), a_zeros, row_terms};
      i8_finish(g, &block, row, rows, (p + s) * I8_NR, even);
    }
    p += span;
  }
  i8_activate(g, row, rows, p0, p1);
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
  const size_t rows = m1 - m0, count = (rows + I8_MR - 1) / I8_MR, height = rows / count, taller = rows % count;
  size_t group = count == 1 ? p1 - p0 : I8_GROUP_BYTES / apus_gemm_i8_panel_bytes(g->taps, g->kc, I8_NR);
  if (group == 0) group = 1;
  for (size_t p = p0; p < p1; p += group) {
    const size_t end = p1 - p < group ? p1 : p + group;
    size_t row = m0;
    for (size_t i = 0; i < count; i++) {
      const size_t tall = height + (i < taller);
      i8_tile_row(g, row, tall, p, end);
      row += tall;
    }
  }
}

typedef uint8_t i8_bytes __attribute__((vector_size(I8_NR)));
typedef int8_t i8_signed_bytes __attribute__((vector_size(I8_NR)));
typedef uint32_t i8_quads __attribute__((vector_size(4 * I8_NR)));
typedef int32_t i8_sums __attribute__((vector_size(4 * I8_NR)));

// A whole panel of one tap whose columns are neighbours: four rows become one of quads.
static void i8_pack_rows(const uint8_t *rows, ptrdiff_t stride, size_t kc, uint8_t turn, uint8_t *out, int32_t *sums) {
  i8_sums sum;
  memcpy(&sum, sums, sizeof sum);
  for (size_t k = 0; k < kc; k += 4, out += sizeof(i8_quads)) {
    i8_quads quads = {0};
    for (size_t i = 0; i < 4 && k + i < kc; i++) {
      i8_bytes row;
      memcpy(&row, rows + (ptrdiff_t)(k + i) * stride, sizeof row);
      row ^= turn;
      quads |= __builtin_convertvector(row, i8_quads) << (uint32_t)(8 * i);
      sum += __builtin_convertvector((i8_signed_bytes)row, i8_sums);
    }
    memcpy(out, &quads, sizeof quads);
  }
  memcpy(sums, &sum, sizeof sum);
}

void I8_VARIANT(apus_gemm_i8_pack)(const apus_gemm_source *s, bool b_signed, void *packed, size_t p0, size_t p1) {
  const size_t last = apus_gemm_panels(s->n, I8_NR), groups = (s->kc + 3) / 4;
  const size_t panel_bytes = apus_gemm_i8_panel_bytes(s->taps, s->kc, I8_NR);
  const uint8_t turn = b_signed ? 0 : 0x80;
  if (p1 > last) p1 = last;
  for (size_t p = p0; p < p1; p++) {
    const size_t columns = s->n - p * I8_NR < I8_NR ? s->n - p * I8_NR : I8_NR;
    uint8_t *out = (uint8_t *)packed + p * panel_bytes;
    int32_t *sums = (int32_t *)(void *)(out + panel_bytes - 4 * I8_NR);
    const int whole_rows = s->stride_n == 1 && columns == I8_NR;
    const size_t filled = whole_rows ? s->taps * groups * 4 * I8_NR : 0;
    memset(out + filled, 0, panel_bytes - filled);
    for (size_t t = 0; t < s->taps; t++, out += groups * 4 * I8_NR) {
      const uint8_t *tap = (const uint8_t *)s->b + (ptrdiff_t)t * s->stride_tap + (ptrdiff_t)(p * I8_NR) * s->stride_n;
      if (whole_rows) {
        i8_pack_rows(tap, s->stride_k, s->kc, turn, out, sums);
        continue;
      }
      for (size_t k0 = 0; k0 < s->kc; k0 += 32) {
        const size_t k1 = s->kc - k0 < 32 ? s->kc : k0 + 32;
        for (size_t j = 0; j < columns; j++) {
          const uint8_t *from = tap + (ptrdiff_t)j * s->stride_n;
          int32_t sum = 0;
          for (size_t k = k0; k < k1; k++) {
            const uint8_t byte = (uint8_t)(from[(ptrdiff_t)k * s->stride_k] ^ turn);
            out[(k / 4 * I8_NR + j) * 4 + k % 4] = byte;
            sum += (int8_t)byte;
          }
          sums[j] += sum;
        }
      }
    }
  }
}
