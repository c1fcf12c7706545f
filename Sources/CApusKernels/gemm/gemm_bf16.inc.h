// The bfloat16 GEMM around an inner product of each instruction set. Rows of A are rounded into a copy without gaps
// between the taps, in pieces of their depth; sums wait in memory for the next piece. Before it, the including file
// defines
//   BF16_VARIANT(name)    the name of this variant
//   BF16_NR, BF16_ROWS    columns of a panel, rows of a block
//   BF16_PRODUCTS         a header with the functions of the comment below
#include <string.h>

#include "gemm_rows.h"

enum {
  // Elements of a row that are copied at a time, and the panels whose sums wait for the next piece.
  BF16_PIECE = 256,
  BF16_PANELS = 16,
  // Panels that are kept in a cache while the rows go by.
  BF16_GROUP_BYTES = 1024 * 1024,
};

// INLINE void bf16_round(const float *from, size_t count, uint16_t *out)
// Rounds `count` elements, and writes zeros until they are a multiple of APUS_BF16_DEPTH.
//
// INLINE void bf16_products(const uint16_t *a, const uint16_t *b, size_t depth, size_t rows, float *sums, int first)
// Adds the products of `depth` elements, a multiple of APUS_BF16_DEPTH, of `rows` rows at `a`, BF16_PIECE apart, with a
// panel to sums[rows][BF16_NR], which begin at zero in the first piece.
//
// INLINE void bf16_begin(size_t rows), bf16_end(void)
// Around the calls for blocks of that height, and after all.
#include BF16_PRODUCTS

// Rounds elements [start, start + count) of the depth of some rows, in which each tap has an even number. A row has
// BF16_PIECE elements; behind the last one is room for APUS_BF16_DEPTH.
static void bf16_copy(const apus_gemm_f32_args *g, size_t row, size_t rows, size_t start, size_t count, uint16_t *out) {
  const size_t tap_depth = (g->kc + 1) / 2 * 2, first_tap = start / tap_depth, first_element = start % tap_depth;
  for (size_t i = 0; i < rows; i++, out += BF16_PIECE) {
    size_t at = 0, element = first_element;
    for (size_t t = first_tap; at < count; t++, element = 0) {
      const size_t length = tap_depth - element < count - at ? tap_depth - element : count - at;
      const size_t there = g->kc - element < length ? g->kc - element : length;
      bf16_round(gemm_row_of_tap(g, row + i, t) + element, there, out + at);
      at += length;
    }
    // The zeros of the last tap may end before the step does, and what is there by chance may be NaN.
    memset(out + count, 0, (APUS_BF16_DEPTH - count % APUS_BF16_DEPTH) % APUS_BF16_DEPTH * sizeof *out);
  }
}

// Adds bias and residual, applies an activation that is a clamp, and stores the columns of one panel.
INLINE void bf16_finish_columns(const apus_gemm_f32_args *g, const float *sums, size_t row, size_t rows, size_t column,
                                size_t j, size_t left) {
  const apus_epilogue_f32 *e = &g->epilogue;
  const int relu = e->activation == APUS_ACTIVATION_RELU, clamps = relu || e->activation == APUS_ACTIVATION_CLIP;
  const vf lo = v_set1(relu ? 0 : e->alpha), hi = v_set1(relu ? __builtin_inff() : e->beta);
  const vf bias = e->bias ? v_load_upto(e->bias + column + j, left) : v_zero();
  const float *add = e->add ? e->add + (ptrdiff_t)row * e->add_ld + (ptrdiff_t)(column + j) : NULL;
  float *c = g->c + (ptrdiff_t)row * g->ldc + (ptrdiff_t)(column + j);
  for (size_t i = 0; i < rows; i++, c += g->ldc) {
    vf x = v_load(sums + i * BF16_NR + j);
    if (e->bias) x += bias;
    if (add) x += v_load_upto(add + (ptrdiff_t)i * e->add_ld, left);
    if (clamps) x = v_clamp(x, lo, hi);
    v_store_upto(c, x, left);
  }
}

static void bf16_finish(const apus_gemm_f32_args *g, const float *sums, size_t row, size_t rows, size_t column) {
  const size_t columns = g->n - column < BF16_NR ? g->n - column : BF16_NR;
  size_t j = 0;
  for (; j + VL <= columns; j += VL) bf16_finish_columns(g, sums, row, rows, column, j, VL);
  if (j < columns) bf16_finish_columns(g, sums, row, rows, column, j, columns - j);
}

// Any other activation of rows [row, row + rows) of panels [p0, p1).
static void bf16_activate(const apus_gemm_f32_args *g, size_t row, size_t rows, size_t p0, size_t p1) {
  const apus_epilogue_f32 *e = &g->epilogue;
  if (e->activation <= APUS_ACTIVATION_CLIP) return;
  apus_unary_f32_fn *const function = APUS_(apus_activation_function)(e->activation);
  const size_t first = p0 * BF16_NR, end = p1 * BF16_NR < g->n ? p1 * BF16_NR : g->n;
  const float params[2] = {e->alpha, e->beta};
  for (size_t i = row; i < row + rows; i++) {
    float *c = g->c + (ptrdiff_t)i * g->ldc + (ptrdiff_t)first;
    function(end - first, c, c, params);
  }
}

// Rows [row, row + rows), at most BF16_ROWS, of panels [p0, p1), at most BF16_PANELS where there are several pieces.
static void bf16_block(const apus_gemm_f32_args *g, size_t row, size_t rows, size_t p0, size_t p1, size_t piece) {
  uint16_t a[BF16_ROWS * BF16_PIECE + APUS_BF16_DEPTH] __attribute__((aligned(64)));
  float sums[BF16_PANELS * BF16_ROWS * BF16_NR] __attribute__((aligned(64)));
  const size_t depth = g->taps * ((g->kc + 1) / 2 * 2), panel = apus_gemm_bf16_panel_count(g->taps, g->kc, BF16_NR);
  const uint16_t *b = (const uint16_t *)(const void *)g->b;
  for (size_t k = 0; k == 0 || k < depth; k += piece) {
    const size_t count = depth - k < piece ? depth - k : piece;
    const int last = k + count == depth;
    if (count) bf16_copy(g, row, rows, k, count, a);
    for (size_t p = p0; p < p1; p++) {
      float *block_sums = sums + (k == 0 && last ? 0 : p - p0) * BF16_ROWS * BF16_NR;
      bf16_products(a, b + p * panel + k * BF16_NR, (count + APUS_BF16_DEPTH - 1) / APUS_BF16_DEPTH * APUS_BF16_DEPTH,
                    rows, block_sums, k == 0);
      if (last) bf16_finish(g, block_sums, row, rows, p * BF16_NR);
    }
  }
  bf16_activate(g, row, rows, p0, p1);
}

void BF16_VARIANT(apus_gemm_bf16)(const apus_gemm_f32_args *g, size_t m0, size_t m1, size_t p0, size_t p1) {
  const size_t last = apus_gemm_panels(g->n, BF16_NR);
  if (p1 > last) p1 = last;
  if (m0 >= m1 || p0 >= p1) return;
  const size_t panel = apus_gemm_bf16_panel_count(g->taps, g->kc, BF16_NR), depth = panel / BF16_NR;
  // Pieces of nearly equal depth, in whole steps.
  const size_t pieces = (depth + BF16_PIECE - 1) / BF16_PIECE, steps = depth / APUS_BF16_DEPTH;
  const size_t piece = pieces ? (steps + pieces - 1) / pieces * APUS_BF16_DEPTH : BF16_PIECE;
  size_t group = m1 - m0 <= BF16_ROWS || !panel ? p1 - p0 : BF16_GROUP_BYTES / (panel * sizeof(uint16_t));
  if (pieces > 1 && group > BF16_PANELS) group = BF16_PANELS;
  if (group == 0) group = 1;
  size_t height = 0;
  for (size_t p = p0; p < p1; p += group) {
    const size_t end = p1 - p < group ? p1 : p + group;
    for (size_t row = m0; row < m1; row += BF16_ROWS) {
      const size_t rows = m1 - row < BF16_ROWS ? m1 - row : BF16_ROWS;
      if (rows != height) bf16_begin(rows);
      height = rows;
      bf16_block(g, row, rows, p, end, piece);
    }
  }
  bf16_end();
}

void BF16_VARIANT(apus_gemm_bf16_pack)(size_t k, const float *panel, uint16_t *pairs) {
  uint16_t rounded[2][BF16_NR < APUS_BF16_DEPTH ? APUS_BF16_DEPTH : BF16_NR];
  for (size_t i = 0; i < k; i += 2, panel += 2 * BF16_NR, pairs += 2 * BF16_NR) {
    bf16_round(panel, BF16_NR, rounded[0]);
    if (i + 1 < k) bf16_round(panel + BF16_NR, BF16_NR, rounded[1]);
    else memset(rounded[1], 0, sizeof rounded[1]);
    for (size_t j = 0; j < BF16_NR; j++) {
      pairs[2 * j] = rounded[0][j];
      pairs[2 * j + 1] = rounded[1][j];
    }
  }
}
