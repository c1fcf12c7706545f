// Indirect matrix multiply: rows of A found through a table, B packed in panels, an epilogue on the result.
#pragma once
#include "apus_activation.h"
#pragma clang assume_nonnull begin

// In a table of offsets: this tap of this row lies in the padding.
#define APUS_OFFSET_ZERO INT32_MIN

// C[r][j] = epilogue(sum over taps t, then k < kc, of A(r, t)[k] * B[t * kc + k][j] + row_bias[r]) for rows r and
// columns j < n.
//
// A(r, t) is
//   dense (offsets == NULL, then taps must be 1):   a + r * lda
//   through the table:                              a + offsets[r * taps + t], or `zeros` for APUS_OFFSET_ZERO
// All distances are in elements. `zeros` has at least kc zero floats.
// `b` is what gemm_f32_pack made, whole, for the same taps, kc, n and level.
// Each sum is one accumulator that takes its terms in ascending (t, k) order, each term by one fused multiply-add (two
// roundings where the machine has none), then the epilogue. c may not overlap a or b.
typedef struct {
  const float *a;
  ptrdiff_t lda;
  const int32_t *_Nullable offsets;
  const float *_Nullable zeros;
  size_t taps, kc, n;
  const float *b;
  float *c;
  ptrdiff_t ldc;
  apus_epilogue_f32 epilogue;
  const float *_Nullable row_bias;  // for products whose rows are the channels
} apus_gemm_f32_args;

// Computes rows [m0, m1) of the columns of panels [p0, p1): columns [p0 * nr, min(n, p1 * nr)).
// Blocks for the caches itself; a call with few rows costs tens of nanoseconds beyond its arithmetic.
typedef void apus_gemm_f32_fn(const apus_gemm_f32_args *args, size_t m0, size_t m1, size_t p0, size_t p1);

// The same for a dense A, with B as it lies: for gemm_f32_direct row k from args->b + k * ldb on, for gemm_f32_turned
// column j from args->b + j * ldb on. Columns [j0, j1): both are multiples of 16, or j1 is n. For few rows; all of B is
// read for every four.
typedef void apus_gemm_direct_fn(const apus_gemm_f32_args *args, ptrdiff_t ldb, size_t m0, size_t m1, size_t j0,
                                 size_t j1);

// Where B comes from: element (t, k, j) lies at b + 4 * (t * stride_tap + k * stride_k + j * stride_n) bytes.
//   [k][n] with row length ld:          taps 1, stride_k = ld, stride_n = 1
//   [n][k] with row length ld:          taps 1, stride_k = 1,  stride_n = ld
//   convolution [n][c][taps]:           stride_tap = 1, stride_k = taps, stride_n = c * taps
// `b` need not be aligned.
typedef struct {
  const void *b;
  ptrdiff_t stride_tap, stride_k, stride_n;
  size_t taps, kc, n;
} apus_gemm_source;

// Writes panels [p0, p1) of packed B: packed[p][t * kc + k][nr], columns at or beyond n zero. `packed` is the start of
// the whole buffer of apus_gemm_f32_packed_count floats, aligned to 64 bytes for speed.
typedef void apus_gemm_f32_pack_fn(const apus_gemm_source *source, float *packed, size_t p0, size_t p1);

// B in half the memory: gemm_f32_f16 and gemm_f32_bf16 take float16 or bfloat16 panels of the same layout, for which
// the field `b` is a pointer to uint16_t in disguise, and widen them exactly in registers. The result has the bits of
// gemm_f32 on the widened B. gemm_b16_pack packs them, from 16-bit elements at b + 2 * (...).
typedef void apus_gemm_b16_pack_fn(const apus_gemm_source *source, uint16_t *packed, size_t p0, size_t p1);

// Panels that n columns need, and the elements of the whole packed B.
static inline size_t apus_gemm_panels(size_t n, size_t nr) { return (n + nr - 1) / nr; }
static inline size_t apus_gemm_f32_packed_count(size_t taps, size_t kc, size_t n, size_t nr) {
  return apus_gemm_panels(n, nr) * taps * kc * nr;
}

#pragma clang assume_nonnull end
