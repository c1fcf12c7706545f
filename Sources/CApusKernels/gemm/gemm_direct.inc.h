// The float32 GEMM on B as it lies, for few rows: packing would take longer than the product. Included behind
// gemm_f32.inc.h, whose epilogue it shares.
//
// Where rows of B are runs, some of them at a time go by whole, and sums lie on the stack meanwhile; where columns are,
// some of them at a time are turned in registers. Each sum takes its terms in the order of k, as those of packed panels
// do.
#include "../simd/columns.inc.h"

enum { DIRECT_ROWS = 4, DIRECT_COLUMNS = 1024, DIRECT_DEPTH = 8 };

// sums[i][j] += a[i][q] * b[q * ldb + j] for q < depth, j < n.
INLINE void direct_depth(const float *const *a, const float *b, ptrdiff_t ldb, size_t n, float (*sums)[DIRECT_COLUMNS],
                         const int rows, const int depth) {
  vf x[DIRECT_ROWS][DIRECT_DEPTH];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int q = 0; q < depth; q++) x[i][q] = v_set1(a[i][q]);
  }
  for (size_t j = 0; j < n; j += VL) {
    vf sum[DIRECT_ROWS];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) sum[i] = v_load(sums[i] + j);
#pragma clang loop unroll(full)
    for (int q = 0; q < depth; q++) {
      const vf row = v_load_upto(b + q * ldb + (ptrdiff_t)j, n - j);
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) sum[i] = v_fma(x[i][q], row, sum[i]);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) v_store(sums[i] + j, sum[i]);
  }
}

INLINE void direct_columns(const apus_gemm_f32_args *g, ptrdiff_t ldb, size_t row, size_t column, size_t n,
                           const int rows) {
  float sums[DIRECT_ROWS][DIRECT_COLUMNS];
  const float *a[DIRECT_ROWS], *b = g->b + column;
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
    a[i] = g->a + (ptrdiff_t)(row + (size_t)i) * g->lda;
    for (size_t j = 0; j < n; j += VL) v_store(sums[i] + j, v_zero());
  }
  for (size_t k = 0; k < g->kc;) {
    const size_t depth = g->kc - k >= DIRECT_DEPTH ? DIRECT_DEPTH : 1;
    if (depth > 1) direct_depth(a, b, ldb, n, sums, rows, DIRECT_DEPTH);
    else direct_depth(a, b, ldb, n, sums, rows, 1);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) a[i] += depth;
    b += (ptrdiff_t)depth * ldb;
    k += depth;
  }
  for (size_t j = 0; j < n; j += VL) {
    vf acc[GEMM_MR][GEMM_NV * 4];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) acc[i][0] = v_load(sums[i] + j);
    finish(g, row, column + j, rows, 1, acc, 0);
  }
}

void APUS_(apus_gemm_f32_direct)(const apus_gemm_f32_args *g, ptrdiff_t ldb, size_t m0, size_t m1, size_t j0,
                                 size_t j1) {
  for (size_t row = m0; row < m1; row += DIRECT_ROWS) {
    const size_t rows = m1 - row < DIRECT_ROWS ? m1 - row : DIRECT_ROWS;
    for (size_t j = j0; j < j1; j += DIRECT_COLUMNS) {
      const size_t n = j1 - j < DIRECT_COLUMNS ? j1 - j : DIRECT_COLUMNS;
      switch (rows) {
        case 1: direct_columns(g, ldb, row, j, n, 1); break;
        case 2: direct_columns(g, ldb, row, j, n, 2); break;
        case 3: direct_columns(g, ldb, row, j, n, 3); break;
        default: direct_columns(g, ldb, row, j, n, 4); break;
      }
    }
    if (g->epilogue.activation > APUS_ACTIVATION_CLIP && j0 < j1)
      apply_activation(&g->epilogue, g->c + (ptrdiff_t)row * g->ldc + (ptrdiff_t)j0, g->ldc, rows, j1 - j0);
  }
}

// Vectors of columns that are turned together, and the terms of each.
enum { TURNED_VECTORS = 2, TURNED_DEPTH = 4 };

// acc[i][v] += a[i][q] * column q of the rows `b[v]`, for q < TURNED_DEPTH.
INLINE void turned_terms(const float *const *a, const float *const *b, ptrdiff_t ldb, const size_t *last,
                         vf (*acc)[GEMM_NV * 4], const int rows, const int vectors) {
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) {
    vf x[TURNED_DEPTH];
    v_load_columns(b[v], ldb, last[v], x);
#pragma clang loop unroll(full)
    for (int q = 0; q < TURNED_DEPTH; q++)
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) acc[i][v] = v_fma(v_set1(a[i][q]), x[q], acc[i][v]);
  }
}

// The columns from `column` on, `vectors` vectors of them, of which `left` are there; `whole`: all.
INLINE void turned_block(const apus_gemm_f32_args *g, ptrdiff_t ldb, size_t row, size_t column, size_t left,
                         const int rows, const int vectors, const int whole) {
  const float *a[DIRECT_ROWS], *b[TURNED_VECTORS];
  size_t last[TURNED_VECTORS];
  vf acc[GEMM_MR][GEMM_NV * 4];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
    a[i] = g->a + (ptrdiff_t)(row + (size_t)i) * g->lda;
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[i][v] = v_zero();
  }
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) {
    b[v] = g->b + (ptrdiff_t)(column + (size_t)v * VL) * ldb;
    last[v] = whole ? VL - 1 : left - (size_t)v * VL - 1;
  }
  size_t k = 0;
  for (; k + TURNED_DEPTH <= g->kc; k += TURNED_DEPTH) {
    turned_terms(a, b, ldb, last, acc, rows, vectors);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) a[i] += TURNED_DEPTH;
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) b[v] += TURNED_DEPTH;
  }
  for (; k < g->kc; k++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      float lanes[VL];
      for (size_t i = 0; i < VL; i++) lanes[i] = b[v][(ptrdiff_t)(i < last[v] ? i : last[v]) * ldb];
      const vf x = v_load(lanes);
      b[v]++;
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) acc[i][v] = v_fma(v_set1(*a[i]), x, acc[i][v]);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) a[i]++;
  }
  finish(g, row, column, rows, vectors, acc, whole);
}

INLINE void turned_columns(const apus_gemm_f32_args *g, ptrdiff_t ldb, size_t row, size_t j0, size_t j1,
                           const int rows) {
  size_t j = j0;
  for (; j + TURNED_VECTORS * VL <= j1; j += TURNED_VECTORS * VL)
    turned_block(g, ldb, row, j, TURNED_VECTORS * VL, rows, TURNED_VECTORS, 1);
  for (; j < j1; j += VL) turned_block(g, ldb, row, j, j1 - j < VL ? j1 - j : VL, rows, 1, 0);
}

void APUS_(apus_gemm_f32_turned)(const apus_gemm_f32_args *g, ptrdiff_t ldb, size_t m0, size_t m1, size_t j0,
                                 size_t j1) {
  for (size_t row = m0; row < m1; row += DIRECT_ROWS) {
    const size_t rows = m1 - row < DIRECT_ROWS ? m1 - row : DIRECT_ROWS;
    switch (rows) {
      case 1: turned_columns(g, ldb, row, j0, j1, 1); break;
      case 2: turned_columns(g, ldb, row, j0, j1, 2); break;
      case 3: turned_columns(g, ldb, row, j0, j1, 3); break;
      default: turned_columns(g, ldb, row, j0, j1, 4); break;
    }
    if (g->epilogue.activation > APUS_ACTIVATION_CLIP && j0 < j1)
      apply_activation(&g->epilogue, g->c + (ptrdiff_t)row * g->ldc + (ptrdiff_t)j0, g->ldc, rows, j1 - j0);
  }
}
