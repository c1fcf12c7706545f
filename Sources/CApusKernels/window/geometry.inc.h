// Which taps of a window lie in the image, for the kernels that slide one.
#pragma once

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

// An address that may lie outside the image until an offset brings it inside.
INLINE uintptr_t pixel_address(const apus_window_f32 *w, ptrdiff_t row, ptrdiff_t column) {
  return (uintptr_t)w->input + (uintptr_t)((row * w->in_row + column * w->in_pixel) * (ptrdiff_t)sizeof(float));
}
