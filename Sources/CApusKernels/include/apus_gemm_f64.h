// Matrix multiply of float64, of matrices that lie as they are: any distance between rows and between columns.
#pragma once
#include <stddef.h>
#pragma clang assume_nonnull begin

// C[r][j] = sum over i < k of A[r][i] * B[i][j], where A[r][i] is a[r * a_row + i * a_depth], B[i][j] is
// b[i * b_depth + j * b_column] and C[r][j] is c[r * ldc + j]; k may be 0. All distances are in elements.
// Each sum is one accumulator that takes its terms in ascending order, each by one fused multiply-add (two roundings
// where the machine has none). c may not overlap a or b.
typedef struct {
  const double *a;
  ptrdiff_t a_row, a_depth;
  const double *b;
  ptrdiff_t b_depth, b_column;
  double *c;
  ptrdiff_t ldc;
  size_t k;
} apus_gemm_f64_args;

// Computes rows [m0, m1) of columns [n0, n1). Packs B a block at a time into 16 KB of the stack, so that a call of
// many rows does it once for all of them.
typedef void apus_gemm_f64_fn(const apus_gemm_f64_args *args, size_t m0, size_t m1, size_t n0, size_t n1);

#pragma clang assume_nonnull end
