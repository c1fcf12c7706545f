// The products in the tile registers of AMX: sixteen rows of 32 elements of A by sixteen pairs of rows of B, in the
// panels of VDPBF16PS. Blocks of few rows use them too, since other instructions add in another order.
#include "gemm_bf16_round_avx512.h"
#include "gemm_tiles_amx.h"

INLINE void bf16_begin(size_t rows) { tiles_configure(rows); }
INLINE void bf16_end(void) { _tile_release(); }

TILES_ADD(bf16_tiles_add, _tile_dpbf16ps)

INLINE void bf16_products(const uint16_t *a, const uint16_t *b, size_t depth, size_t rows, float *sums, int first) {
  const size_t lda = BF16_PIECE * sizeof *a, bytes = depth * sizeof *a;
  if (rows > TILE_ROWS) bf16_tiles_add(a, lda, b, bytes, sums, first, 1);
  else bf16_tiles_add(a, lda, b, bytes, sums, first, 0);
}
