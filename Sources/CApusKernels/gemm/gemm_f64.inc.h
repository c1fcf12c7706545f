// The float64 GEMM, written once over vectors of the width that the simd header gives. A file includes this after its
// simd header and its tiles header, of which it takes GEMM_NV (vectors of a panel) and GEMM_MR (rows of a full tile).
//
// The depth is cut into blocks. Between two of them the sums rest in C, unchanged, so that a sum is one accumulator
// whatever the blocks and tiles are.

enum { LANES = VL / 2, COLUMNS = GEMM_NV * LANES, DEPTH = 16384 / (GEMM_NV * VL / 2 * sizeof(double)) };

typedef double vd __attribute__((vector_size(4 * VL)));

INLINE vd load(const double *p) {
  vd x;
  memcpy(&x, p, sizeof x);
  return x;
}

// Subtracting 0 changes no number.
INLINE vd set1(double x) { return x - (vd){0}; }

INLINE vd multiply_add(vd a, vd b, vd c) {
#if APUS_HAS_FMA
  return __builtin_elementwise_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// Adds `depth` products to, or with `isFirst` stores them in, a tile of `rows` rows and COLUMNS columns of c. Row i
// of the block of B lies at b + i * ldb.
INLINE void add_tile(const apus_gemm_f64_args *g, const double *a, const double *b, ptrdiff_t ldb, double *c,
                     ptrdiff_t ldc, size_t depth, const int isFirst, const int rows) {
  vd sum[GEMM_MR][GEMM_NV];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < GEMM_NV; v++) sum[i][v] = isFirst ? (vd){0} : load(c + i * ldc + v * LANES);
  }
  for (size_t k = 0; k < depth; k++, a += g->a_depth, b += ldb) {
    vd right[GEMM_NV];
#pragma clang loop unroll(full)
    for (int v = 0; v < GEMM_NV; v++) right[v] = load(b + v * LANES);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
      const vd left = set1(a[i * g->a_row]);
#pragma clang loop unroll(full)
      for (int v = 0; v < GEMM_NV; v++) sum[i][v] = multiply_add(left, right[v], sum[i][v]);
    }
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
#pragma clang loop unroll(full)
    for (int v = 0; v < GEMM_NV; v++) memcpy(c + i * ldc + v * LANES, &sum[i][v], sizeof(vd));
  }
}

// A tile with fewer columns goes through memory of its own.
INLINE void tile(const apus_gemm_f64_args *g, const double *a, const double *b, ptrdiff_t ldb, double *c,
                 size_t columns, size_t depth, int isFirst, const int rows) {
  double edge[GEMM_MR * COLUMNS];
  const int isWhole = columns == COLUMNS;
  if (!isWhole && !isFirst)
    for (int i = 0; i < rows; i++) memcpy(edge + i * COLUMNS, c + i * g->ldc, columns * sizeof(double));
  double *target = isWhole ? c : edge;
  const ptrdiff_t ldt = isWhole ? g->ldc : COLUMNS;
  if (isFirst) add_tile(g, a, b, ldb, target, ldt, depth, 1, rows);
  else add_tile(g, a, b, ldb, target, ldt, depth, 0, rows);
  if (!isWhole)
    for (int i = 0; i < rows; i++) memcpy(c + i * g->ldc, edge + i * COLUMNS, columns * sizeof(double));
}

// Rows [k, k + depth) of columns [n, n + columns) of B, filled up to COLUMNS with zeros.
static void pack(const apus_gemm_f64_args *g, size_t k, size_t depth, size_t n, size_t columns, double *packed) {
  const double *source = g->b + (ptrdiff_t)k * g->b_depth + (ptrdiff_t)n * g->b_column;
  for (size_t i = 0; i < depth; i++, source += g->b_depth, packed += COLUMNS) {
    if (g->b_column == 1) memcpy(packed, source, columns * sizeof(double));
    else
      for (size_t j = 0; j < columns; j++) packed[j] = source[(ptrdiff_t)j * g->b_column];
    for (size_t j = columns; j < COLUMNS; j++) packed[j] = 0;
  }
}

// Rows whose block of A is copied together, and the distance of the copies, by which rows of a tile are in different
// sets of a cache.
enum { COPIED_ROWS = 8 * GEMM_MR, COPIED_LD = DEPTH + 8 };

// Rows that lie at a multiple of this many elements from each other meet in one set of the first-level cache.
enum { NEAR_SETS = 512 };

// Columns [k, k + depth) of `rows` rows of A.
static void copy_rows(const double *a, ptrdiff_t a_row, ptrdiff_t a_depth, size_t rows, size_t depth, double *copy) {
  // Pieces of both sides that stay in a cache, whichever of the distances is 1.
  enum { PIECE = 16 };
  for (size_t first = 0; first < rows; first += PIECE) {
    const size_t end = rows - first < PIECE ? rows : first + PIECE;
    if (a_depth == 1) {
      for (size_t i = first; i < end; i++)
        memcpy(copy + i * COPIED_LD, a + (ptrdiff_t)i * a_row, depth * sizeof(double));
      continue;
    }
    for (size_t d = 0; d < depth; d++)
      for (size_t i = first; i < end; i++)
        copy[i * COPIED_LD + d] = a[(ptrdiff_t)i * a_row + (ptrdiff_t)d * a_depth];
  }
}

// Rows [m0, m1) of columns [n0, n1) for rows [k, k + depth) of B. A may be a copy, of which `a` is row m0.
static void multiply_block(const apus_gemm_f64_args *g, const double *a, size_t k, size_t depth, size_t m0, size_t m1,
                           size_t n0, size_t n1) {
  _Alignas(64) double packed[DEPTH * COLUMNS];
  const double *const first_row = a;
  for (size_t n = n0; n < n1; n += COLUMNS) {
    const size_t columns = n1 - n < COLUMNS ? n1 - n : COLUMNS;
    // Few rows do not pay for packing what can be read in place.
    const int isInPlace = m1 - m0 <= GEMM_MR && g->b_column == 1 && columns == COLUMNS;
    if (!isInPlace) pack(g, k, depth, n, columns, packed);
    const double *b = isInPlace ? g->b + (ptrdiff_t)k * g->b_depth + (ptrdiff_t)n : packed;
    const ptrdiff_t ldb = isInPlace ? g->b_depth : COLUMNS;
    double *c = g->c + (ptrdiff_t)m0 * g->ldc + (ptrdiff_t)n;
    size_t left = m1 - m0;
    a = first_row;
#define TILES(rows) \
  for (; left >= (rows); left -= (rows), a += (rows) * g->a_row, c += (rows) * g->ldc) \
    tile(g, a, b, ldb, c, columns, depth, k == 0, rows);
    TILES(GEMM_MR)
#if GEMM_MR > 8
    TILES(8)
#endif
#if GEMM_MR > 4
    TILES(4)
#endif
    TILES(2)
    TILES(1)
#undef TILES
  }
}

void APUS_(apus_gemm_f64)(const apus_gemm_f64_args *g, size_t m0, size_t m1, size_t n0, size_t n1) {
  if (m0 >= m1 || n0 >= n1) return;
  _Alignas(64) double copy[COPIED_ROWS * COPIED_LD];
  apus_gemm_f64_args copied = *g;
  copied.a_row = COPIED_LD;
  copied.a_depth = 1;
  // Copying takes as long as a few panels.
  const int pays = m1 - m0 > 2 && n1 - n0 >= 4 * COLUMNS && (g->a_depth != 1 || g->a_row % NEAR_SETS == 0);
  const size_t step = pays ? COPIED_ROWS : m1 - m0;
  // A depth of 0 is one block of no products, which stores zeros.
  for (size_t k = 0; k == 0 || k < g->k; k += DEPTH) {
    const size_t depth = g->k - k < DEPTH ? g->k - k : DEPTH;
    for (size_t row = m0; row < m1; row += step) {
      const size_t end = m1 - row < step ? m1 : row + step;
      const double *a = g->a + (ptrdiff_t)row * g->a_row + (ptrdiff_t)k * g->a_depth;
      if (pays) copy_rows(a, g->a_row, g->a_depth, end - row, depth, copy);
      multiply_block(pays ? &copied : g, pays ? copy : a, k, depth, row, end, n0, n1);
    }
  }
}
