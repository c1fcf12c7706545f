// Depthwise convolution and pooling of channels-last float32 images, over the vector vocabulary.
//
// A row of the output is cut into pixels whose windows leave the image on the left or right, done one by one with the
// range of columns that they see, and the pixels between, done PIXELS at a time. Which of the two a pixel is depends on
// the geometry alone. Padded taps take no part in a sum.

enum { PIXELS = 4 };

typedef struct {
  size_t begin, end;
} range;

// The taps i < count whose position start + i * dilation lies in [0, size).
INLINE range taps_inside(ptrdiff_t start, size_t count, size_t dilation, size_t size) {
  const ptrdiff_t d = (ptrdiff_t)dilation, room = (ptrdiff_t)size - start;
  size_t begin = start < 0 ? (size_t)((-start + d - 1) / d) : 0;
  size_t end = room <= 0 ? 0 : (size_t)((room + d - 1) / d);
  if (end > count) end = count;
  return (range){begin < end ? begin : end, end};
}

// Where window (y, x) starts in the input.
INLINE ptrdiff_t window_row(const apus_window_f32 *w, size_t y) { return (ptrdiff_t)(y * w->stride_h) - w->pad_top; }
INLINE ptrdiff_t window_column(const apus_window_f32 *w, size_t x) {
  return (ptrdiff_t)(x * w->stride_w) - w->pad_left;
}

// The output columns whose windows see no padding left or right.
INLINE range inner_columns(const apus_window_f32 *w) {
  const size_t reach = (w->kernel_w - 1) * w->dilation_w + 1, s = w->stride_w;
  size_t begin = w->pad_left > 0 ? ((size_t)w->pad_left + s - 1) / s : 0, end = 0;
  const ptrdiff_t room = (ptrdiff_t)w->in_w - (ptrdiff_t)reach + w->pad_left;
  if (room >= 0) end = (size_t)room / s + 1;
  if (end > w->out_w) end = w->out_w;
  return (range){begin < end ? begin : end, end};
}

// ---- depthwise convolution

typedef struct {
  range rows, columns;    // taps that are summed
  const float *input;     // of tap (0, 0) of the first pixel; read only where taps are summed
  const float *weights;
  float *output;
  const float *add;       // of the first pixel, or NULL
  size_t c0, c1;
} depthwise_span;

// `pixels` neighbours in a row, all with the same taps. Constants: pixels; kernel_w, stride_w where not 0 (then the tap
// columns are all of kernel_w, and dilation 1).
INLINE void depthwise_pixels(const apus_depthwise_f32_args *g, const depthwise_span *s, const int pixels,
                             const int kernel_w, const int stride_w) {
  const apus_window_f32 *w = &g->window;
  const apus_epilogue_f32 *e = &g->epilogue;
  const int clamp = e->activation == APUS_ACTIVATION_RELU || e->activation == APUS_ACTIVATION_CLIP;
  const int relu = e->activation == APUS_ACTIVATION_RELU;
  const vf lo = v_set1(relu ? 0 : e->alpha), hi = v_set1(relu ? __builtin_inff() : e->beta);
  const ptrdiff_t step = w->in_pixel * (ptrdiff_t)(stride_w ? (size_t)stride_w : w->stride_w);
  const ptrdiff_t tap_step = w->in_pixel * (ptrdiff_t)(kernel_w ? 1 : w->dilation_w);
  const ptrdiff_t row_step = w->in_row * (ptrdiff_t)w->dilation_h;
  for (size_t c = s->c0; c < s->c1; c += VL) {
    const size_t left = s->c1 - c;
    const int whole = left >= VL;
#define AT(p) (whole ? v_load(p) : v_load_n(p, left))
    vf acc[PIXELS];
    for (int p = 0; p < pixels; p++) acc[p] = v_zero();
    for (size_t i = s->rows.begin; i < s->rows.end; i++) {
      const uintptr_t row = (uintptr_t)s->input + (uintptr_t)(((ptrdiff_t)i * row_step + (ptrdiff_t)c) * 4);
      const float *weight = s->weights + (ptrdiff_t)(i * w->kernel_w) * g->weights_ld + (ptrdiff_t)c;
#define PIXEL(offset) ((const float *)(row + (uintptr_t)((offset) * 4)))
      if (kernel_w && whole) {
        vf seen[16];
        const int columns = (pixels - 1) * stride_w + kernel_w;
#pragma clang loop unroll(full)
        for (int j = 0; j < columns; j++) seen[j] = v_load(PIXEL(j * w->in_pixel));
#pragma clang loop unroll(full)
        for (int j = 0; j < kernel_w; j++) {
          const vf k = v_load(weight + j * g->weights_ld);
#pragma clang loop unroll(full)
          for (int p = 0; p < pixels; p++) acc[p] = v_fma(seen[p * stride_w + j], k, acc[p]);
        }
      } else {
        for (size_t j = s->columns.begin; j < s->columns.end; j++) {
          const vf k = AT(weight + (ptrdiff_t)j * g->weights_ld);
#pragma clang loop unroll(full)
          for (int p = 0; p < pixels; p++)
            acc[p] = v_fma(AT(PIXEL((ptrdiff_t)j * tap_step + p * step)), k, acc[p]);
        }
      }
#undef PIXEL
    }
#pragma clang loop unroll(full)
    for (int p = 0; p < pixels; p++) {
      if (e->bias) acc[p] += AT(e->bias + c);
      if (s->add) acc[p] += AT(s->add + p * e->add_ld + (ptrdiff_t)c);
      if (clamp) acc[p] = v_clamp(acc[p], lo, hi);
      v_store_upto(s->output + p * w->out_pixel + (ptrdiff_t)c, acc[p], left);
    }
#undef AT
  }
}

typedef void depthwise_fn(const apus_depthwise_f32_args *g, const depthwise_span *s);
#define DEPTHWISE(kernel, stride) \
  static void depthwise_##kernel##_##stride(const apus_depthwise_f32_args *g, const depthwise_span *s) { \
    depthwise_pixels(g, s, PIXELS, kernel, stride); \
  }
DEPTHWISE(3, 1)
DEPTHWISE(3, 2)
DEPTHWISE(5, 1)
DEPTHWISE(5, 2)
DEPTHWISE(7, 1)
DEPTHWISE(0, 0)
#undef DEPTHWISE
static void depthwise_one(const apus_depthwise_f32_args *g, const depthwise_span *s) {
  depthwise_pixels(g, s, 1, 0, 0);
}

static depthwise_fn *depthwise_for(const apus_window_f32 *w) {
  if (w->dilation_w == 1) {
    if (w->kernel_w == 3 && w->stride_w == 1) return depthwise_3_1;
    if (w->kernel_w == 3 && w->stride_w == 2) return depthwise_3_2;
    if (w->kernel_w == 5 && w->stride_w == 1) return depthwise_5_1;
    if (w->kernel_w == 5 && w->stride_w == 2) return depthwise_5_2;
    if (w->kernel_w == 7 && w->stride_w == 1) return depthwise_7_1;
  }
  return depthwise_0_0;
}

void APUS_(apus_depthwise_f32)(const apus_depthwise_f32_args *g, size_t y0, size_t y1, size_t c0, size_t c1) {
  const apus_window_f32 *w = &g->window;
  const apus_epilogue_f32 *e = &g->epilogue;
  const range inner = inner_columns(w);
  depthwise_fn *const several = depthwise_for(w);
  apus_unary_f32_fn *const activation =
      e->activation > APUS_ACTIVATION_CLIP ? APUS_(apus_activation_function)(e->activation) : NULL;
  const float params[2] = {e->alpha, e->beta};
  if (c0 >= c1) return;
  for (size_t y = y0; y < y1; y++) {
    const ptrdiff_t top = window_row(w, y);
    depthwise_span s = {.rows = taps_inside(top, w->kernel_h, w->dilation_h, w->in_h),
                        .weights = g->weights, .c0 = c0, .c1 = c1};
    float *const out = w->output + (ptrdiff_t)y * w->out_row;
    for (size_t x = 0; x < w->out_w;) {
      const int many = x >= inner.begin && x + PIXELS <= inner.end;
      const ptrdiff_t left = window_column(w, x);
      s.columns = taps_inside(left, w->kernel_w, w->dilation_w, w->in_w);
      s.input = (const float *)((uintptr_t)w->input + (uintptr_t)((top * w->in_row + left * w->in_pixel) * 4));
      s.output = out + (ptrdiff_t)x * w->out_pixel;
      s.add = e->add ? e->add + (ptrdiff_t)(y * w->out_w + x) * e->add_ld : NULL;
      if (many) several(g, &s);
      else depthwise_one(g, &s);
      x += many ? PIXELS : 1;
    }
    if (!activation) continue;
    if (c0 == 0 && w->out_pixel == (ptrdiff_t)c1) activation(w->out_w * c1, out, out, params);
    else
      for (size_t x = 0; x < w->out_w; x++) {
        float *const pixel = out + (ptrdiff_t)x * w->out_pixel;
        activation(c1 - c0, pixel + c0, pixel + c0, params);
      }
  }
}

// ---- pooling

typedef struct {
  range rows, columns;
  uintptr_t input;  // address of tap (0, 0), which may lie outside
  float *output;
  float divisor;
} pool_window;

INLINE void pool_pixel(const apus_window_f32 *w, const pool_window *s, size_t c0, size_t c1, const int average) {
  const ptrdiff_t row_step = w->in_row * (ptrdiff_t)w->dilation_h, tap_step = w->in_pixel * (ptrdiff_t)w->dilation_w;
  for (size_t c = c0; c < c1; c += VL) {
    const size_t left = c1 - c;
    vf acc = v_set1(average ? 0 : -__builtin_inff());
    for (size_t i = s->rows.begin; i < s->rows.end; i++) {
      for (size_t j = s->columns.begin; j < s->columns.end; j++) {
        const ptrdiff_t offset = (ptrdiff_t)i * row_step + (ptrdiff_t)j * tap_step + (ptrdiff_t)c;
        const vf x = v_load_upto((const float *)(s->input + (uintptr_t)(offset * 4)), left);
        acc = average ? acc + x : v_max_nan(acc, x);
      }
    }
    if (average) acc = acc / v_set1(s->divisor);
    v_store_upto(s->output + c, acc, left);
  }
}

INLINE void pool(const apus_window_f32 *w, size_t y0, size_t y1, size_t c0, size_t c1, const int average,
                 const int include_pad) {
  const size_t padded_h = w->in_h + (size_t)(w->pad_top + w->pad_bottom);
  const size_t padded_w = w->in_w + (size_t)(w->pad_left + w->pad_right);
  for (size_t y = y0; y < y1; y++) {
    const ptrdiff_t top = window_row(w, y);
    pool_window s = {.rows = taps_inside(top, w->kernel_h, w->dilation_h, w->in_h)};
    const range tall = taps_inside(top + w->pad_top, w->kernel_h, w->dilation_h, padded_h);
    for (size_t x = 0; x < w->out_w; x++) {
      const ptrdiff_t left = window_column(w, x);
      s.columns = taps_inside(left, w->kernel_w, w->dilation_w, w->in_w);
      s.input = (uintptr_t)w->input + (uintptr_t)((top * w->in_row + left * w->in_pixel) * 4);
      s.output = w->output + (ptrdiff_t)y * w->out_row + (ptrdiff_t)x * w->out_pixel;
      if (average) {
        const range wide = taps_inside(left + w->pad_left, w->kernel_w, w->dilation_w, padded_w);
        const size_t seen = (s.rows.end - s.rows.begin) * (s.columns.end - s.columns.begin);
        s.divisor = (float)(include_pad ? (tall.end - tall.begin) * (wide.end - wide.begin) : seen);
      }
      pool_pixel(w, &s, c0, c1, average);
    }
  }
}

void APUS_(apus_max_pool_f32)(const apus_window_f32 *w, size_t y0, size_t y1, size_t c0, size_t c1) {
  pool(w, y0, y1, c0, c1, 0, 0);
}
void APUS_(apus_average_pool_f32)(const apus_window_f32 *w, bool include_pad, size_t y0, size_t y1, size_t c0,
                                  size_t c1) {
  pool(w, y0, y1, c0, c1, 1, include_pad);
}
