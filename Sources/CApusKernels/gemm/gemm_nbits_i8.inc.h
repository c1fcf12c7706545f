// Products of rows in 8 bits with weights of few bits, over the vector vocabulary. A file includes this after its simd
// header and its tiles header; it defines NBITS_DOT(sum, codes, numbers), which adds to each 32-bit lane the products
// of the four unsigned bytes of `codes`, below 16, and the four signed ones of `numbers`; and NBITS_DOT_BYTES, the same
// for any bytes of codes.

enum { NR = GEMM_NV * VL, NBITS_ROWS = 4 };

typedef uint8_t vzero __attribute__((vector_size(VL)));

bool NBITS_VARIANT(apus_nbits_row)(size_t k, size_t block, unsigned bits, const float *a, int8_t *row, float *scales,
                                   int32_t *sums) {
  const size_t quads = 8 / bits, codes = 32 / bits;
  for (size_t b = 0; b * block < k; b++, a += block, row += block) {
    const size_t count = k - b * block < block ? k - b * block : block;
    vf largest = v_zero(), odd = v_zero();
    for (size_t i = 0; i < count; i += VL) {
      const vf x = v_abs(v_load_upto(a + i, count - i));
      largest = v_max(largest, x);
      odd += x * v_zero();
    }
    const float most = v_largest(largest);
    if (v_sum(odd) != 0 || most > 0x1p100f || (most > 0 && most < 0x1p-100f)) return false;
    scales[b] = most / 127;
    const float factor = most > 0 ? 127 / most : 0;
    int32_t sum = 0;
    for (size_t first = 0; first < block; first += codes) {
      int32_t values[16] = {0};
      for (size_t i = 0; i < codes && first + i < count; i += VL) {
        const size_t left = count - first - i;
        const vi q = v_to_int(v_load_upto(a + first + i, left < codes - i ? left : codes - i) * v_set1(factor));
        int32_t lanes[VL];
        memcpy(lanes, &q, sizeof q);
        for (size_t j = 0; j < VL && i + j < codes; j++) values[i + j] = lanes[j];
      }
      for (size_t i = 0; i < codes; i++) {
        sum += values[i];
        row[first + i % quads * 4 + i / quads] = (int8_t)values[i];
      }
    }
    sums[b] = sum;
  }
  return true;
}

INLINE vi quad_of(const int8_t *p) {
  int32_t quad;
  memcpy(&quad, p, sizeof quad);
  return v_set1_i(quad);
}

INLINE void i8_tile(const apus_gemm_nbits_i8_args *g, size_t row, size_t panel, const int rows, const int vectors,
                    const int bits) {
  const apus_nbits_weights *w = &g->weights;
  const size_t blocks = (w->k + w->block - 1) / w->block, words = w->block * (size_t)bits / 32;
  const float *codes = w->codes + panel * blocks * words * NR;
  const int8_t *a = g->rows + row * blocks * w->block;
  vf acc[NBITS_ROWS][GEMM_NV * 2];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[i][v] = v_zero();
  }
  const int is_middle = !w->zeros && !w->float_zeros;
  for (size_t b = 0; b < blocks; b++) {
    vi dot[NBITS_ROWS][GEMM_NV * 2];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
      // The middle of the range is taken off at once.
      const int32_t start = is_middle ? -(1 << (bits - 1)) * g->row_sums[(row + (size_t)i) * blocks + b] : 0;
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) dot[i][v] = v_set1_i(start);
    }
    for (size_t word = 0; word < words; word++, codes += NR, a += 32 / bits) {
      vi code[GEMM_NV * 2];
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++)
        code[v] = (vi)v_load(codes + (size_t)(v / GEMM_NV) * blocks * words * NR + (size_t)(v % GEMM_NV) * VL);
#pragma clang loop unroll(full)
      for (int s = 0; s < 8 / bits; s++) {
        vi part[GEMM_NV * 2];
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++)
          part[v] = bits == 8 ? code[v] : (vi)((vu)code[v] >> (s * bits)) & v_set1_i(0x01010101 * ((1 << bits) - 1));
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
          const vi x = quad_of(a + (size_t)i * blocks * w->block + s * 4);
#pragma clang loop unroll(full)
          for (int v = 0; v < vectors; v++)
            dot[i][v] = bits == 8 ? NBITS_DOT_BYTES(dot[i][v], part[v], x) : NBITS_DOT(dot[i][v], part[v], x);
        }
      }
    }
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      const size_t index = ((panel + (size_t)(v / GEMM_NV)) * blocks + b) * NR + (size_t)(v % GEMM_NV) * VL;
      const vf scale = v_load(w->scales + index);
      vf zero = v_zero();
      if (w->float_zeros) {
        zero = v_load(w->float_zeros + index);
      } else if (w->zeros) {
        vzero z;
        memcpy(&z, w->zeros + index, sizeof z);
        zero = __builtin_convertvector(z, vf);
      }
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) {
        const size_t place = (row + (size_t)i) * blocks + b;
        vf sum = v_to_float(dot[i][v]);
        if (!is_middle) sum = v_fnma(zero, v_set1((float)g->row_sums[place]), sum);
        acc[i][v] = v_fma(sum * v_set1(g->row_scales[place]), scale, acc[i][v]);
      }
    }
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
}

typedef void i8_tile_fn(const apus_gemm_nbits_i8_args *g, size_t row, size_t panel);

#define TILE(rows, panels, bits) \
  static void i8_##rows##x##panels##_##bits(const apus_gemm_nbits_i8_args *g, size_t row, size_t panel) { \
    i8_tile(g, row, panel, rows, panels * GEMM_NV, bits); \
  }
#define TILES(bits) \
  TILE(1, 1, bits) TILE(2, 1, bits) TILE(3, 1, bits) TILE(4, 1, bits) TILE(1, 2, bits) TILE(2, 2, bits)
TILES(2) TILES(4) TILES(8)
// [log2 of bits - 1][rows - 1][panels > 1]; of more rows one panel at a time.
#define FORM(bits) \
  {{i8_1x1_##bits, i8_1x2_##bits}, {i8_2x1_##bits, i8_2x2_##bits}, {i8_3x1_##bits, 0}, {i8_4x1_##bits, 0}}
static i8_tile_fn *const i8_tiles[3][NBITS_ROWS][2] = {FORM(2), FORM(4), FORM(8)};
#undef FORM
#undef TILES
#undef TILE

void NBITS_VARIANT(apus_gemm_nbits_i8)(const apus_gemm_nbits_i8_args *g, size_t m0, size_t m1, size_t p0, size_t p1) {
  const size_t last = apus_gemm_panels(g->weights.n, NR);
  if (p1 > last) p1 = last;
  const unsigned bits = g->weights.bits;
  i8_tile_fn *const(*forms)[2] = i8_tiles[bits == 2 ? 0 : bits == 4 ? 1 : 2];
  for (size_t p = p0; p < p1;) {
    const size_t step = m1 - m0 <= 2 && p + 2 <= p1 ? 2 : 1;
    // The panel stays in a cache while the rows go by.
    for (size_t row = m0; row < m1; row += NBITS_ROWS) {
      const size_t rows = m1 - row < NBITS_ROWS ? m1 - row : NBITS_ROWS;
      forms[rows - 1][step - 1](g, row, p);
    }
    p += step;
  }
}
