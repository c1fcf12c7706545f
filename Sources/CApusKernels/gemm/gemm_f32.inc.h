// The float32 indirect GEMM, written once over the vector vocabulary. A file includes this after its simd header and
// its tiles header, which defines GEMM_NV (vectors of a panel), GEMM_MR (rows of a full tile) and GEMM_TILES, the list
// of register tiles TILE(rows, vectors); a tile of more than GEMM_NV vectors spans several panels, for few rows. The
// file defines GEMM_NAME, the kernel; GEMM_B, the element type of packed B; and GEMM_LOAD(p), a vector of B as float32.
// A tiles header may also define GEMM_UNROLL, the pragma of the loop over terms, and GEMM_PREFETCHES(v), whether vector
// v of a row of a panel asks for what lies ahead of it.
//
// Each accumulator lives in one register from the first tap to the epilogue, so the order of a sum is the order of
// (tap, k), whichever tile computes it.
#include "gemm_rows.h"

#ifndef GEMM_UNROLL
#define GEMM_UNROLL "clang loop unroll_count(4)"
#define GEMM_PREFETCHES(v) 1
#endif

// PREFETCH_BYTES: how far ahead of a tile of several rows its panel is asked for, whose pages the hardware does not
// follow on its own. STEP: the terms between two requests for what later tiles read. FEWEST_TILES: with fewer, the
// requests would stand in each other's way. PAGE_FLOATS: no prefetcher follows rows that far apart.
enum {
  NR = GEMM_NV * VL, PANEL_GROUP_BYTES = 512 * 1024, PREFETCH_BYTES = 4096, PAGE_FLOATS = 1024,
  CACHE_LINE = 64, STEP = 32, FEWEST_TILES = 4
};

// Lines of B that later tiles read, which a tile asks for on its way: so many, from `next` on. A model's weights come
// from memory in every run, and one tile after the other would wait for its own.
typedef struct {
  const char *next;
  size_t lines;
} lines_ahead;

typedef void tile_fn(const apus_gemm_f32_args *g, size_t row, size_t panel, lines_ahead ahead);

// The share of the i-th of `count` tiles of what `bytes` bytes from `from` on are.
INLINE lines_ahead share_of_lines(const void *from, size_t bytes, size_t i, size_t count) {
  const size_t lines = bytes / CACHE_LINE, share = (lines + count - 1) / count;
  const size_t first = share * i < lines ? share * i : lines, left = lines - first;
  return (lines_ahead){(const char *)from + first * CACHE_LINE, left < share ? left : share};
}

// acc[i][v] += a[i][k] * b[v], where b is a row of a panel, or of several `panel_size` apart.
#define ADD_TERM \
  { \
    vf terms[GEMM_NV * 4]; \
    _Pragma("clang loop unroll(full)") \
    for (int v = 0; v < vectors; v++) { \
      const GEMM_B *part = b + (size_t)(v / GEMM_NV) * panel_size + (v % GEMM_NV) * VL; \
      terms[v] = GEMM_LOAD(part); \
      if (rows > 1 && GEMM_PREFETCHES(v)) __builtin_prefetch((const char *)part + PREFETCH_BYTES); \
    } \
    _Pragma("clang loop unroll(full)") \
    for (int i = 0; i < rows; i++) { \
      const vf x = v_set1(a[i][k]); \
      _Pragma("clang loop unroll(full)") \
      for (int v = 0; v < vectors; v++) acc[i][v] = v_fma(x, terms[v], acc[i][v]); \
    } \
  }

// The terms k < kc; meanwhile a share of `ahead`, as large as that of kc in `depth`, is asked for.
#define ADD_TERMS \
  { \
    size_t k = 0; \
    if (rows > 1 && ahead.lines) { \
      const size_t lines_a_step = (ahead.lines * STEP + depth - 1) / depth; \
      for (; k + STEP <= kc;) { \
        for (size_t i = ahead.lines < lines_a_step ? ahead.lines : lines_a_step; i > 0; i--, ahead.lines--) { \
          __builtin_prefetch(ahead.next, 0, 2); \
          ahead.next += CACHE_LINE; \
        } \
        _Pragma(GEMM_UNROLL) \
        for (const size_t end = k + STEP; k < end; k++, b += NR) ADD_TERM \
      } \
    } \
    _Pragma(GEMM_UNROLL) \
    for (; k < kc; k++, b += NR) ADD_TERM \
  }

static void apply_activation(const apus_epilogue_f32 *e, float *c, ptrdiff_t ldc, size_t rows, size_t columns) {
  apus_unary_f32_fn *const function = APUS_(apus_activation_function)(e->activation);
  const float params[2] = {e->alpha, e->beta};
  for (size_t i = 0; i < rows; i++) function(columns, c + (ptrdiff_t)i * ldc, c + (ptrdiff_t)i * ldc, params);
}

// Adds bias and residual, applies an activation that is a clamp, and stores; `whole` says that no column is cut off.
INLINE void finish(const apus_gemm_f32_args *g, size_t row, size_t column, const int rows, const int vectors,
                   vf (*acc)[GEMM_NV * 4], const int whole) {
  const apus_epilogue_f32 *e = &g->epilogue;
  const size_t left = g->n - column;
#define COUNT(v) (whole ? (size_t)VL : left > (size_t)(v) * VL ? left - (size_t)(v) * VL : 0)
  if (g->row_bias) {
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
      const vf bias = v_set1(g->row_bias[row + (size_t)i]);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) acc[i][v] += bias;
    }
  }
  if (e->bias) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      vf bias = v_load_upto(e->bias + column + v * VL, COUNT(v));
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) acc[i][v] += bias;
    }
  }
  if (e->add) {
    const float *add = e->add + (ptrdiff_t)row * e->add_ld + (ptrdiff_t)column;
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++, add += e->add_ld) {
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) acc[i][v] += v_load_upto(add + v * VL, COUNT(v));
    }
  }
  if (e->activation == APUS_ACTIVATION_RELU || e->activation == APUS_ACTIVATION_CLIP) {
    const int relu = e->activation == APUS_ACTIVATION_RELU;
    const vf lo = v_set1(relu ? 0 : e->alpha), hi = v_set1(relu ? __builtin_inff() : e->beta);
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) acc[i][v] = v_clamp(acc[i][v], lo, hi);
    }
  }
  float *c = g->c + (ptrdiff_t)row * g->ldc + (ptrdiff_t)column;
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++, c += g->ldc) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) v_store_upto(c + v * VL, acc[i][v], COUNT(v));
  }
#undef COUNT
}

INLINE void tile(const apus_gemm_f32_args *g, size_t row, size_t panel, lines_ahead ahead, const int rows,
                 const int vectors) {
  const size_t depth = g->taps * g->kc, panel_size = depth * NR, kc = g->kc;
  const GEMM_B *b = (const GEMM_B *)(const void *)g->b + panel * panel_size;
  vf acc[GEMM_MR][GEMM_NV * 4];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[i][v] = v_zero();
  }
  // No prefetcher follows rows of C that lie on pages of their own.
  if (g->ldc >= PAGE_FLOATS) {
    const float *c = g->c + (ptrdiff_t)row * g->ldc + (ptrdiff_t)(panel * NR);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++, c += g->ldc) {
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) __builtin_prefetch(c + v * VL, 1);
    }
  }
  for (size_t t = 0; t < g->taps; t++) {
    const float *a[GEMM_MR];
    if (g->offsets) {
      const int32_t *offset = g->offsets + row * g->taps + t;
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) a[i] = gemm_row_at(g, offset[(size_t)i * g->taps]);
    } else {
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) a[i] = g->a + (ptrdiff_t)(row + (size_t)i) * g->lda;
    }
    ADD_TERMS
  }
  const size_t first = panel * NR;
  if (first + (size_t)vectors * VL <= g->n) finish(g, row, first, rows, vectors, acc, 1);
  else finish(g, row, first, rows, vectors, acc, 0);
}

#define TILE(rows, vectors) \
  static void tile_##rows##x##vectors(const apus_gemm_f32_args *g, size_t row, size_t panel, lines_ahead ahead) { \
    tile(g, row, panel, ahead, rows, vectors); \
  }
GEMM_TILES
#undef TILE

// tiles[rows][vectors]; where a multi-panel tile is missing, rows of that height are done panel by panel.
static tile_fn *const tiles[GEMM_MR + 1][GEMM_NV * 4 + 1] = {
#define TILE(rows, vectors) [rows][vectors] = tile_##rows##x##vectors,
    GEMM_TILES
#undef TILE
};

// Applies an activation that is no clamp to the panels [p0, p1) of some rows.
static void activate_row(const apus_gemm_f32_args *g, size_t row, size_t rows, size_t p0, size_t p1) {
  if (g->epilogue.activation <= APUS_ACTIVATION_CLIP) return;
  const size_t first = p0 * NR, end = p1 * NR < g->n ? p1 * NR : g->n;
  apply_activation(&g->epilogue, g->c + (ptrdiff_t)row * g->ldc + (ptrdiff_t)first, g->ldc, rows, end - first);
}

// All panels [p0, p1) of the i-th of `count` tiles of rows, which together ask for the panels [next, ...) if B is more
// than what stays in a cache.
static void tile_row(const apus_gemm_f32_args *g, size_t row, size_t rows, size_t p0, size_t p1, size_t next, size_t i,
                     size_t count) {
  const size_t panel_size = g->taps * g->kc * NR, last = apus_gemm_panels(g->n, NR);
  const GEMM_B *packed = (const GEMM_B *)(const void *)g->b;
  const int is_large = count >= FEWEST_TILES && last * panel_size * sizeof(GEMM_B) > PANEL_GROUP_BYTES;
  size_t p = p0;
  for (size_t span = 4; span > 1; span /= 2) {
    tile_fn *const wide = tiles[rows][span * GEMM_NV];
    if (wide)
      for (; p + span <= p1; p += span) wide(g, row, p, (lines_ahead){0});
  }
  for (; p < p1; p++) {
    const size_t left = g->n - p * NR, vectors = left >= NR ? GEMM_NV : (left + VL - 1) / VL;
    const size_t later = next + (p - p0);
    lines_ahead ahead = {0};
    if (is_large && later < last)
      ahead = share_of_lines(packed + later * panel_size, panel_size * sizeof(GEMM_B), i, count);
    tiles[rows][vectors](g, row, p, ahead);
  }
  activate_row(g, row, rows, p0, p1);
}

void APUS_(GEMM_NAME)(const apus_gemm_f32_args *g, size_t m0, size_t m1, size_t p0, size_t p1) {
  const size_t last = apus_gemm_panels(g->n, NR);
  if (p1 > last) p1 = last;
  if (m0 >= m1 || p0 >= p1) return;
  const size_t rows = m1 - m0;
  if (rows <= GEMM_MR) {
    tile_row(g, m0, rows, p0, p1, p1, 0, 1);
    return;
  }
  // Tiles of nearly equal height, and panels in groups that stay in the second-level cache while the rows go by.
  const size_t count = (rows + GEMM_MR - 1) / GEMM_MR, height = rows / count, taller = rows % count;
  const size_t panel_bytes = g->taps * g->kc * NR * sizeof(GEMM_B);
  size_t group = panel_bytes ? PANEL_GROUP_BYTES / panel_bytes : p1 - p0;
  if (group == 0) group = 1;
  for (size_t p = p0; p < p1; p += group) {
    const size_t end = p1 - p < group ? p1 : p + group;
    size_t row = m0;
    for (size_t i = 0; i < count; i++) {
      const size_t tall = height + (i < taller);
      tile_row(g, row, tall, p, end, end, i, count);
      row += tall;
    }
  }
}
