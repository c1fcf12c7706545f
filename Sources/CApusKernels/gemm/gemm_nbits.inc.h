// Products with weights of few bits, over the vector vocabulary. A file includes this after its simd header and its
// tiles header, of which it takes the width of a panel.
//
// A code is not shifted to the lowest bits: placed where it is in the mantissa of a power of two, it is that power plus
// the code, and the power and the zero point are subtracted together, exactly. Only codes beyond the mantissa are
// shifted, a whole word of them at once.

enum { NR = GEMM_NV * VL, NBITS_ROWS = 4 };
// Codes that fit into a mantissa, and the power of two in which one at `place` counts as itself.
#define PLACES(bits) (23 / (bits))
#define POWER(place, bits) ((float)(1u << (23 - (place) * (bits))))

// What a code stands for: the code less a zero point that is an integer, or any float, or a number of a table.
enum { NBITS_WHOLE, NBITS_FLOATS, NBITS_TABLE };

typedef uint8_t vzero __attribute__((vector_size(VL)));

// What the columns of a tile have in common within a block.
typedef struct {
  vf scale, zero;
  vf offset[PLACES(2)];  // the power of each place plus the zero point
  const float *table;
} column_block;

// table[code] for codes of four bits.
INLINE vf table_number(const float *table, vi code) {
#if APUS_LANES >= 8
  return v_pick(v_load(table), v_load(table + 16 - VL), code, code);
#elif APUS_HAS_TABLES
  return (vf)vqtbl4q_u8(vld1q_u8_x4((const uint8_t *)(const void *)table), v_table_bytes(code));
#else
  return v_gather(table, code);
#endif
}

INLINE void start_block(const apus_nbits_weights *w, size_t index, column_block *c, const int bits, const int form) {
  c->scale = v_load(w->scales + index);
  c->table = w->table;
  if (form == NBITS_TABLE) return;
  const int exact = form == NBITS_FLOATS;
  if (exact) {
    c->zero = v_load(w->float_zeros + index);
  } else if (w->zeros) {
    vzero z;
    memcpy(&z, w->zeros + index, sizeof z);
    c->zero = __builtin_convertvector(z, vf);
  } else {
    c->zero = v_set1((float)(1 << (bits - 1)));
  }
#pragma clang loop unroll(full)
  for (int place = 0; place < PLACES(bits); place++)
    c->offset[place] = exact ? v_set1(POWER(place, bits)) : v_set1(POWER(place, bits)) + c->zero;
}

// The weights at number `j` of a word of codes.
INLINE vf weight(vi word, const column_block *c, const int j, const int bits, const int form) {
  // Of the two codes of a byte of a table, the first has the high bits.
  if (form == NBITS_TABLE) return table_number(c->table, (vi)((vu)word >> ((j ^ 1) * bits)) & 15) * c->scale;
  const int place = j % PLACES(bits), shift = (j - place) * bits;
  const vi codes = (vi)((vu)word >> shift), mask = v_set1_i(((1 << bits) - 1) << (place * bits));
  const vf power = v_set1(POWER(place, bits));
  vf x = (vf)((codes & mask) | (vi)power) - c->offset[place];
  if (form == NBITS_FLOATS) x -= c->zero;
  return x * c->scale;
}

// The same for a number that is not known when this is compiled.
INLINE vf late_weight(vi word, const column_block *c, int j, const int bits, const int form) {
  if (form == NBITS_TABLE) return weight((vi)((vu)word >> (j / 2 * 2 * bits)), c, j % 2, bits, form);
  return weight((vi)((vu)word >> (j * bits)), c, 0, bits, form);
}

INLINE void nbits_tile(const apus_gemm_nbits_args *g, size_t row, size_t panel, const int rows, const int vectors,
                       const int bits, const int form) {
  const apus_nbits_weights *w = &g->weights;
  const size_t blocks = (w->k + w->block - 1) / w->block, words = w->block * (size_t)bits / 32;
  const float *codes = w->codes + panel * blocks * words * NR;
#define PANEL(v) ((size_t)((v) / GEMM_NV))
#define LANES(v) ((size_t)((v) % GEMM_NV) * VL)
  const float *a[NBITS_ROWS];
  vf acc[NBITS_ROWS][GEMM_NV * 4];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
    a[i] = g->a + (ptrdiff_t)(row + (size_t)i) * g->lda;
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[i][v] = v_zero();
  }
  size_t left = w->k;
  for (size_t b = 0; b < blocks; b++) {
    column_block column[GEMM_NV * 4];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++)
      start_block(w, ((panel + PANEL(v)) * blocks + b) * NR + LANES(v), &column[v], bits, form);
    const size_t count = left < w->block ? left : w->block;
    left -= count;
    const float *const next = codes + words * NR;
    size_t k = 0;
#define WORDS \
  vi word[GEMM_NV * 4]; \
  _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) \
      word[v] = (vi)v_load(codes + PANEL(v) * blocks * words * NR + LANES(v));
#define ADD(j, weight) \
  _Pragma("clang loop unroll(full)") for (int v = 0; v < vectors; v++) { \
    const vf x = weight(word[v], &column[v], j, bits, form); \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < rows; i++) acc[i][v] = \
        v_fma(v_set1(a[i][k + (size_t)(j)]), x, acc[i][v]); \
  }
    for (; k + 32 / bits <= count; k += 32 / bits, codes += NR) {
      WORDS
#pragma clang loop unroll(full)
      for (int j = 0; j < 32 / bits; j++) ADD(j, weight)
    }
    if (k < count) {
      WORDS
      for (int j = 0; k + (size_t)j < count; j++) ADD(j, late_weight)
    }
#undef ADD
#undef WORDS
    codes = next;
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) a[i] += count;
  }
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) {
    const size_t first = panel * NR + (size_t)v * VL;
    if (first >= w->n) break;
    const vf bias = g->bias ? v_load_upto(g->bias + first, w->n - first) : v_zero();
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
      float *c = g->c + (ptrdiff_t)(row + (size_t)i) * g->ldc + (ptrdiff_t)first;
      v_store_upto(c, g->bias ? acc[i][v] + bias : acc[i][v], w->n - first);
    }
  }
#undef PANEL
#undef LANES
}

INLINE void nbits_panel(const apus_nbits_weights *w, size_t panel, float *out, const int bits, const int form) {
  const size_t blocks = (w->k + w->block - 1) / w->block, words = w->block * (size_t)bits / 32;
  const float *codes = w->codes + panel * blocks * words * NR;
  for (size_t b = 0; b < blocks; b++) {
    column_block column[GEMM_NV];
#pragma clang loop unroll(full)
    for (int v = 0; v < GEMM_NV; v++)
      start_block(w, (panel * blocks + b) * NR + (size_t)v * VL, &column[v], bits, form);
    const size_t left = w->k - b * w->block, count = left < w->block ? left : w->block;
    const float *source = codes + b * words * NR;
    size_t k = 0;
    for (; k + 32 / bits <= count; k += 32 / bits, source += NR) {
#pragma clang loop unroll(full)
      for (int v = 0; v < GEMM_NV; v++) {
        const vi word = (vi)v_load(source + v * VL);
#pragma clang loop unroll(full)
        for (int j = 0; j < 32 / bits; j++) v_store(out + j * NR + v * VL, weight(word, &column[v], j, bits, form));
      }
      out += 32 / bits * NR;
    }
    for (int j = 0; k < count; k++, j++, out += NR)
      for (int v = 0; v < GEMM_NV; v++)
        v_store(out + v * VL, late_weight((vi)v_load(source + v * VL), &column[v], j, bits, form));
  }
}

typedef void nbits_tile_fn(const apus_gemm_nbits_args *g, size_t row, size_t panel);

// tiles[log2 of bits - 1][form][rows - 1][panels > 1]
#define EVERY_WIDTH(FORM) {{FORM(2, 0), FORM(2, 1)}, {FORM(4, 0), FORM(4, 1), FORM(4, 2)}, {FORM(8, 0), FORM(8, 1)}}
#define TILE(rows, panels, bits, kind) \
  static void nbits_##rows##x##panels##_##bits##_##kind(const apus_gemm_nbits_args *g, size_t row, size_t panel) { \
    nbits_tile(g, row, panel, rows, panels * GEMM_NV, bits, kind); \
  }
#define TILES(bits, kind) \
  TILE(1, 1, bits, kind) TILE(2, 1, bits, kind) TILE(3, 1, bits, kind) TILE(4, 1, bits, kind) \
  TILE(1, 2, bits, kind) TILE(2, 2, bits, kind) TILE(3, 2, bits, kind) TILE(4, 2, bits, kind)
TILES(2, 0) TILES(2, 1) TILES(4, 0) TILES(4, 1) TILES(4, 2) TILES(8, 0) TILES(8, 1)
#define ROWS(rows, bits, kind) {nbits_##rows##x1_##bits##_##kind, nbits_##rows##x2_##bits##_##kind}
#define FORM(bits, kind) {ROWS(1, bits, kind), ROWS(2, bits, kind), ROWS(3, bits, kind), ROWS(4, bits, kind)}
static nbits_tile_fn *const nbits_tiles[3][3][NBITS_ROWS][2] = EVERY_WIDTH(FORM);
#undef FORM
#undef ROWS
#undef TILES
#undef TILE

static int width_index(unsigned bits) { return bits == 2 ? 0 : bits == 4 ? 1 : 2; }
static int weight_form(const apus_nbits_weights *w) {
  return w->table ? NBITS_TABLE : w->float_zeros ? NBITS_FLOATS : NBITS_WHOLE;
}

void APUS_(apus_gemm_nbits)(const apus_gemm_nbits_args *g, size_t m0, size_t m1, size_t p0, size_t p1) {
  const size_t last = apus_gemm_panels(g->weights.n, NR);
  if (p1 > last) p1 = last;
  nbits_tile_fn *const(*forms)[2] = nbits_tiles[width_index(g->weights.bits)][weight_form(&g->weights)];
  for (size_t row = m0; row < m1; row += NBITS_ROWS) {
    const size_t rows = m1 - row < NBITS_ROWS ? m1 - row : NBITS_ROWS;
    nbits_tile_fn *const *form = forms[rows - 1];
    size_t p = p0;
    for (; p + 2 <= p1; p += 2) form[1](g, row, p);
    if (p < p1) form[0](g, row, p);
  }
}

void APUS_(apus_nbits_panels)(const apus_nbits_weights *w, float *packed, size_t p0, size_t p1) {
  const size_t last = apus_gemm_panels(w->n, NR);
  if (p1 > last) p1 = last;
  for (size_t p = p0; p < p1; p++, packed += w->k * NR) {
    switch (w->bits * 4 + (unsigned)weight_form(w)) {
      case 8: nbits_panel(w, p, packed, 2, 0); break;
      case 9: nbits_panel(w, p, packed, 2, 1); break;
      case 16: nbits_panel(w, p, packed, 4, 0); break;
      case 17: nbits_panel(w, p, packed, 4, 1); break;
      case 18: nbits_panel(w, p, packed, 4, 2); break;
      case 32: nbits_panel(w, p, packed, 8, 0); break;
      default: nbits_panel(w, p, packed, 8, 1); break;
    }
  }
}
