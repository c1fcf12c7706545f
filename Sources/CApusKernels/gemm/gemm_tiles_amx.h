// What the products in the tile registers of AMX have in common: a block of up to 32 rows by one panel of 32 columns.
// Its sums are four tiles, registers 0 and 1 of the upper rows, 2 and 3 of the lower ones; 4 and 5 hold 64 bytes of
// sixteen rows of A, upper and lower; 6 and 7 B. Panels whose groups of rows fill 32 bits a column are tiles as they
// lie: sixteen such groups, of sixteen columns each.
#pragma once

enum { TILE_ROWS = 16, TILE_BYTES = 64, TILE_PANEL_BYTES = 2 * TILE_BYTES };

typedef struct {
  uint8_t palette, start;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} tile_configuration;

// Before the blocks of so many rows, at most 32. _tile_release() ends them all.
static void tiles_configure(size_t rows) {
  const uint8_t upper = (uint8_t)(rows < TILE_ROWS ? rows : TILE_ROWS), lower = (uint8_t)(rows - upper);
  tile_configuration c = {.palette = 1};
  const uint8_t heights[8] = {upper, upper, lower, lower, upper, lower, TILE_ROWS, TILE_ROWS};
  for (int i = 0; i < 8; i++) {
    c.rows[i] = heights[i];
    c.row_bytes[i] = heights[i] ? TILE_BYTES : 0;
  }
  _tile_loadconfig(&c);
}

// Defines a function that adds the products of `bytes` bytes, a multiple of TILE_BYTES, of the rows at `a`, which are
// `lda` bytes apart, to the sums of a block, which begin at zero with `first`. `tall`: it has more than TILE_ROWS rows.
#define TILES_ADD(name, dot) \
  INLINE void name(const void *a, size_t lda, const void *b, size_t bytes, void *sums, int first, const int tall) { \
    enum { LD = TILE_PANEL_BYTES }; \
    const uint8_t *above = a, *below = above + TILE_ROWS * lda, *panel = b; \
    uint8_t *sums_above = sums, *sums_below = sums_above + TILE_ROWS * LD; \
    if (first) { \
      _tile_zero(0); \
      _tile_zero(1); \
      if (tall) { \
        _tile_zero(2); \
        _tile_zero(3); \
      } \
    } else { \
      _tile_loadd(0, sums_above, LD); \
      _tile_loadd(1, sums_above + TILE_BYTES, LD); \
      if (tall) { \
        _tile_loadd(2, sums_below, LD); \
        _tile_loadd(3, sums_below + TILE_BYTES, LD); \
      } \
    } \
    for (size_t k = 0; k < bytes; k += TILE_BYTES, panel += 16 * TILE_PANEL_BYTES) { \
      _tile_loadd(6, panel, LD); \
      _tile_loadd(4, above + k, lda); \
      dot(0, 4, 6); \
      _tile_loadd(7, panel + TILE_BYTES, LD); \
      dot(1, 4, 7); \
      if (tall) { \
        _tile_loadd(5, below + k, lda); \
        dot(2, 5, 6); \
        dot(3, 5, 7); \
      } \
    } \
    _tile_stored(0, sums_above, LD); \
    _tile_stored(1, sums_above + TILE_BYTES, LD); \
    if (tall) { \
      _tile_stored(2, sums_below, LD); \
      _tile_stored(3, sums_below + TILE_BYTES, LD); \
    } \
  }
