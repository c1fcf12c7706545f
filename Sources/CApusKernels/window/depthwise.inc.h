// Depthwise convolution of channels-last float32 images, over the vector vocabulary.
//
// A row of the output is cut into tiles of PIXELS neighbours, the last one shorter. Common kernels have tiles of their
// own, in which every column of the input is loaded once per kernel row and serves all the pixels that see it; in such
// a tile at the edge of the image, columns outside count as zeros. Other kernels go pixel by pixel where padding is
// seen, and skip the taps in it. Rows outside are always skipped. All of this follows from the geometry alone.
#include "geometry.inc.h"

enum { PIXELS = 4, MAX_COLUMNS = 11 };

typedef struct {
  range rows;           // kernel rows that lie in the image
  range columns;        // columns inside: of the tile's input, or for the general tile, of its taps
  uintptr_t input;      // address of tap (0, 0) of the first pixel
  float *output;        // the first pixel
  const float *add;     // the same pixel, or NULL
  size_t c0, c1;
} depthwise_tile;

typedef struct {
  int clamp;
  vf lo, hi;
} clamp_range;
INLINE clamp_range clamp_of(const apus_epilogue_f32 *e) {
  const int relu = e->activation == APUS_ACTIVATION_RELU;
  return (clamp_range){relu || e->activation == APUS_ACTIVATION_CLIP, v_set1(relu ? 0 : e->alpha),
                       v_set1(relu ? __builtin_inff() : e->beta)};
}

INLINE void depthwise_finish(const apus_depthwise_f32_args *g, const depthwise_tile *s, clamp_range bounds, size_t c,
                             size_t left, const int pixels, vf *acc) {
  const apus_epilogue_f32 *e = &g->epilogue;
  const vf bias = e->bias ? v_load_upto(e->bias + c, left) : v_zero();
#pragma clang loop unroll(full)
  for (int p = 0; p < pixels; p++) {
    if (e->bias) acc[p] += bias;
    if (s->add) acc[p] += v_load_upto(s->add + p * e->add_ld + (ptrdiff_t)c, left);
    if (bounds.clamp) acc[p] = v_clamp(acc[p], bounds.lo, bounds.hi);
    v_store_upto(s->output + p * g->window.out_pixel + (ptrdiff_t)c, acc[p], left);
  }
}

// Channels c, c + 1, ... (VL of them, or left) of a tile for a kernel of constant width, dilation 1. `edge` says that
// some columns lie outside.
INLINE void known_channels(const apus_depthwise_f32_args *g, const depthwise_tile *s, clamp_range bounds, size_t c,
                           size_t left, const int pixels, const int kernel_w, const int stride_w, const int edge) {
  const apus_window_f32 *w = &g->window;
  const int columns = (pixels - 1) * stride_w + kernel_w;
  const ptrdiff_t row_step = w->in_row * (ptrdiff_t)w->dilation_h * 4, pixel_step = w->in_pixel * 4;
  uintptr_t row = s->input + (uintptr_t)((ptrdiff_t)s->rows.begin * row_step + (ptrdiff_t)c * 4);
  const float *weight = g->weights + (ptrdiff_t)s->rows.begin * kernel_w * g->weights_ld + (ptrdiff_t)c;
  vf acc[PIXELS];
#pragma clang loop unroll(full)
  for (int p = 0; p < pixels; p++) acc[p] = v_zero();
  for (size_t i = s->rows.begin; i < s->rows.end; i++, row += (uintptr_t)row_step) {
    vf seen[MAX_COLUMNS];
#pragma clang loop unroll(full)
    for (int j = 0; j < columns; j++) {
      const int inside = !edge || ((size_t)j >= s->columns.begin && (size_t)j < s->columns.end);
      seen[j] = inside ? v_load_upto((const float *)(row + (uintptr_t)(j * pixel_step)), left) : v_zero();
    }
#pragma clang loop unroll(full)
    for (int j = 0; j < kernel_w; j++, weight += g->weights_ld) {
      const vf k = v_load_upto(weight, left);
#pragma clang loop unroll(full)
      for (int p = 0; p < pixels; p++) acc[p] = v_fma(seen[p * stride_w + j], k, acc[p]);
    }
  }
  depthwise_finish(g, s, bounds, c, left, pixels, acc);
}

// `count` tiles side by side.
INLINE void known_tiles(const apus_depthwise_f32_args *g, const depthwise_tile *first, size_t count, const int pixels,
                        const int kernel_w, const int stride_w, const int edge) {
  depthwise_tile s = *first;
  const clamp_range bounds = clamp_of(&g->epilogue);
  for (; count > 0; count--) {
    size_t c = s.c0;
    for (; c + VL <= s.c1; c += VL) known_channels(g, &s, bounds, c, VL, pixels, kernel_w, stride_w, edge);
    if (c < s.c1) known_channels(g, &s, bounds, c, s.c1 - c, pixels, kernel_w, stride_w, edge);
    s.input += (uintptr_t)(pixels * stride_w * g->window.in_pixel * 4);
    s.output += pixels * g->window.out_pixel;
    if (s.add) s.add += pixels * g->epilogue.add_ld;
  }
}

typedef void depthwise_fn(const apus_depthwise_f32_args *g, const depthwise_tile *s, size_t count);
typedef struct {
  depthwise_fn *inner, *edge[PIXELS + 1];  // inner: PIXELS wide; edge[p]: p wide
} depthwise_kernel;

#define EDGE(kernel, stride, pixels) \
  static void edge_##kernel##_##stride##_##pixels(const apus_depthwise_f32_args *g, const depthwise_tile *s, \
                                                  size_t count) { \
    known_tiles(g, s, count, pixels, kernel, stride, 1); \
  }
#define KNOWN(kernel, stride) \
  EDGE(kernel, stride, 1) \
  EDGE(kernel, stride, 2) \
  EDGE(kernel, stride, 3) \
  EDGE(kernel, stride, 4) \
  static void inner_##kernel##_##stride(const apus_depthwise_f32_args *g, const depthwise_tile *s, size_t count) { \
    known_tiles(g, s, count, PIXELS, kernel, stride, 0); \
  } \
  static const depthwise_kernel depthwise_##kernel##_##stride = { \
      inner_##kernel##_##stride, \
      {NULL, edge_##kernel##_##stride##_1, edge_##kernel##_##stride##_2, edge_##kernel##_##stride##_3, \
       edge_##kernel##_##stride##_4}};
KNOWN(3, 1)
KNOWN(3, 2)
KNOWN(5, 1)
KNOWN(5, 2)
KNOWN(7, 1)
#undef KNOWN
#undef EDGE

static const depthwise_kernel *depthwise_for(const apus_window_f32 *w) {
  if (w->dilation_w != 1) return NULL;
  if (w->stride_w == 1) {
    if (w->kernel_w == 3) return &depthwise_3_1;
    if (w->kernel_w == 5) return &depthwise_5_1;
    if (w->kernel_w == 7) return &depthwise_7_1;
  }
  if (w->stride_w == 2) {
    if (w->kernel_w == 3) return &depthwise_3_2;
    if (w->kernel_w == 5) return &depthwise_5_2;
  }
  return NULL;
}

// A tile of any kernel: all taps of s->columns, which the pixels have in common.
INLINE void general_tile(const apus_depthwise_f32_args *g, const depthwise_tile *s, const int pixels) {
  const apus_window_f32 *w = &g->window;
  const clamp_range bounds = clamp_of(&g->epilogue);
  const ptrdiff_t step = w->in_pixel * (ptrdiff_t)w->stride_w * 4;
  const ptrdiff_t tap_step = w->in_pixel * (ptrdiff_t)w->dilation_w * 4;
  const ptrdiff_t row_step = w->in_row * (ptrdiff_t)w->dilation_h * 4;
  for (size_t c = s->c0; c < s->c1; c += VL) {
    const size_t left = s->c1 - c;
    vf acc[PIXELS];
#pragma clang loop unroll(full)
    for (int p = 0; p < pixels; p++) acc[p] = v_zero();
    for (size_t i = s->rows.begin; i < s->rows.end; i++) {
      for (size_t j = s->columns.begin; j < s->columns.end; j++) {
        const uintptr_t tap =
            s->input + (uintptr_t)((ptrdiff_t)i * row_step + (ptrdiff_t)j * tap_step + (ptrdiff_t)c * 4);
        const vf k = v_load_upto(g->weights + (ptrdiff_t)(i * w->kernel_w + j) * g->weights_ld + (ptrdiff_t)c, left);
#pragma clang loop unroll(full)
        for (int p = 0; p < pixels; p++)
          acc[p] = v_fma(v_load_upto((const float *)(tap + (uintptr_t)(p * step)), left), k, acc[p]);
      }
    }
    depthwise_finish(g, s, bounds, c, left, pixels, acc);
  }
}
static void general_one(const apus_depthwise_f32_args *g, const depthwise_tile *s) { general_tile(g, s, 1); }
static void general_several(const apus_depthwise_f32_args *g, const depthwise_tile *s) { general_tile(g, s, PIXELS); }

// Moves the tile to output pixel (y, x), whose window starts at input column `left`.
INLINE void place(const apus_depthwise_f32_args *g, depthwise_tile *s, size_t y, size_t x, ptrdiff_t top,
                  ptrdiff_t left) {
  const apus_window_f32 *w = &g->window;
  s->input = pixel_address(w, top, left);
  s->output = w->output + (ptrdiff_t)y * w->out_row + (ptrdiff_t)x * w->out_pixel;
  s->add = g->epilogue.add ? g->epilogue.add + (ptrdiff_t)(y * w->out_w + x) * g->epilogue.add_ld : NULL;
}

static void known_row(const apus_depthwise_f32_args *g, const depthwise_kernel *kernel, depthwise_tile *s, size_t y,
                      ptrdiff_t top) {
  const apus_window_f32 *w = &g->window;
  const ptrdiff_t size = (ptrdiff_t)w->in_w, advance = PIXELS * (ptrdiff_t)w->stride_w;
  for (size_t x = 0; x < w->out_w;) {
    const size_t pixels = w->out_w - x < PIXELS ? w->out_w - x : PIXELS;
    const ptrdiff_t left = window_column(w, x);
    const ptrdiff_t columns = (ptrdiff_t)((pixels - 1) * w->stride_w + w->kernel_w), room = size - left - columns;
    place(g, s, y, x, top, left);
    if (pixels == PIXELS && left >= 0 && room >= 0) {
      size_t count = (size_t)(room / advance) + 1;
      if (count > (w->out_w - x) / PIXELS) count = (w->out_w - x) / PIXELS;
      kernel->inner(g, s, count);
      x += count * PIXELS;
    } else {
      s->columns.begin = left < 0 ? (size_t)-left : 0;
      s->columns.end = size <= left ? 0 : room >= 0 ? (size_t)columns : (size_t)(size - left);
      kernel->edge[pixels](g, s, 1);
      x += pixels;
    }
  }
}

static void general_row(const apus_depthwise_f32_args *g, depthwise_tile *s, size_t y, ptrdiff_t top) {
  const apus_window_f32 *w = &g->window;
  const ptrdiff_t reach = (ptrdiff_t)((w->kernel_w - 1) * w->dilation_w + (PIXELS - 1) * w->stride_w);
  for (size_t x = 0; x < w->out_w;) {
    const ptrdiff_t left = window_column(w, x);
    place(g, s, y, x, top, left);
    if (x + PIXELS <= w->out_w && left >= 0 && left + reach < (ptrdiff_t)w->in_w) {
      s->columns = (range){0, w->kernel_w};
      general_several(g, s);
      x += PIXELS;
    } else {
      s->columns = taps_inside(left, w->kernel_w, w->dilation_w, w->in_w);
      general_one(g, s);
      x += 1;
    }
  }
}

void APUS_(apus_depthwise_f32)(const apus_depthwise_f32_args *g, size_t y0, size_t y1, size_t c0, size_t c1) {
  const apus_window_f32 *w = &g->window;
  const apus_epilogue_f32 *e = &g->epilogue;
  const depthwise_kernel *const kernel = depthwise_for(w);
  apus_unary_f32_fn *const activation =
      e->activation > APUS_ACTIVATION_CLIP ? APUS_(apus_activation_function)(e->activation) : NULL;
  const float params[2] = {e->alpha, e->beta};
  if (c0 >= c1) return;
  for (size_t y = y0; y < y1; y++) {
    const ptrdiff_t top = window_row(w, y);
    depthwise_tile s = {.rows = taps_inside(top, w->kernel_h, w->dilation_h, w->in_h), .c0 = c0, .c1 = c1};
    if (kernel) known_row(g, kernel, &s, y, top);
    else general_row(g, &s, y, top);
    if (!activation) continue;
    float *const out = w->output + (ptrdiff_t)y * w->out_row;
    if (c0 == 0 && w->out_pixel == (ptrdiff_t)c1) {
      activation(w->out_w * c1, out, out, params);
      continue;
    }
    for (size_t x = 0; x < w->out_w; x++) {
      float *const pixel = out + (ptrdiff_t)x * w->out_pixel;
      activation(c1 - c0, pixel + c0, pixel + c0, params);
    }
  }
}
