// Weighted sums of elements of rows that a table names, over the vector vocabulary.

// The positions of VL elements from i on for one tap; of the last vector, `left` of them, the others nowhere.
INLINE vi positions_at(const apus_resample_args *g, size_t t, size_t i, size_t left) {
  vi result;
  if (left >= VL) {
    memcpy(&result, g->positions + t * g->n + i, sizeof result);
    return result;
  }
  int32_t lane[VL];
  for (size_t k = 0; k < VL; k++) lane[k] = k < left ? g->positions[t * g->n + i + k] : -1;
  memcpy(&result, lane, sizeof result);
  return result;
}

// The first position of all taps of VL elements and how many there are up to the last one; 0 without any.
INLINE size_t positions_range(const apus_resample_args *g, size_t i, size_t left, int32_t *first) {
  int32_t low = INT32_MAX, high = -1;
  const size_t lanes = left < VL ? left : VL;
  for (size_t t = 0; t < g->taps; t++)
    for (size_t k = 0; k < lanes; k++) {
      const int32_t p = g->positions[t * g->n + i + k];
      if (p > high) high = p;
      if (p >= 0 && p < low) low = p;
    }
  *first = high < 0 ? 0 : low;
  return high < 0 ? 0 : (size_t)(high - low) + 1;
}

// Rows at a time, whose sums are in registers together.
enum { RESAMPLED_ROWS = 4 };

// Elements i and following of all rows, where all positions lie within `span` elements from `first` on, two vectors at
// the most: `wide` says that they are more than one. `taps` is 1 to 4.
INLINE void resample_near(const apus_resample_args *g, size_t i, size_t left, int32_t first, size_t span,
                          const size_t taps, const int wide) {
  vi at[4], present[4];
  vf weight[4];
#pragma clang loop unroll(full)
  for (size_t t = 0; t < taps; t++) {
    present[t] = positions_at(g, t, i, left);
    at[t] = present[t] - first;
    weight[t] = v_load_upto(g->weights + t * g->n + i, left);
  }
  const float *x = g->x + first;
  float *y = g->y + i;
  for (size_t r = 0; r < g->rows; r++, x += g->x_ld, y += g->y_ld) {
    const vf a = wide ? v_load(x) : v_load_upto(x, span), b = wide ? v_load_upto(x + VL, span - VL) : a;
    vf sum = v_zero();
#pragma clang loop unroll(full)
    for (size_t t = 0; t < taps; t++) sum = v_fma(v_pick(a, b, at[t], present[t]), weight[t], sum);
    v_store_upto(y, sum, left);
  }
}

INLINE void resample_nearby(const apus_resample_args *g, size_t i, size_t left, int32_t first, size_t span,
                            const size_t taps) {
  if (span > VL) resample_near(g, i, left, first, span, taps, 1);
  else resample_near(g, i, left, first, span, taps, 0);
}

INLINE void resample_far(const apus_resample_args *g, size_t i, size_t left) {
  size_t r = 0;
  for (; r < g->rows; r += RESAMPLED_ROWS) {
    const size_t rows = g->rows - r < RESAMPLED_ROWS ? g->rows - r : RESAMPLED_ROWS;
    vf sum[RESAMPLED_ROWS];
    for (int k = 0; k < RESAMPLED_ROWS; k++) sum[k] = v_zero();
    for (size_t t = 0; t < g->taps; t++) {
      const vi place = positions_at(g, t, i, left);
      const vf w = v_load_upto(g->weights + t * g->n + i, left);
      const float *x = g->x + (ptrdiff_t)r * g->x_ld;
#pragma clang loop unroll(full)
      for (size_t k = 0; k < RESAMPLED_ROWS; k++, x += g->x_ld)
        if (k < rows) sum[k] = v_fma(v_gather(x, place), w, sum[k]);
    }
#pragma clang loop unroll(full)
    for (size_t k = 0; k < RESAMPLED_ROWS; k++)
      if (k < rows) v_store_upto(g->y + (ptrdiff_t)(r + k) * g->y_ld + i, sum[k], left);
  }
}

void APUS_(apus_resample_f32)(const apus_resample_args *args) {
  const apus_resample_args g = *args;
  for (size_t i = 0; i < g.n; i += VL) {
    const size_t left = g.n - i;
    int32_t first;
    const size_t span = positions_range(&g, i, left, &first);
    // Without instructions that pick from vectors, elements are as well taken one by one.
    const int near = VL >= 8 && span <= 2 * VL;
    if (near && g.taps == 2) resample_nearby(&g, i, left, first, span, 2);
    else if (near && g.taps == 4) resample_nearby(&g, i, left, first, span, 4);
    else resample_far(&g, i, left);
  }
}
