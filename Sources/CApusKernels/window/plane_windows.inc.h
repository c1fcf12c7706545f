// Windows over planar float32 images without copies cut into phases: as columns of a matrix product, depthwise at
// stride 1, and pools of windows that lie whole in the image. Included after planes.inc.h.

enum { MOST_PANEL_COLUMNS = 64, MOST_RUN_VECTORS = MOST_PANEL_COLUMNS / VL };

// Neighbours of one row of outputs: columns [at, at + width) of a panel, and where the first of them is.
typedef struct {
  size_t at, width;
  size_t place[3];
  size_t vectors;
  // Of one tap: what the first column sees, and by vector which columns are inside: as lanes of one vector or of two,
  // of which every second one is taken, or as distances from the first.
  ptrdiff_t source;
  vm mask[2 * MOST_RUN_VECTORS];
  vi positions[MOST_RUN_VECTORS];
} column_run;

// Cuts the outputs from `first` on into runs; returns how many there are. What is left of the panel, zeros, belongs to
// the last one.
INLINE size_t column_runs(const apus_plane_columns_args *g, size_t first, size_t count, size_t nr, column_run *runs) {
  const size_t width = g->outputs[2], height = g->outputs[1];
  size_t x = first % width, y = first / width % height, z = first / width / height, n = 0;
  for (size_t at = 0; at < count; n++) {
    const size_t taken = count - at < width - x ? count - at : width - x;
    runs[n] = (column_run){.at = at, .width = taken, .place = {z, y, x}};
    at += taken;
    runs[n].vectors = ((at < count ? taken : taken + nr - count) + VL - 1) / VL;
    x = 0;
    if (++y == height) y = 0, z++;
  }
  return n;
}

// Lanes k with from + k in [low, high), of which every step-th one; `from` is a multiple of step, 1 or 2.
INLINE vm lanes_inside(size_t from, size_t low, size_t high, const size_t step) {
  float lane[VL];
#pragma clang loop unroll(full)
  for (size_t k = 0; k < VL; k++) lane[k] = k % step == 0 ? (float)k : -1;
  const vf lanes = v_load(lane);
  const size_t first = low > from ? low - from : 0, end = high > from ? high - from : 0;
  return v_le(v_set1((float)(first < VL ? first : VL)), lanes) & v_lt(lanes, v_set1((float)(end < VL ? end : VL)));
}

// Finds what a tap of a run sees.
INLINE void place_run(const apus_plane_columns_args *g, const size_t *tap, column_run *run, const size_t stride) {
  ptrdiff_t start[3];
  for (int axis = 0; axis < 3; axis++)
    start[axis] = (ptrdiff_t)(run->place[axis] * g->strides[axis] + tap[axis] * g->dilations[axis]) - g->pads[axis];
  const int outside = start[0] < 0 || start[0] >= (ptrdiff_t)g->extents[0] || start[1] < 0 ||
                      start[1] >= (ptrdiff_t)g->extents[1];
  size_t low, high;
  inside(start[2], stride, g->extents[2], run->width, &low, &high);
  if (outside || low == high) low = high = 0;
  run->source = (start[0] * (ptrdiff_t)g->extents[1] + start[1]) * (ptrdiff_t)g->extents[2] + start[2];
  for (size_t v = 0; v < run->vectors; v++) {
    if (stride == 1) {
      run->mask[v] = lanes_inside(v * VL, low, high, 1);
    } else if (stride == 2) {
      run->mask[2 * v] = lanes_inside(2 * v * VL, 2 * low, 2 * high, 2);
      run->mask[2 * v + 1] = lanes_inside((2 * v + 1) * VL, 2 * low, 2 * high, 2);
    } else {
      int32_t lane[VL];
      for (size_t k = 0; k < VL; k++)
        lane[k] = v * VL + k >= low && v * VL + k < high ? (int32_t)((v * VL + k) * stride) : -1;
      memcpy(&run->positions[v], lane, sizeof lane);
    }
  }
}

// Rows are written in whole vectors, in ascending order, so that each overwrites what was written behind the one
// before it.
INLINE void copy_run(const column_run *run, const float *x, float *y, const size_t stride) {
  for (size_t v = 0; v < run->vectors; v++) {
    vf seen;
    if (stride == 1) seen = v_load_where(x + v * VL, run->mask[v]);
    else if (stride == 2)
      seen = v_evens(v_load_where(x + 2 * v * VL, run->mask[2 * v]),
                     v_load_where(x + (2 * v + 1) * VL, run->mask[2 * v + 1]));
    else seen = v_gather(x, run->positions[v]);
    v_store(y + v * VL, seen);
  }
}

INLINE void columns_panel(const apus_plane_columns_args *g, size_t first, size_t count, size_t nr, float *y,
                          const size_t stride) {
  column_run runs[MOST_PANEL_COLUMNS];
  const size_t n = column_runs(g, first, count, nr, runs);
  for (size_t a = 0; a < g->kernel[0]; a++)
    for (size_t b = 0; b < g->kernel[1]; b++)
      for (size_t c = 0; c < g->kernel[2]; c++) {
        const size_t tap[3] = {a, b, c};
        for (size_t i = 0; i < n; i++) place_run(g, tap, &runs[i], stride);
        const float *x = g->x;
        for (size_t channel = 0; channel < g->channels; channel++, x += g->x_plane, y += nr)
          for (size_t i = 0; i < n; i++) copy_run(&runs[i], x + runs[i].source, y + runs[i].at, stride);
      }
}

void APUS_(apus_plane_columns_f32)(const apus_plane_columns_args *args, size_t first, size_t count, size_t nr,
                                   float *y) {
  const apus_plane_columns_args g = *args;
  const size_t rows = g.kernel[0] * g.kernel[1] * g.kernel[2] * g.channels;
  for (; count > 0; y += rows * nr) {
    const size_t taken = count < nr ? count : nr;
    if (g.strides[2] == 1) columns_panel(&g, first, taken, nr, y, 1);
    else if (g.strides[2] == 2) columns_panel(&g, first, taken, nr, y, 2);
    else columns_panel(&g, first, taken, nr, y, g.strides[2]);
    first += taken;
    count -= taken;
  }
}

#include "narrow_planes.inc.h"

#if APUS_LANES == 16
enum { DEPTHWISE_ROWS = 4, DEPTHWISE_VECTORS = 4 };
#else
enum { DEPTHWISE_ROWS = 2, DEPTHWISE_VECTORS = 4 };
#endif

// Elements b to b + VL of two vectors one after the other, which lie at x. Loads that cross lines of the cache take
// longer where vectors are as long as these.
#if APUS_LANES == 16
typedef __m512i turn;
INLINE turn turn_by(size_t b) {
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_add_epi32(lanes, _mm512_set1_epi32((int)b));
}
INLINE vf turned(vf low, vf high, turn by, const float *x, size_t b) {
  (void)x, (void)b;
  return (vf)_mm512_permutex2var_ps((__m512)low, by, (__m512)high);
}
#else
typedef int turn;
INLINE turn turn_by(size_t b) { return (void)b, 0; }
INLINE vf turned(vf low, vf high, turn by, const float *x, size_t b) {
  (void)low, (void)high, (void)by;
  return v_load(x + b);
}
#endif

// `rows` rows of `vectors` vectors of outputs, the last of which ends behind `left` elements. A row of the copy serves
// all rows of outputs that see it.
INLINE void depthwise_block(const apus_plane_depthwise_args *g, const float *x, size_t pitch, const float *weights,
                            const float *bias, float *y, size_t left, const int kernel_h, const int rows,
                            const int vectors) {
  const size_t width = g->kernel_w;
  vf acc[DEPTHWISE_ROWS][DEPTHWISE_VECTORS];
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[r][v] = v_zero();
#pragma clang loop unroll(full)
  for (int line = 0; line < rows + kernel_h - 1; line++, x += pitch) {
    vf whole[DEPTHWISE_VECTORS + 1];
#pragma clang loop unroll(full)
    for (int v = 0; v <= vectors; v++) whole[v] = v_load(x + v * VL);
    for (size_t b = 0; b < width; b++) {
      const turn by = turn_by(b);
      vf seen[DEPTHWISE_VECTORS];
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) seen[v] = turned(whole[v], whole[v + 1], by, x + v * VL, b);
#pragma clang loop unroll(full)
      for (int r = 0; r < rows; r++) {
        const int a = line - r;
        if (a < 0 || a >= kernel_h) continue;
        const vf w = v_set1(weights[(size_t)a * width + b]);
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) acc[r][v] = v_fma(seen[v], w, acc[r][v]);
      }
    }
  }
#pragma clang loop unroll(full)
  for (int r = 0; r < rows; r++, y += g->out_w)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      const vf sum = bias ? acc[r][v] + v_set1(*bias) : acc[r][v];
      if (v + 1 < vectors) v_store(y + v * VL, sum);
      else v_store_upto(y + v * VL, sum, left - (size_t)v * VL);
    }
}

INLINE void depthwise_rows(const apus_plane_depthwise_args *g, const float *x, size_t pitch, const float *weights,
                           const float *bias, float *y, const int kernel_h, const int rows) {
  const size_t width = g->out_w;
  for (size_t j = 0; j < width; j += DEPTHWISE_VECTORS * VL) {
    const size_t left = width - j, vectors = (left + VL - 1) / VL;
    if (vectors >= 4) depthwise_block(g, x + j, pitch, weights, bias, y + j, left, kernel_h, rows, 4);
    else if (vectors == 3) depthwise_block(g, x + j, pitch, weights, bias, y + j, left, kernel_h, rows, 3);
    else if (vectors == 2) depthwise_block(g, x + j, pitch, weights, bias, y + j, left, kernel_h, rows, 2);
    else depthwise_block(g, x + j, pitch, weights, bias, y + j, left, kernel_h, rows, 1);
  }
}

// Copies what rows [y0, y1) of a plane see to the inside of a copy whose padding is zeros already.
INLINE void depthwise_copy(const apus_plane_depthwise_args *g, const float *x, size_t pitch, size_t y0, size_t y1,
                           float *copy) {
  const size_t skipped = g->pad_left < 0 ? (size_t)-g->pad_left : 0;
  const size_t first = g->pad_left > 0 ? (size_t)g->pad_left : 0, seen = g->out_w + g->kernel_w - 1;
  if (skipped >= g->in_w || first >= seen) return;
  const size_t count = g->in_w - skipped < seen - first ? g->in_w - skipped : seen - first;
  for (size_t line = 0; line < y1 - y0 + g->kernel_h - 1; line++) {
    const ptrdiff_t row = (ptrdiff_t)(y0 + line) - g->pad_top;
    if (row < 0 || row >= (ptrdiff_t)g->in_h) continue;
    const float *from = x + row * (ptrdiff_t)g->in_w + skipped;
    float *to = copy + line * pitch + first;
    for (size_t j = 0; j < count; j += VL) v_store_upto(to + j, v_load_upto(from + j, count - j), count - j);
  }
}

// The last rows that are fewer than a block are computed with some of those before them, again.
INLINE void depthwise_plane(const apus_plane_depthwise_args *g, const float *copy, size_t pitch, const float *weights,
                            const float *bias, float *y, size_t rows, const int kernel_h) {
  if (rows < DEPTHWISE_ROWS) {
    for (size_t r = 0; r < rows; r++)
      depthwise_rows(g, copy + r * pitch, pitch, weights, bias, y + r * g->out_w, kernel_h, 1);
    return;
  }
  for (size_t r = 0; r < rows; r += DEPTHWISE_ROWS) {
    const size_t at = r + DEPTHWISE_ROWS <= rows ? r : rows - DEPTHWISE_ROWS;
    depthwise_rows(g, copy + at * pitch, pitch, weights, bias, y + at * g->out_w, kernel_h, DEPTHWISE_ROWS);
  }
}

INLINE void depthwise_planes(const apus_plane_depthwise_args *g, const float *copy, size_t pitch, size_t size,
                             size_t p0, size_t p1, size_t y0, size_t y1, const int kernel_h) {
  const size_t taps = g->kernel_h * g->kernel_w;
  for (size_t p = p0; p < p1; p++, copy += size)
    depthwise_plane(g, copy, pitch, g->weights + p * taps, g->bias ? g->bias + p : NULL,
                    g->y + (p * g->out_h + y0) * g->out_w, y1 - y0, kernel_h);
}

void APUS_(apus_plane_depthwise_f32)(const apus_plane_depthwise_args *args, size_t planes, size_t y0, size_t y1,
                                     float *scratch) {
  const apus_plane_depthwise_args g = *args;
  narrow_plan plan;
  if (y0 == 0 && y1 == g.out_h && narrow_prepare(&g, &plan)) {
    narrow_planes(&g, &plan, planes);
    return;
  }
  const size_t pitch = apus_plane_depthwise_pitch(g.out_w, g.kernel_w), lines = y1 - y0 + g.kernel_h - 1;
  const size_t size = lines * pitch;
  // What has just been stored cannot be loaded at another alignment for some time: small planes are copied several at a
  // time.
  const size_t several = apus_plane_depthwise_planes(lines, pitch);
  memset(scratch, 0, apus_plane_depthwise_scratch(g.out_w, g.kernel_h, g.kernel_w, y1 - y0) * sizeof(float));
  for (size_t p = 0; p < planes; p += several) {
    const size_t end = planes - p < several ? planes : p + several;
    for (size_t q = p; q < end; q++)
      depthwise_copy(&g, g.x + q * g.in_h * g.in_w, pitch, y0, y1, scratch + (q - p) * size);
    if (g.kernel_h == 3) depthwise_planes(&g, scratch, pitch, size, p, end, y0, y1, 3);
    else if (g.kernel_h == 5) depthwise_planes(&g, scratch, pitch, size, p, end, y0, y1, 5);
    else depthwise_planes(&g, scratch, pitch, size, p, end, y0, y1, 7);
  }
}

// Elements i * stride of x for i < n, of which there are VL at the most, for a stride of 1 or 2.
INLINE vf every(const float *x, size_t n, const size_t stride) {
  if (stride == 1) return v_load_upto(x, n);
  // The last element that is taken is the last one that is read.
  const size_t reach = 2 * (n < VL ? n : VL) - 1;
  return v_evens(v_load_upto(x, reach), reach > VL ? v_load_upto(x + VL, reach - VL) : v_zero());
}

INLINE vf pool_tap(vf acc, vf value, const int average) { return average ? acc + value : v_max_nan(value, acc); }

// One row of windows, `taps` elements of a line each. Of whole vectors two taps are the two halves of the same ones.
INLINE vf pool_line(vf acc, const float *x, const size_t left, const int average, const size_t stride, const int whole,
                    const size_t taps) {
  size_t c = 0;
  if (whole && stride == 2)
    for (; c + 2 <= taps; c += 2) {
      const vf low = v_load(x + c), high = v_load(x + c + VL);
      acc = pool_tap(pool_tap(acc, v_evens(low, high), average), v_odds(low, high), average);
    }
  for (; c < taps; c++)
    acc = pool_tap(acc, whole && stride == 2 ? v_evens(v_load(x + c), v_load(x + c + VL)) : every(x + c, left, stride),
                   average);
  return acc;
}

// One row of outputs, whose windows begin at x. `whole`: vectors may be read and written behind the row. `lines` and
// `taps`: the last extents of a window. `factor`: 1 over its elements, where that is exact; else 0.
INLINE void pool_row(const apus_plane_pool_args *g, const float *x, float *y, const int average, const size_t stride,
                     const int whole, const size_t lines, const size_t taps, const float factor) {
  const size_t width = g->outputs[2], line = g->extents[2], slice = g->extents[1] * line;
  const vf count = v_set1((float)(g->kernel[0] * lines * taps));
  for (size_t j = 0; j < width; j += VL) {
    const size_t left = whole ? VL : width - j;
    vf acc = v_set1(average ? 0 : -__builtin_inff());
    for (size_t a = 0; a < g->kernel[0]; a++)
      for (size_t b = 0; b < lines; b++)
        acc = pool_line(acc, x + a * slice + b * line + j * stride, left, average, stride, whole, taps);
    if (average) acc = factor != 0 ? acc * v_set1(factor) : acc / count;
    if (whole) v_store(y + j, acc);
    else v_store_upto(y + j, acc, left);
  }
}

// Rows in ascending order, so that each overwrites what the one before it has written behind its end.
INLINE void pool_planes(const apus_plane_pool_args *g, size_t planes, const int average, const size_t stride,
                        const size_t lines, const size_t taps) {
  const size_t line = g->extents[2], slice = g->extents[1] * line, plane = g->extents[0] * slice;
  // What a row reads from the beginning of its windows on, and writes, in whole vectors.
  const size_t width = (g->outputs[2] + VL - 1) / VL * VL;
  const size_t reach = (g->kernel[0] - 1) * slice + (g->kernel[1] - 1) * line + width * stride + g->kernel[2];
  const size_t count = g->kernel[0] * lines * taps;
  const float factor = (count & (count - 1)) == 0 ? 1 / (float)count : 0;
  float *y = g->y, *const end = y + planes * g->outputs[0] * g->outputs[1] * g->outputs[2];
  for (size_t p = 0; p < planes; p++)
    for (size_t a = 0; a < g->outputs[0]; a++)
      for (size_t b = 0; b < g->outputs[1]; b++, y += g->outputs[2]) {
        const size_t at = p * plane + a * g->strides[0] * slice + b * g->strides[1] * line;
        if (at + reach <= planes * plane && width <= (size_t)(end - y))
          pool_row(g, g->x + at, y, average, stride, 1, lines, taps, factor);
        else pool_row(g, g->x + at, y, average, stride, 0, lines, taps, factor);
      }
}

// The windows that most pools have are known when this is compiled.
INLINE void pool_windows(const apus_plane_pool_args *g, size_t planes, const int average, const size_t stride) {
  const size_t lines = g->kernel[1], taps = g->kernel[2];
  if (lines == 2 && taps == 2) pool_planes(g, planes, average, stride, 2, 2);
  else if (lines == 3 && taps == 3) pool_planes(g, planes, average, stride, 3, 3);
  else pool_planes(g, planes, average, stride, lines, taps);
}

void APUS_(apus_plane_pool_f32)(const apus_plane_pool_args *args, bool average, size_t planes) {
  const apus_plane_pool_args g = *args;
  if (average && g.strides[2] == 1) pool_windows(&g, planes, 1, 1);
  else if (average) pool_windows(&g, planes, 1, 2);
  else if (g.strides[2] == 1) pool_windows(&g, planes, 0, 1);
  else pool_windows(&g, planes, 0, 2);
}
