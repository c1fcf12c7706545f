// Float32 products with weights of 2, 4 or 8 bits, which are widened in registers.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

// The weight at (k, j) of a [k, n] matrix of codes of `bits` bits, quantized by blocks of `block` rows:
//   (code - zero[k / block][j]) * scale[k / block][j], each operation rounded once.
//
// `codes` and `scales` are what gemm_f32_pack makes of them, panels of gemm_f32_nr columns: codes as words of 32 bits
// with 32 / bits of them, ascending in k from the lowest bits, [ceil(k / block) * block * bits / 32 words][nr] a panel;
// scales [blocks][nr]. block * bits is a multiple of 32. Zero points, [blocks][nr] a panel too, are `float_zeros` or
// `zeros`, or the middle of the range where both are NULL. With a `table` of sixteen numbers, for 4 bits, the weight is
//   table[code] * scale[k / block][j],
// there are no zero points, and of the two codes of a byte the one in the high bits is the first.
typedef struct {
  size_t k, n, block;
  unsigned bits;
  const float *codes;
  const float *scales;
  const uint8_t *_Nullable zeros;
  const float *_Nullable float_zeros;
  const float *_Nullable table;
} apus_nbits_weights;

// C[r][j] = sum over k of A[r][k] * weight(k, j), plus the bias: the bits of gemm_f32 on the weights.
typedef struct {
  apus_nbits_weights weights;
  const float *a;
  ptrdiff_t lda;
  float *c;
  ptrdiff_t ldc;
  const float *_Nullable bias;
} apus_gemm_nbits_args;

// Rows [m0, m1) of the columns of panels [p0, p1). The weights are widened anew for every four rows.
typedef void apus_gemm_nbits_fn(const apus_gemm_nbits_args *args, size_t m0, size_t m1, size_t p0, size_t p1);

// Writes panels [p0, p1) of the weights as gemm_f32 takes them, the first one at `packed`.
typedef void apus_nbits_panels_fn(const apus_nbits_weights *weights, float *packed, size_t p0, size_t p1);

// A row of A in 8 bits, for weights of `bits` bits in blocks of `block`: of each block, filled up with zeros, the
// numbers a / scale to the nearest integer in [-127, 127], where scale is the largest magnitude / 127; in the order in
// which gemm_nbits_i8 meets them: for each word of codes 8 / bits groups of four, the first of which has those of the
// lowest bits of the bytes. `sums` are those of the integers of each block. False, and nothing of use is written, if a
// block has a number that is not finite, or a largest magnitude that is not 0 and beyond [2^-100, 2^100].
typedef bool apus_nbits_row_fn(size_t k, size_t block, unsigned bits, const float *a, int8_t *row, float *scales,
                               int32_t *sums);

// C[r][j] = sum over blocks, in their order, of (sum of row * (code - zero)) * scale of the row's block * scale of the
// weights', the inner sum exact for weights with integer zero points, plus the bias. There is no table. `rows`,
// `row_scales` and `row_sums` are what nbits_row makes of each row, [blocks * block] and [blocks] a row.
typedef struct {
  apus_nbits_weights weights;
  const int8_t *rows;
  const float *row_scales;
  const int32_t *row_sums;
  float *c;
  ptrdiff_t ldc;
  const float *_Nullable bias;
} apus_gemm_nbits_i8_args;

// Rows [m0, m1) of the columns of panels [p0, p1).
typedef void apus_gemm_nbits_i8_fn(const apus_gemm_nbits_i8_args *args, size_t m0, size_t m1, size_t p0, size_t p1);

#pragma clang assume_nonnull end
