// Winograd convolution of 3×3 windows, F(2×2, 3×3) and F(4×4, 3×3), over the vector vocabulary. Included after the
// tiles header and math/activation.h.
//
// One-dimensional transforms by the method of Toom and Cook: a tile of n = m + 2 inputs is seen as a polynomial, whose
// products with that of the weights are taken at n - 1 points and at infinity. The points are 0, ±1 for m = 2 and
// 0, ±NEAR, ±FAR for m = 4; the latter are chosen for small rounding errors, and so that the constants are exact.
// Vectors are channels on the way in and outputs on the way out.

#define NEAR 0.625f
#define FAR 1.5f

enum { WINOGRAD_NR = GEMM_NV * VL, MAX_M = 4, MAX_N = MAX_M + 2 };

// d[0 … n) to v[0 … n), elements `step` apart.
INLINE void input_line(const int m, const vf *d, vf *v, const int step) {
#define D(i) d[(i) * step]
#define V(i) v[(i) * step]
  if (m == 2) {
    const vf d0 = D(0), d1 = D(1), d2 = D(2), d3 = D(3);
    V(0) = d0 - d2, V(1) = d1 + d2, V(2) = d2 - d1, V(3) = d3 - d1;
  } else {
    const vf near = v_set1(NEAR), far = v_set1(FAR), near2 = v_set1(NEAR * NEAR), far2 = v_set1(FAR * FAR);
    const vf sum = near2 + far2, product = near2 * far2;
    const vf d0 = D(0), d1 = D(1), d2 = D(2), d3 = D(3), d4 = D(4), d5 = D(5);
    const vf even1 = v_fnma(far2, d2, d4), odd1 = v_fnma(far2, d1, d3);
    const vf even2 = v_fnma(near2, d2, d4), odd2 = v_fnma(near2, d1, d3);
    V(0) = v_fma(product, d0, v_fnma(sum, d2, d4));
    V(1) = v_fma(near, odd1, even1), V(2) = v_fnma(near, odd1, even1);
    V(3) = v_fma(far, odd2, even2), V(4) = v_fnma(far, odd2, even2);
    V(5) = v_fma(product, d1, v_fnma(sum, d3, d5));
  }
#undef V
#undef D
}

// s[0 … n) to y[0 … m), elements of s `step` apart, of y `y_step`.
INLINE void output_line(const int m, const vf *s, const int step, vf *y, const int y_step) {
#define S(i) s[(i) * step]
#define Y(i) y[(i) * y_step]
  if (m == 2) {
    const vf s1 = S(1), s2 = S(2);
    Y(0) = S(0) + (s1 + s2), Y(1) = (s1 - s2) + S(3);
  } else {
    const vf near = v_set1(NEAR), far = v_set1(FAR), near2 = near * near, far2 = far * far;
    const vf s1 = S(1), s2 = S(2), s3 = S(3), s4 = S(4);
    const vf even1 = s1 + s2, odd1 = s1 - s2, even2 = s3 + s4, odd2 = s3 - s4;
    Y(0) = S(0) + (even1 + even2);
    Y(1) = v_fma(near, odd1, far * odd2);
    Y(2) = v_fma(near2, even1, far2 * even2);
    Y(3) = v_fma(near2 * near, odd1, v_fma(far2 * far, odd2, S(5)));
  }
#undef Y
#undef S
}

// w[0 … 3) to u[0 … n).
INLINE void weight_line(const int m, const vf *w, const int step, vf *u, const int u_step) {
#define U(i) u[(i) * u_step]
  const vf w0 = w[0], w1 = w[step], w2 = w[2 * step];
  if (m == 2) {
    const vf half = v_set1(0.5f), even = half * (w0 + w2), odd = half * w1;
    U(0) = w0, U(1) = even + odd, U(2) = even - odd, U(3) = w2;
  } else {
    const float near2 = NEAR * NEAR, far2 = FAR * FAR;
    const vf scale1 = v_set1(1 / (2 * near2 * (near2 - far2))), scale2 = v_set1(1 / (2 * far2 * (far2 - near2)));
    const vf even1 = scale1 * v_fma(v_set1(near2), w2, w0), odd1 = scale1 * (v_set1(NEAR) * w1);
    const vf even2 = scale2 * v_fma(v_set1(far2), w2, w0), odd2 = scale2 * (v_set1(FAR) * w1);
    U(0) = v_set1(1 / (near2 * far2)) * w0;
    U(1) = even1 + odd1, U(2) = even1 - odd1, U(3) = even2 + odd2, U(4) = even2 - odd2;
    U(5) = w2;
  }
#undef U
}

// The way back: u[0 … n) to w[0 … 3).
INLINE void weight_line_back(const int m, const vf *u, const int step, vf *w, const int w_step) {
  const float near2 = NEAR * NEAR, far2 = FAR * FAR;
  w[0] = m == 2 ? u[0] : v_set1(near2 * far2) * u[0];
  w[w_step] = (u[step] - u[2 * step]) * v_set1(m == 2 ? 1 : NEAR * (near2 - far2));
  w[2 * w_step] = u[(m + 1) * step];
}

// MARK: - Weights

INLINE void pack_weights(const int m, const void *weights, size_t channels, size_t outputs, float *packed,
                         size_t panel) {
  enum { STRETCH = 8 };
  const int n = m + 2;
  const size_t columns = outputs - panel * WINOGRAD_NR < WINOGRAD_NR ? outputs - panel * WINOGRAD_NR : WINOGRAD_NR;
  const size_t point = apus_gemm_panels(outputs, WINOGRAD_NR) * channels * WINOGRAD_NR;
  float turned[STRETCH * 9 * WINOGRAD_NR];
  memset(turned, 0, sizeof turned);
  for (size_t c0 = 0; c0 < channels; c0 += STRETCH) {
    const size_t count = channels - c0 < STRETCH ? channels - c0 : STRETCH;
    APUS_(apus_transpose_4)(columns, count * 9, (const char *)weights + c0 * 9 * sizeof(float),
                            (ptrdiff_t)(channels * 9), turned, WINOGRAD_NR);
    for (size_t c = 0; c < count; c++) {
      float *out = packed + (panel * channels + c0 + c) * WINOGRAD_NR;
      for (size_t v = 0; v < GEMM_NV; v++) {
        vf w[9], rows[MAX_N * 3], u[MAX_N * MAX_N];
#pragma clang loop unroll(full)
        for (int i = 0; i < 9; i++) w[i] = v_load(turned + (c * 9 + (size_t)i) * WINOGRAD_NR + v * VL);
#pragma clang loop unroll(full)
        for (int j = 0; j < 3; j++) weight_line(m, w + j, 3, rows + j, 3);
#pragma clang loop unroll(full)
        for (int i = 0; i < n; i++) weight_line(m, rows + i * 3, 1, u + i * n, 1);
        for (int i = 0; i < n * n; i++) v_store(out + (size_t)i * point + v * VL, u[i]);
      }
    }
  }
}

// MARK: - Tiles

typedef struct {
  size_t image, y, x;  // the first output
} winograd_place;

INLINE winograd_place place_of(const apus_winograd_f32_args *g, const int m, size_t tile) {
  const size_t across = (g->out_w + (size_t)m - 1) / (size_t)m, down = (g->out_h + (size_t)m - 1) / (size_t)m;
  const size_t line = tile / across;
  return (winograd_place){line / down, line % down * (size_t)m, (tile - line * across) * (size_t)m};
}
INLINE winograd_place next_place(const apus_winograd_f32_args *g, const int m, winograd_place p) {
  p.x += (size_t)m;
  if (p.x < g->out_w) return p;
  p.x = 0, p.y += (size_t)m;
  if (p.y < g->out_h) return p;
  p.y = 0, p.image++;
  return p;
}

// The inputs of a tile: offsets from the first one, and which lie in the image.
typedef struct {
  uintptr_t base;
  ptrdiff_t top, left;
} winograd_window;
INLINE winograd_window window_of(const apus_winograd_f32_args *g, winograd_place p) {
  const ptrdiff_t top = (ptrdiff_t)p.y - g->pad_top, left = (ptrdiff_t)p.x - g->pad_left;
  const ptrdiff_t offset = (ptrdiff_t)p.image * g->in_image + top * g->in_row + left * g->in_pixel;
  return (winograd_window){(uintptr_t)g->input + (uintptr_t)(offset * (ptrdiff_t)sizeof(float)), top, left};
}
INLINE int is_inside(ptrdiff_t first, int offset, size_t extent) { return (size_t)(first + offset) < extent; }
INLINE const float *seen(const apus_winograd_f32_args *g, const winograd_window *w, int i, int j) {
  return (const float *)(w->base + (uintptr_t)((i * g->in_row + j * g->in_pixel) * (ptrdiff_t)sizeof(float)));
}

INLINE void input_channels(const apus_winograd_f32_args *g, const int m, const winograd_window *w, size_t c,
                           size_t left, const int edge, float *v, size_t point) {
  const int n = m + 2;
  vf d[MAX_N * MAX_N];
#pragma clang loop unroll(full)
  for (int i = 0; i < n; i++) {
    const int row_inside = !edge || is_inside(w->top, i, g->in_h);
#pragma clang loop unroll(full)
    for (int j = 0; j < n; j++) {
      const int inside = row_inside && (!edge || is_inside(w->left, j, g->in_w));
      d[i * n + j] = inside ? v_load_upto(seen(g, w, i, j) + c, left) : v_zero();
    }
    input_line(m, d + i * n, d + i * n, 1);
  }
#pragma clang loop unroll(full)
  for (int j = 0; j < n; j++) {
    input_line(m, d + j, d + j, n);
#pragma clang loop unroll(full)
    for (int i = 0; i < n; i++) v_store_upto(v + (size_t)(i * n + j) * point + c, d[i * n + j], left);
  }
}

INLINE void input_tile(const apus_winograd_f32_args *g, const int m, winograd_place p, float *v, size_t point) {
  const winograd_window w = window_of(g, p);
  const ptrdiff_t n = m + 2;
  const int edge = w.top < 0 || w.left < 0 || w.top + n > (ptrdiff_t)g->in_h || w.left + n > (ptrdiff_t)g->in_w;
  size_t c = 0;
  if (edge) {
    for (; c + VL <= g->channels; c += VL) input_channels(g, m, &w, c, VL, 1, v, point);
  } else {
    for (; c + VL <= g->channels; c += VL) input_channels(g, m, &w, c, VL, 0, v, point);
  }
  if (c < g->channels) input_channels(g, m, &w, c, g->channels - c, 1, v, point);
}

// The sums of the outputs [column, column + VL) of a tile as the convolution has them.
static __attribute__((noinline)) void sum_directly(const apus_winograd_f32_args *g, const int m,
                                                   const winograd_place *p, size_t column, vf *y) {
  const int n = m + 2;
  const winograd_window w = window_of(g, *p);
  const size_t point = apus_gemm_panels(g->outputs, WINOGRAD_NR) * g->channels * WINOGRAD_NR;
  const float *packed = g->weights + column / WINOGRAD_NR * g->channels * WINOGRAD_NR + column % WINOGRAD_NR;
  for (int i = 0; i < m * m; i++) y[i] = v_zero();
  for (size_t c = 0; c < g->channels; c++, packed += WINOGRAD_NR) {
    vf u[MAX_N * MAX_N], rows[MAX_N * 3], k[9], largest = v_zero();
    for (int i = 0; i < n * n; i++) u[i] = v_load(packed + (size_t)i * point);
    for (int i = 0; i < n; i++) weight_line_back(m, u + i * n, 1, rows + i * 3, 1);
    for (int j = 0; j < 3; j++) weight_line_back(m, rows + j, 3, k + j, 3);
    // What is rounding alone is zero, whose product with infinity is another one.
    for (int i = 0; i < 9; i++) largest = v_max(v_abs(k[i]), largest);
    for (int i = 0; i < 9; i++) k[i] = v_select(v_lt(v_abs(k[i]), largest * v_set1(0x1p-20f)), v_zero(), k[i]);
    for (int i = 0; i < m * m; i++) {
      for (int tap = 0; tap < 9; tap++) {
        const int row = i / m + tap / 3, at = i % m + tap % 3;
        if (is_inside(w.top, row, g->in_h) && is_inside(w.left, at, g->in_w))
          y[i] = v_fma(v_set1(seen(g, &w, row, at)[c]), k[tap], y[i]);
      }
    }
  }
}

INLINE void output_columns(const apus_winograd_f32_args *g, const int m, const winograd_place *p, size_t column,
                           size_t left, const float *s, size_t point) {
  const apus_epilogue_f32 *e = &g->epilogue;
  const int n = m + 2;
  vf rows[MAX_M * MAX_N], y[MAX_M * MAX_M], check = v_zero();
#pragma clang loop unroll(full)
  for (int j = 0; j < n; j++) {
    vf d[MAX_N];
#pragma clang loop unroll(full)
    for (int i = 0; i < n; i++) d[i] = v_load(s + (size_t)(i * n + j) * point);
    output_line(m, d, 1, rows + j, n);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < m; i++) {
    output_line(m, rows + i * n, 1, y + i * m, 1);
#pragma clang loop unroll(full)
    for (int j = 0; j < m; j++) check = v_fma(y[i * m + j], v_zero(), check);
  }
  // Zero times what is not finite is no number.
  if (v_any(v_is_nan(check))) sum_directly(g, m, p, column, y);
  const vf bias = e->bias ? v_load_upto(e->bias + column, left) : v_zero();
  const int relu = e->activation == APUS_ACTIVATION_RELU, clamp = relu || e->activation == APUS_ACTIVATION_CLIP;
  const vf lo = v_set1(relu ? 0 : e->alpha), hi = v_set1(relu ? __builtin_inff() : e->beta);
  const size_t rows_inside = g->out_h - p->y, columns_inside = g->out_w - p->x;
  float *out = g->output + (ptrdiff_t)p->image * g->out_image + (ptrdiff_t)p->y * g->out_row +
               (ptrdiff_t)p->x * g->out_pixel + (ptrdiff_t)column;
  const float *add = e->add ? e->add + (ptrdiff_t)((p->image * g->out_h + p->y) * g->out_w + p->x) * e->add_ld +
                                  (ptrdiff_t)column
                            : NULL;
#pragma clang loop unroll(full)
  for (int i = 0; i < m; i++) {
    if ((size_t)i >= rows_inside) break;
#pragma clang loop unroll(full)
    for (int j = 0; j < m; j++) {
      if ((size_t)j >= columns_inside) break;
      vf value = y[i * m + j];
      if (e->bias) value += bias;
      if (add) value += v_load_upto(add + (i * (ptrdiff_t)g->out_w + j) * e->add_ld, left);
      if (clamp) value = v_clamp(value, lo, hi);
      v_store_upto(out + i * g->out_row + j * g->out_pixel, value, left);
    }
  }
}

static void activate_tile(const apus_winograd_f32_args *g, size_t m, const winograd_place *p, size_t first,
                          size_t count) {
  apus_unary_f32_fn *const function = APUS_(apus_activation_function)(g->epilogue.activation);
  const float params[2] = {g->epilogue.alpha, g->epilogue.beta};
  float *out = g->output + (ptrdiff_t)p->image * g->out_image + (ptrdiff_t)first;
  for (size_t y = p->y; y < p->y + m && y < g->out_h; y++) {
    for (size_t x = p->x; x < p->x + m && x < g->out_w; x++) {
      float *pixel = out + (ptrdiff_t)y * g->out_row + (ptrdiff_t)x * g->out_pixel;
      function(count, pixel, pixel, params);
    }
  }
}

INLINE void convolve(const apus_winograd_f32_args *g, const int m, size_t t0, size_t t1, size_t p0, size_t p1,
                     float *scratch) {
  const size_t last = apus_gemm_panels(g->outputs, WINOGRAD_NR), points = (size_t)((m + 2) * (m + 2));
  if (p1 > last) p1 = last;
  if (t0 >= t1 || p0 >= p1) return;
  const size_t tiles = t1 - t0, width = (p1 - p0) * WINOGRAD_NR, first = p0 * WINOGRAD_NR;
  const size_t count = g->outputs - first < width ? g->outputs - first : width;
  const size_t in_point = apus_winograd_stride(tiles, g->channels), out_point = apus_winograd_stride(tiles, width);
  float *const v = scratch, *const s = scratch + points * in_point;
  winograd_place place = place_of(g, m, t0);
  for (size_t t = 0; t < tiles; t++, place = next_place(g, m, place))
    input_tile(g, m, place, v + t * g->channels, in_point);
  for (size_t i = 0; i < points; i++) {
    const apus_gemm_f32_args product = {.a = v + i * in_point,
                                        .lda = (ptrdiff_t)g->channels,
                                        .taps = 1,
                                        .kc = g->channels,
                                        .n = width,
                                        .b = g->weights + (i * last + p0) * WINOGRAD_NR * g->channels,
                                        .c = s + i * out_point,
                                        .ldc = (ptrdiff_t)width};
    APUS_(apus_gemm_f32)(&product, 0, tiles, 0, p1 - p0);
  }
  place = place_of(g, m, t0);
  for (size_t t = 0; t < tiles; t++, place = next_place(g, m, place)) {
    size_t c = 0;
    for (; c + VL <= count; c += VL) output_columns(g, m, &place, first + c, VL, s + t * width + c, out_point);
    if (c < count) output_columns(g, m, &place, first + c, count - c, s + t * width + c, out_point);
    if (g->epilogue.activation > APUS_ACTIVATION_CLIP) activate_tile(g, (size_t)m, &place, first, count);
  }
}

#define FORM(m) \
  void APUS_(apus_winograd##m##_f32)(const apus_winograd_f32_args *g, size_t t0, size_t t1, size_t p0, size_t p1, \
                                     float *scratch) { \
    convolve(g, m, t0, t1, p0, p1, scratch); \
  } \
  void APUS_(apus_winograd##m##_pack_f32)(const void *weights, size_t channels, size_t outputs, float *packed, \
                                          size_t panel) { \
    pack_weights(m, weights, channels, outputs, packed, panel); \
  }
FORM(2)
FORM(4)
#undef FORM
#undef FAR
#undef NEAR
