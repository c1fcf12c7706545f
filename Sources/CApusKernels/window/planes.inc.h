// Windows over planar float32 images, over the vector vocabulary: copies cut into phases, sums and maxima of taps,
// and phases put together again.

// Elements 0, 2, 4, ... and 1, 3, 5, ... of two vectors one after the other, and what makes two vectors of those.
#if APUS_LANES == 16
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif APUS_LANES == 8
#define ODDS 1, 3, 5, 7, 9, 11, 13, 15
#define EVENS 0, 2, 4, 6, 8, 10, 12, 14
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define ODDS 1, 3, 5, 7
#define EVENS 0, 2, 4, 6
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#endif
INLINE vf v_evens(vf a, vf b) { return __builtin_shufflevector(a, b, EVENS); }
INLINE vf v_odds(vf a, vf b) { return __builtin_shufflevector(a, b, ODDS); }
INLINE vf v_zip_low(vf a, vf b) { return __builtin_shufflevector(a, b, LOW); }
INLINE vf v_zip_high(vf a, vf b) { return __builtin_shufflevector(a, b, HIGH); }
#undef EVENS
#undef ODDS
#undef LOW
#undef HIGH

INLINE void fill_row(float *y, size_t n, vf value) {
  for (size_t i = 0; i < n; i += VL) v_store(y + i, value);
}

// y[i] = x[i * stride] for i < n, then `fill` up to the next whole vector. Notes lanes that hold a NaN.
INLINE void take_row(const float *x, size_t n, size_t stride, float *y, vf fill, vm *nan) {
  for (size_t i = 0; i < n; i += VL) {
    const size_t left = n - i;
    vf a;
    if (stride == 1) {
      a = v_load_upto(x + i, left);
    } else if (stride == 2) {
      // The last element that is taken is the last one that is read.
      const size_t reach = 2 * left - 1;
      const vf low = v_load_upto(x + 2 * i, reach);
      a = v_evens(low, reach > VL ? v_load_upto(x + 2 * i + VL, reach - VL) : v_zero());
    } else {
      float lanes[VL] = {0};
      for (size_t k = 0; k < VL && k < left; k++) lanes[k] = x[(i + k) * stride];
      a = v_load(lanes);
    }
    if (left < VL) a = v_select(v_mask_first(left), a, fill);
    *nan |= v_is_nan(a);
    v_store(y + i, a);
  }
}

// The positions i < count with start + i * stride in [0, size).
INLINE void inside(ptrdiff_t start, size_t stride, size_t size, size_t count, size_t *low, size_t *high) {
  const ptrdiff_t s = (ptrdiff_t)stride, room = (ptrdiff_t)size - start;
  *low = start < 0 ? (size_t)((s - 1 - start) / s) : 0;
  *high = room <= 0 ? 0 : (size_t)((room - 1) / s + 1);
  if (*high > count) *high = count;
  if (*low > *high) *low = *high;
}

// Rows are written in whole vectors, in ascending order, so that each row overwrites what the one before it has
// written behind its end.
INLINE vm split_phase(const apus_plane_split_args *g, size_t p, size_t q, size_t r, const size_t stride, float *y,
                      vm nan) {
  const size_t width = g->copied[2], rows = g->copied[1], slices = g->copied[0];
  const size_t step = g->strides[1], height = g->extents[1], length = g->extents[2];
  const vf fill = v_set1(g->fill);
  size_t low, high;
  inside(g->starts[2] + (ptrdiff_t)r, g->strides[2], length, width, &low, &high);
  const ptrdiff_t column = g->starts[2] + (ptrdiff_t)(r + low * g->strides[2]);
  for (size_t i = 0; i < slices; i++) {
    const ptrdiff_t a = g->starts[0] + (ptrdiff_t)(p + i * g->strides[0]);
    const int outside = a < 0 || a >= (ptrdiff_t)g->extents[0] || low == high;
    ptrdiff_t b = g->starts[1] + (ptrdiff_t)q;
    for (size_t j = 0; j < rows; j++, y += width, b += (ptrdiff_t)step) {
      if (outside || b < 0 || b >= (ptrdiff_t)height) {
        fill_row(y, width, fill);
        continue;
      }
      const float *x = g->x + (a * (ptrdiff_t)height + b) * (ptrdiff_t)length + column;
      const size_t end = low + (high - low + VL - 1) / VL * VL;
      fill_row(y, low, fill);
      take_row(x, high - low, stride, y + low, fill, &nan);
      if (end < width) fill_row(y + end, width - end, fill);
    }
  }
  return nan;
}

bool APUS_(apus_plane_split_f32)(const apus_plane_split_args *args, float *y) {
  const apus_plane_split_args g = *args;
  const size_t s = g.strides[2];
  vm nan = v_is_nan(v_zero());
  for (size_t p = 0; p < g.strides[0]; p++)
    for (size_t q = 0; q < g.strides[1]; q++)
      for (size_t r = 0; r < s; r++, y += g.copied[0] * g.copied[1] * g.copied[2]) {
        if (s == 1) nan = split_phase(&g, p, q, r, 1, y, nan);
        else if (s == 2) nan = split_phase(&g, p, q, r, 2, y, nan);
        else nan = split_phase(&g, p, q, r, s, y, nan);
      }
  return v_any(nan);
}

// Outputs that are summed together, as each reads all elements, and vectors of a block of so many: as many as registers
// hold beside one of each tap and a weight.
#if APUS_LANES == 16
enum { VECTORS_OF_2 = 6, VECTORS_OF_3 = 6, VECTORS_OF_4 = 6, VECTORS_OF_5 = 5, VECTORS_OF_6 = 4 };
#else
enum { VECTORS_OF_2 = 4, VECTORS_OF_3 = 3, VECTORS_OF_4 = 2, VECTORS_OF_5 = 2, VECTORS_OF_6 = 2 };
#endif
enum { MOST_OUTPUTS = 6 };

// `vectors` vectors from element i on, of `outputs` outputs from o on; of the last vector, `left` elements.
INLINE void sums_block(const apus_plane_sums_args *g, size_t i, size_t left, size_t o, const int outputs,
                       const int vectors) {
  vf acc[MOST_OUTPUTS][8];
#pragma clang loop unroll(full)
  for (int k = 0; k < outputs; k++)
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[k][v] = v_zero();
  const float *weights = g->weights + o;
  for (size_t t = 0; t < g->taps; t++, weights += g->weights_ld) {
    const float *x = g->x + g->offsets[t] + i;
    vf seen[8];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) seen[v] = v_load_upto(x + v * VL, left);
#pragma clang loop unroll(full)
    for (int k = 0; k < outputs; k++) {
      const vf w = v_set1(weights[k]);
#pragma clang loop unroll(full)
      for (int v = 0; v < vectors; v++) acc[k][v] = v_fma(seen[v], w, acc[k][v]);
    }
  }
#pragma clang loop unroll(full)
  for (int k = 0; k < outputs; k++) {
    float *y = g->y + (ptrdiff_t)(o + (size_t)k) * g->y_ld + i;
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++)
      v_store_upto(y + v * VL, g->bias ? acc[k][v] + v_set1(g->bias[o + (size_t)k]) : acc[k][v], left);
  }
}

INLINE void sums_row(const apus_plane_sums_args *g, size_t n, size_t o, const int outputs, const int vectors) {
  const size_t step = (size_t)vectors * VL;
  size_t i = 0;
  for (; i + step <= n; i += step) sums_block(g, i, VL, o, outputs, vectors);
  for (; i + 2 * VL <= n; i += 2 * VL) sums_block(g, i, VL, o, outputs, 2);
  for (; i < n; i += VL) sums_block(g, i, n - i, o, outputs, 1);
}


void APUS_(apus_plane_sums_f32)(const apus_plane_sums_args *g, size_t n) {
  // In as few groups as possible, of nearly equal size.
  for (size_t o = 0, taken; o < g->outputs; o += taken) {
    const size_t left = g->outputs - o, groups = (left + MOST_OUTPUTS - 1) / MOST_OUTPUTS;
    taken = (left + groups - 1) / groups;
    switch (taken) {
      case 6: sums_row(g, n, o, 6, VECTORS_OF_6); break;
      case 5: sums_row(g, n, o, 5, VECTORS_OF_5); break;
      case 4: sums_row(g, n, o, 4, VECTORS_OF_4); break;
      case 3: sums_row(g, n, o, 3, VECTORS_OF_3); break;
      case 2: sums_row(g, n, o, 2, VECTORS_OF_2); break;
      default: sums_row(g, n, o, 1, 8); break;
    }
  }
}

INLINE void max_block(const float *x, const ptrdiff_t *offsets, size_t taps, size_t left, float *y, const int vectors,
                      const int nan) {
  vf acc[8];
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) acc[v] = v_load_upto(x + offsets[0] + v * VL, left);
  for (size_t t = 1; t < taps; t++) {
    const float *from = x + offsets[t];
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) {
      const vf a = v_load_upto(from + v * VL, left);
      acc[v] = nan ? v_max_nan(a, acc[v]) : v_max(a, acc[v]);
    }
  }
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) v_store_upto(y + v * VL, acc[v], left);
}

INLINE void max_row(const float *x, const ptrdiff_t *offsets, size_t taps, size_t n, float *y, const int nan) {
  size_t i = 0;
  for (; i + 8 * VL <= n; i += 8 * VL) max_block(x + i, offsets, taps, VL, y + i, 8, nan);
  for (; i + 2 * VL <= n; i += 2 * VL) max_block(x + i, offsets, taps, VL, y + i, 2, nan);
  for (; i < n; i += VL) max_block(x + i, offsets, taps, n - i, y + i, 1, nan);
}

void APUS_(apus_plane_max_f32)(const float *x, const ptrdiff_t *offsets, size_t taps, bool nan, size_t n, float *y) {
  if (nan) max_row(x, offsets, taps, n, y, 1);
  else max_row(x, offsets, taps, n, y, 0);
}

// `whole`: up to a whole vector may be written behind the end of the row.
INLINE void join_row(const apus_plane_join_args *g, const float *x, float *y, const size_t s, int whole) {
  const size_t width = g->width, first = g->first;
  size_t j = 0;
  if (s == 1) {
    x += first;
    for (; j + VL <= width; j += VL) v_store(y + j, v_load(x + j));
    if (j == width) return;
    if (whole) v_store(y + j, v_load(x + j));
    else v_store_n(y + j, v_load_n(x + j, width - j), width - j);
    return;
  }
  if (s == 2) {
    for (; j < width && (j + first) % 2; j++) y[j] = x[g->ld + (ptrdiff_t)((j + first) / 2)];
    for (; j + 2 * VL <= width; j += 2 * VL) {
      const float *from = x + (j + first) / 2;
      const vf a = v_load(from), b = v_load(from + g->ld);
      v_store(y + j, v_zip_low(a, b));
      v_store(y + j + VL, v_zip_high(a, b));
    }
  }
  // Each phase in turn, from its first element at or behind j.
  for (size_t p = 0; p < s; p++) {
    size_t at = j + (p + s - (j + first) % s) % s;
    const float *from = x + (ptrdiff_t)p * g->ld + (at + first) / s;
    for (; at < width; at += s) y[at] = *from++;
  }
}

void APUS_(apus_plane_join_f32)(const apus_plane_join_args *args, float *y) {
  const apus_plane_join_args g = *args;
  for (size_t a = 0; a < g.rows[0]; a++)
    for (size_t b = 0; b < g.rows[1]; b++) {
      const float *x = g.x + (ptrdiff_t)a * g.x_rows[0] + (ptrdiff_t)b * g.x_rows[1];
      float *row = y + (ptrdiff_t)a * g.y_rows[0] + (ptrdiff_t)b * g.y_rows[1];
      // The next row covers what a whole vector writes behind this one.
      const int whole = b + 1 < g.rows[1] && g.y_rows[1] == (ptrdiff_t)g.width && g.width >= VL;
      if (g.phases == 1) join_row(&g, x, row, 1, whole);
      else if (g.phases == 2) join_row(&g, x, row, 2, 0);
      else join_row(&g, x, row, g.phases, 0);
    }
}
