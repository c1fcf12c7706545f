// The products of many rows in the tile registers of AMX: sixteen rows of 64 bytes of A by sixteen groups of four rows
// of B, added to 32 bits without saturation, in the panels of VPDPBUSD. A is read where it lies if its rows are dense
// and whole tiles; otherwise a piece of its depth is copied, without gaps between the taps and with zeros behind.
#include "gemm_tiles_amx.h"

enum {
  // Fewer rows are as fast without.
  TILES_LEAST_ROWS = 8,
  // Bytes of a row that are copied at a time, and the panels whose sums wait for the next piece.
  TILES_PIECE = 18 * TILE_BYTES,
  TILES_PANELS = 8,
};

TILES_ADD(i8_tiles_add_unsigned, _tile_dpbusd)
TILES_ADD(i8_tiles_add_signed, _tile_dpbssd)

static void i8_tiles_add(const apus_gemm_i8_args *g, const uint8_t *a, size_t lda, const int8_t *b, size_t depth,
                         uint32_t *sums, int first, size_t rows) {
  if (g->a_signed) {
    if (rows > TILE_ROWS) i8_tiles_add_signed(a, lda, b, depth, sums, first, 1);
    else i8_tiles_add_signed(a, lda, b, depth, sums, first, 0);
  } else {
    if (rows > TILE_ROWS) i8_tiles_add_unsigned(a, lda, b, depth, sums, first, 1);
    else i8_tiles_add_unsigned(a, lda, b, depth, sums, first, 0);
  }
}

// Copies `count` bytes, and zeros up to a multiple of TILE_BYTES behind them.
INLINE void i8_tiles_copy(uint8_t *out, const uint8_t *from, size_t count) {
  for (; count >= TILE_BYTES; count -= TILE_BYTES, out += TILE_BYTES, from += TILE_BYTES)
    _mm512_storeu_si512(out, _mm512_loadu_si512(from));
  if (count) _mm512_storeu_si512(out, _mm512_maskz_loadu_epi8(~(uint64_t)0 >> (TILE_BYTES - count), from));
}

// Copies bytes [start, start + count) of the depth of some rows, in which each tap is a multiple of four bytes. A row
// has TILES_PIECE bytes and may be written that far; behind the last one is room for a tile's.
static void i8_tiles_gather(const apus_gemm_i8_args *g, size_t row, size_t rows, size_t start, size_t count,
                            uint8_t *out) {
  const size_t tap_bytes = (g->kc + 3) / 4 * 4, first_tap = start / tap_bytes, first_byte = start % tap_bytes;
  for (size_t i = 0; i < rows; i++, out += TILES_PIECE) {
    size_t at = 0, byte = first_byte;
    for (size_t t = first_tap; at < count; t++, byte = 0) {
      size_t length = tap_bytes - byte < count - at ? tap_bytes - byte : count - at;
      const size_t there = g->kc - byte < length ? g->kc - byte : length;
      i8_tiles_copy(out + at, i8_row(g, row + i, t) + byte, there);
      at += length;
    }
  }
}

// Rows [row, row + rows), at most two tiles, of panels [p0, p1), which are no more than TILES_PANELS where A is copied
// in several pieces.
static void i8_tiles_rows(const apus_gemm_i8_args *g, size_t row, size_t rows, size_t p0, size_t p1, uint8_t *copy) {
  uint32_t sums[TILES_PANELS * 2 * TILE_ROWS * I8_NR] __attribute__((aligned(64)));
  uint32_t a_zeros[2 * TILE_ROWS], row_terms[2 * TILE_ROWS];
  const int is_centred = i8_b_is_centred(g), even = is_centred && !g->a_zeros;
  for (size_t i = 0; i < rows; i++) {
    a_zeros[i] = i8_a_zero(g, row + i, 0);
    row_terms[i] = is_centred ? 0 : i8_row_term(g, row + i);
  }
  const size_t depth = g->taps * ((g->kc + 3) / 4) * 4;
  const int in_place = !g->offsets && g->kc % TILE_BYTES == 0;
  const size_t piece = in_place ? depth : TILES_PIECE;
  for (size_t k = 0; k < depth; k += piece) {
    const size_t count = depth - k < piece ? depth - k : piece;
    const int first = k == 0, last = k + count == depth;
    const uint8_t *a = copy;
    if (in_place) a = (const uint8_t *)g->a + (ptrdiff_t)row * g->lda;
    else i8_tiles_gather(g, row, rows, k, count, copy);
    for (size_t p = p0; p < p1; p++) {
      uint32_t *block_sums = sums + (first && last ? 0 : p - p0) * 2 * TILE_ROWS * I8_NR;
      i8_tiles_add(g, a, in_place ? (size_t)g->lda : TILES_PIECE, i8_panel(g, p) + k * I8_NR,
                   (count + TILE_BYTES - 1) / TILE_BYTES * TILE_BYTES, block_sums, first, rows);
      if (!last) continue;
      const i8_block block = {block_sums, I8_NR, i8_column_sums(g, p), a_zeros, row_terms};
      i8_finish(g, &block, row, rows, p * I8_NR, even);
    }
  }
  i8_activate(g, row, rows, p0, p1);
}

// False if the products are better done without tiles.
static int i8_tiles_multiply(const apus_gemm_i8_args *g, size_t m0, size_t m1, size_t p0, size_t p1) {
  const size_t depth = g->taps * ((g->kc + 3) / 4) * 4, rows = m1 - m0;
  // Short rows of several pieces are read back before they have left the store buffer.
  const size_t least = g->offsets ? 2 * TILE_BYTES : TILE_BYTES / 2;
  if (rows < TILES_LEAST_ROWS || depth < least) return 0;
  uint8_t copy[2 * TILE_ROWS * TILES_PIECE + TILE_BYTES] __attribute__((aligned(64)));
  const size_t panel_bytes = apus_gemm_i8_panel_bytes(g->taps, g->kc, I8_NR);
  size_t group = rows <= 2 * TILE_ROWS ? p1 - p0 : I8_GROUP_BYTES / panel_bytes;
  if (depth > TILES_PIECE && (g->offsets || g->kc % TILE_BYTES) && group > TILES_PANELS) group = TILES_PANELS;
  if (group == 0) group = 1;
  size_t configured = 0;
  for (size_t p = p0; p < p1; p += group) {
    const size_t end = p1 - p < group ? p1 : p + group;
    for (size_t row = m0; row < m1; row += 2 * TILE_ROWS) {
      const size_t height = m1 - row < 2 * TILE_ROWS ? m1 - row : 2 * TILE_ROWS;
      if (height != configured) tiles_configure(height);
      configured = height;
      i8_tiles_rows(g, row, height, p, end, copy);
    }
  }
  _tile_release();
  return 1;
}
