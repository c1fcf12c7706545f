// The products in the tile registers of AMX: sixteen rows of 32 elements of A by sixteen pairs of rows of B. The panels
// are those of VDPBF16PS: sixteen of their pairs are a tile as they lie. A block is up to 32 rows by one panel: four
// tiles of sums, two of A, two of B. Blocks of few rows use them too, since other instructions add in another order.
#include "gemm_bf16_round_avx512.h"

enum { BF16_TILE_ROWS = 16, BF16_TILE_BYTES = 64, BF16_AHEAD = 4096 };

typedef struct {
  uint8_t palette, start;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} bf16_tile_configuration;

// Registers 0 to 3: sums, of the upper rows (0, 1) and the lower ones (2, 3). 4 and 5: A, upper and lower. 6, 7: B.
static void bf16_begin(size_t rows) {
  const uint8_t upper = (uint8_t)(rows < BF16_TILE_ROWS ? rows : BF16_TILE_ROWS), lower = (uint8_t)(rows - upper);
  bf16_tile_configuration c = {.palette = 1};
  const uint8_t heights[8] = {upper, upper, lower, lower, upper, lower, BF16_TILE_ROWS, BF16_TILE_ROWS};
  for (int i = 0; i < 8; i++) {
    c.rows[i] = heights[i];
    c.row_bytes[i] = heights[i] ? BF16_TILE_BYTES : 0;
  }
  _tile_loadconfig(&c);
}
INLINE void bf16_end(void) { _tile_release(); }

INLINE void bf16_tiles_add(const uint16_t *a, const uint16_t *b, size_t depth, float *sums, int first, const int tall) {
  enum { LD = BF16_NR * sizeof(float), A_LD = BF16_PIECE * sizeof(uint16_t), B_LD = 2 * BF16_NR * sizeof(uint16_t) };
  const uint16_t *below = a + BF16_TILE_ROWS * BF16_PIECE;
  float *sums_below = sums + BF16_TILE_ROWS * BF16_NR;
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    if (tall) {
      _tile_zero(2);
      _tile_zero(3);
    }
  } else {
    _tile_loadd(0, sums, LD);
    _tile_loadd(1, sums + 16, LD);
    if (tall) {
      _tile_loadd(2, sums_below, LD);
      _tile_loadd(3, sums_below + 16, LD);
    }
  }
  for (size_t k = 0; k < depth; k += APUS_BF16_DEPTH, b += APUS_BF16_DEPTH * BF16_NR) {
    _tile_loadd(6, b, B_LD);
    _tile_loadd(4, a + k, A_LD);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + 32, B_LD);
    _tile_dpbf16ps(1, 4, 7);
    if (tall) {
      _tile_loadd(5, below + k, A_LD);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, LD);
  _tile_stored(1, sums + 16, LD);
  if (tall) {
    _tile_stored(2, sums_below, LD);
    _tile_stored(3, sums_below + 16, LD);
  }
}

INLINE void bf16_products(const uint16_t *a, const uint16_t *b, size_t depth, size_t rows, float *sums, int first) {
  if (rows > BF16_TILE_ROWS) bf16_tiles_add(a, b, depth, sums, first, 1);
  else bf16_tiles_add(a, b, depth, sums, first, 0);
}
