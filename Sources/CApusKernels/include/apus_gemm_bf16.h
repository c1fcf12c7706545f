// Indirect matrix multiply of bfloat16 with float32 sums: A is rounded on the way, B is packed in pairs of rows.
#pragma once
#include "apus_gemm.h"
#pragma clang assume_nonnull begin

// As apus_gemm_f32_fn with A rounded to bfloat16 (to nearest, ties to even; NaN stays NaN), and the field `b` a pointer
// to panels of gemm_bf16_nr columns in disguise:
//   packed[p][t * (kc + 1) / 2 + k / 2][gemm_bf16_nr][k % 2], zeros in the second place of the last pair of an odd kc,
//   and rows of zeros until they are a multiple of APUS_BF16_DEPTH, which is what a tile register takes.
// Products are exact and sums in float32, in an order that k and the variant give, whichever rows and panels a call
// computes; a sum rounds to nearest, or to odd where the machine's instruction does. Of operands, products and sums,
// those below 2^-126 in magnitude may count as 0.
typedef void apus_gemm_bf16_fn(const apus_gemm_f32_args *args, size_t m0, size_t m1, size_t p0, size_t p1);

// Rounds rows of a packed float32 panel of gemm_bf16_nr columns, [k][nr], to pairs, [(k + 1) / 2][nr][2].
typedef void apus_gemm_bf16_pack_fn(size_t k, const float *panel, uint16_t *pairs);

enum { APUS_BF16_DEPTH = 32 };

// Elements of one packed panel, and of the whole packed B. The buffer is aligned to 64 bytes.
static inline size_t apus_gemm_bf16_panel_count(size_t taps, size_t kc, size_t nr) {
  const size_t depth = taps * ((kc + 1) / 2 * 2);
  return (depth + APUS_BF16_DEPTH - 1) / APUS_BF16_DEPTH * APUS_BF16_DEPTH * nr;
}
static inline size_t apus_gemm_bf16_packed_count(size_t taps, size_t kc, size_t n, size_t nr) {
  return apus_gemm_panels(n, nr) * apus_gemm_bf16_panel_count(taps, kc, nr);
}

#pragma clang assume_nonnull end
