// Where the rows of an indirect A lie.
#pragma once

INLINE const float *gemm_row_at(const apus_gemm_f32_args *g, int32_t offset) {
  const float *row = (const float *)((uintptr_t)g->a + (uintptr_t)((ptrdiff_t)offset * (ptrdiff_t)sizeof(float)));
  return __builtin_unpredictable(offset == APUS_OFFSET_ZERO) ? g->zeros : row;
}
// The elements of one tap of a row.
INLINE const float *gemm_row_of_tap(const apus_gemm_f32_args *g, size_t row, size_t tap) {
  return g->offsets ? gemm_row_at(g, g->offsets[row * g->taps + tap]) : g->a + (ptrdiff_t)row * g->lda;
}
