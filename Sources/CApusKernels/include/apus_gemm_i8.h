// Indirect matrix multiply of 8-bit integers into exact 32-bit sums, with zero points and a requantizing epilogue.
#pragma once
#include <stdbool.h>

#include "apus_gemm.h"
#pragma clang assume_nonnull begin

typedef enum {
  APUS_GEMM_I8_TO_I32 = 0,  // the sum
  APUS_GEMM_I8_TO_F32,      // epilogue(float(sum) * scale)
  APUS_GEMM_I8_TO_U8,       // min(max(round_half_even(float(sum) * scale) + zero, low), high)
  APUS_GEMM_I8_TO_S8,
} apus_gemm_i8_output;

// sum[r][j] = bias[j] + sum over t, k of (A(r, t)[k] - a_zero(r)) * (B[t * kc + k][j] - b_zero(j)), modulo 2^32.
//
// A is u8 or s8 and found as in apus_gemm_f32_args, with `pad` (kc bytes, each the zero point, when a_zeros is NULL) in
// the place of the zero row. Per-row and per-column zero points and scales replace the single ones where given.
// Distances are in elements. c holds int32, float, u8 or s8, as `output` says.
typedef struct {
  const void *a;
  ptrdiff_t lda;
  const int32_t *_Nullable offsets;
  const void *_Nullable pad;
  size_t taps, kc, n;
  bool a_signed, b_signed;
  int32_t a_zero, b_zero;
  const int32_t *_Nullable a_zeros;  // [m]
  const int32_t *_Nullable b_zeros;  // [n]
  const void *b;
  void *c;
  ptrdiff_t ldc;
  apus_gemm_i8_output output;
  bool wide;  // to bytes: the product with the scale and the rounding are in float64, and NaN gives 0, not low
  const int32_t *_Nullable bias;  // [n]
  float scale;
  const float *_Nullable scales;  // [n]
  int32_t zero, low, high;
  apus_epilogue_f32 epilogue;  // for APUS_GEMM_I8_TO_F32
} apus_gemm_i8_args;

// Rows [m0, m1), panels [p0, p1) of gemm_i8_nr columns.
typedef void apus_gemm_i8_fn(const apus_gemm_i8_args *args, size_t m0, size_t m1, size_t p0, size_t p1);

// Packs panels [p0, p1) of B (strides as in apus_gemm_source, here in bytes). A panel holds, for each tap, kc rounded
// up to a multiple of four, in groups of four by column; zeros up to a multiple of sixteen groups, which is what a tile
// register takes; then the sums of its columns; then, if it has sixteen columns, what
// was taken off them.
typedef void apus_gemm_i8_pack_fn(const apus_gemm_source *source, bool b_signed, void *packed, size_t p0, size_t p1);

// Bytes of the groups of one panel, which its sums follow.
static inline size_t apus_gemm_i8_group_bytes(size_t taps, size_t kc, size_t nr) {
  return (taps * ((kc + 3) / 4) + 15) / 16 * 16 * 4 * nr;
}
// What was taken off one byte of B so that a kernel may add the products of neighbours in 16 bits: it is multiplied on
// its own. A panel of sixteen columns has a list of these behind its sums, at most one for three of its groups.
typedef struct {
  uint32_t k;
  uint16_t tap;
  uint8_t column;
  int8_t rest;
} apus_gemm_i8_rest;
typedef struct {
  uint32_t count;  // APUS_GEMM_I8_WHOLE: there would be too many, and nothing was taken off
  uint32_t reserved;
  apus_gemm_i8_rest rests[];
} apus_gemm_i8_rests;
#define APUS_GEMM_I8_WHOLE UINT32_MAX
static inline size_t apus_gemm_i8_most_rests(size_t taps, size_t kc) { return (taps * ((kc + 3) / 4) + 2) / 3; }
static inline size_t apus_gemm_i8_rest_bytes(size_t taps, size_t kc, size_t nr) {
  return nr == 16 ? (apus_gemm_i8_most_rests(taps, kc) + 1 + 7) / 8 * 64 : 0;
}

// Bytes of one panel, and of the whole packed B. The buffer is aligned to 64 bytes.
static inline size_t apus_gemm_i8_panel_bytes(size_t taps, size_t kc, size_t nr) {
  return apus_gemm_i8_group_bytes(taps, kc, nr) + 4 * nr + apus_gemm_i8_rest_bytes(taps, kc, nr);
}
static inline size_t apus_gemm_i8_packed_bytes(size_t taps, size_t kc, size_t n, size_t nr) {
  return apus_gemm_panels(n, nr) * apus_gemm_i8_panel_bytes(taps, kc, nr);
}

#pragma clang assume_nonnull end
