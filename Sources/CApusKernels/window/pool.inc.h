// Pooling of channels-last float32 images, over the vector vocabulary.
#include "geometry.inc.h"

typedef struct {
  range rows, columns;
  uintptr_t input;  // address of tap (0, 0)
  float *output;
  float divisor;
} pool_window;

// For the maximum, NaN is noted apart: it wins over all, and the chain of maxima stays short.
INLINE void pool_pixel(const apus_window_f32 *w, const pool_window *s, size_t c0, size_t c1, const int average) {
  const ptrdiff_t row_step = w->in_row * (ptrdiff_t)w->dilation_h, tap_step = w->in_pixel * (ptrdiff_t)w->dilation_w;
  for (size_t c = c0; c < c1; c += VL) {
    const size_t left = c1 - c;
    vf acc = v_set1(average ? 0 : -__builtin_inff());
    vm not_a_number = v_is_nan(v_zero());
    for (size_t i = s->rows.begin; i < s->rows.end; i++) {
      const ptrdiff_t at = (ptrdiff_t)i * row_step + (ptrdiff_t)c;
      uintptr_t tap = s->input + (uintptr_t)((at + (ptrdiff_t)s->columns.begin * tap_step) * 4);
      for (size_t j = s->columns.begin; j < s->columns.end; j++, tap += (uintptr_t)(tap_step * 4)) {
        const vf x = v_load_upto((const float *)tap, left);
        if (average) {
          acc += x;
        } else {
          acc = v_max(x, acc);
          not_a_number |= v_is_nan(x);
        }
      }
    }
    if (average) acc = acc / v_set1(s->divisor);
    else acc = v_select(not_a_number, v_set1(__builtin_nanf("")), acc);
    v_store_upto(s->output + c, acc, left);
  }
}

INLINE void pool(const apus_window_f32 *w, size_t y0, size_t y1, size_t c0, size_t c1, const int average,
                 const int include_pad) {
  const size_t padded_h = w->in_h + (size_t)(w->pad_top + w->pad_bottom);
  const size_t padded_w = w->in_w + (size_t)(w->pad_left + w->pad_right);
  const ptrdiff_t reach = (ptrdiff_t)((w->kernel_w - 1) * w->dilation_w);
  const range all = {0, w->kernel_w};
  for (size_t y = y0; y < y1; y++) {
    const ptrdiff_t top = window_row(w, y);
    pool_window s = {.rows = taps_inside(top, w->kernel_h, w->dilation_h, w->in_h)};
    const range tall = taps_inside(top + w->pad_top, w->kernel_h, w->dilation_h, padded_h);
    for (size_t x = 0; x < w->out_w; x++) {
      const ptrdiff_t left = window_column(w, x);
      const int inner = left >= 0 && left + reach < (ptrdiff_t)w->in_w;
      s.columns = inner ? all : taps_inside(left, w->kernel_w, w->dilation_w, w->in_w);
      s.input = pixel_address(w, top, left);
      s.output = w->output + (ptrdiff_t)y * w->out_row + (ptrdiff_t)x * w->out_pixel;
      if (average) {
        const range wide = inner ? all : taps_inside(left + w->pad_left, w->kernel_w, w->dilation_w, padded_w);
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
