// Row-wise float32 kernels: reductions, softmax, normalizations, sums of columns.
//
// A reduction over n elements keeps four vectors, the element i in lane i mod VL of vector (i / VL) mod 4; vectors are
// combined pairwise, then the lanes by halves. The order depends on n and the instruction set only.

// Lanes at or beyond n of a partial vector take `rest`.
INLINE vf v_load_rest(const float *p, size_t n, vf rest) {
  return n >= VL ? v_load(p) : v_select(v_mask_first(n), v_load_n(p, n), rest);
}

// acc[v] = combine(acc[v], term) over all x, with x the next vector and `rest` the neutral element of x.
#define REDUCE(n, xs, start, rest, combine) \
  vf acc[4] = {start, start, start, start}; \
  { \
    size_t i_ = 0; \
    for (; i_ + 4 * VL <= n; i_ += 4 * VL) { \
      _Pragma("clang loop unroll(full)") for (int v = 0; v < 4; v++) { \
        const vf x = v_load(xs + i_ + v * VL); \
        acc[v] = combine; \
      } \
    } \
    for (int v = 0; i_ < n; i_ += VL, v++) { \
      const vf x = v_load_rest(xs + i_, n - i_, rest); \
      acc[v] = combine; \
    } \
  }

INLINE float row_sum(size_t n, const float *xs) {
  REDUCE(n, xs, v_zero(), v_zero(), acc[v] + x)
  return v_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
}
INLINE float row_sum_squares(size_t n, const float *xs, vf center) {
  REDUCE(n, xs, v_zero(), center, v_fma(x - center, x - center, acc[v]))
  return v_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
}
// The maximum of numbers; a NaN may or may not show.
INLINE float row_max(size_t n, const float *xs) {
  REDUCE(n, xs, v_set1(-__builtin_inff()), v_set1(-__builtin_inff()), v_max(acc[v], x))
  return v_largest(v_max(v_max(acc[0], acc[1]), v_max(acc[2], acc[3])));
}
INLINE int row_has_nan(size_t n, const float *xs) {
  vm found = v_is_nan(v_zero());
  for (size_t i = 0; i < n; i += VL) found |= v_is_nan(v_load_upto(xs + i, n - i));
  return v_any(found);
}

float APUS_(apus_sum_f32)(size_t n, const float *x) { return row_sum(n, x); }
float APUS_(apus_mean_f32)(size_t n, const float *x) { return row_sum(n, x) / (float)n; }
float APUS_(apus_sum_squares_f32)(size_t n, const float *x) { return row_sum_squares(n, x, v_zero()); }
float APUS_(apus_sum_abs_f32)(size_t n, const float *xs) {
  REDUCE(n, xs, v_zero(), v_zero(), acc[v] + v_abs(x))
  return v_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
}
float APUS_(apus_max_f32)(size_t n, const float *x) { return row_has_nan(n, x) ? __builtin_nanf("") : row_max(n, x); }
float APUS_(apus_min_f32)(size_t n, const float *xs) {
  if (row_has_nan(n, xs)) return __builtin_nanf("");
  REDUCE(n, xs, v_set1(__builtin_inff()), v_set1(__builtin_inff()), v_min(acc[v], x))
  return -v_largest(v_neg(v_min(v_min(acc[0], acc[1]), v_min(acc[2], acc[3]))));
}

// y = x * scale + mask (where given), and the maximum of y; a NaN among them need not show in it, since its exponential
// makes the sum NaN.
INLINE float scaled_max(size_t n, const float *x, float *y, float scale, const float *mask) {
  if (scale == 1 && !mask) return row_max(n, x);
  const vf s = v_set1(scale);
  vf acc[4];
  for (int v = 0; v < 4; v++) acc[v] = v_set1(-__builtin_inff());
  for (size_t i = 0, v = 0; i < n; i += VL, v = (v + 1) % 4) {
    vf t = v_load_upto(x + i, n - i) * s;
    if (mask) t += v_load_upto(mask + i, n - i);
    v_store_upto(y + i, t, n - i);
    if (n - i < VL) t = v_select(v_mask_first(n - i), t, acc[v]);
    acc[v] = v_max(acc[v], t);
  }
  return v_largest(v_max(v_max(acc[0], acc[1]), v_max(acc[2], acc[3])));
}

void APUS_(apus_softmax_f32)(size_t n, const float *x, float *y, float scale, const float *mask) {
  const vf top = v_set1(scaled_max(n, x, y, scale, mask));
  const float *from = scale == 1 && !mask ? x : y;
  vf acc[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
  size_t i = 0;
  for (; i + 4 * VL <= n; i += 4 * VL) {
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++) {
      const vf e = v_exp(v_load(from + i + v * VL) - top);
      v_store(y + i + v * VL, e);
      acc[v] += e;
    }
  }
  for (int v = 0; i < n; i += VL, v++) {
    const vf e = v_exp(v_load_rest(from + i, n - i, v_set1(-__builtin_inff())) - top);
    v_store_upto(y + i, e, n - i);
    acc[v] += e;
  }
  const vf share = v_set1(1.0f / v_sum((acc[0] + acc[1]) + (acc[2] + acc[3])));
  for (i = 0; i < n; i += VL) v_store_upto(y + i, v_load_upto(y + i, n - i) * share, n - i);
}

void APUS_(apus_log_softmax_f32)(size_t n, const float *x, float *y, float scale, const float *mask) {
  const float top_ = scaled_max(n, x, y, scale, mask);
  const vf top = v_set1(top_);
  const float *from = scale == 1 && !mask ? x : y;
  REDUCE(n, from, v_zero(), v_set1(-__builtin_inff()), acc[v] + v_exp(x - top))
  const vf offset = v_log(v_set1(v_sum((acc[0] + acc[1]) + (acc[2] + acc[3]))));
  for (size_t i = 0; i < n; i += VL) v_store_upto(y + i, (v_load_upto(from + i, n - i) - top) - offset, n - i);
}

void APUS_(apus_layer_norm_f32)(size_t n, const float *x, float *y, const float *scale, const float *bias,
                                float epsilon, float *statistics) {
  if (n == 0) return;
  const float mean = row_sum(n, x) / (float)n;
  const float variance = row_sum_squares(n, x, v_set1(mean)) / (float)n;
  const float inverse = 1.0f / __builtin_sqrtf(variance + epsilon);
  if (statistics) {
    statistics[0] = mean;
    statistics[1] = inverse;
  }
  const vf center = v_set1(mean), factor = v_set1(inverse);
  for (size_t i = 0; i < n; i += VL) {
    vf t = (v_load_upto(x + i, n - i) - center) * factor;
    if (scale) t *= v_load_upto(scale + i, n - i);
    if (bias) t += v_load_upto(bias + i, n - i);
    v_store_upto(y + i, t, n - i);
  }
}

void APUS_(apus_rms_norm_f32)(size_t n, const float *x, float *y, const float *scale, float epsilon) {
  if (n == 0) return;
  const vf factor = v_set1(1.0f / __builtin_sqrtf(row_sum_squares(n, x, v_zero()) / (float)n + epsilon));
  for (size_t i = 0; i < n; i += VL) {
    vf t = v_load_upto(x + i, n - i) * factor;
    if (scale) t *= v_load_upto(scale + i, n - i);
    v_store_upto(y + i, t, n - i);
  }
}

// Sums of `width` <= VL columns; width is VL but for the last.
INLINE vf columns_sum(size_t rows, const float *x, ptrdiff_t ld, size_t width) {
  vf acc[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
  size_t r = 0;
  for (; r + 4 <= rows; r += 4) {
#pragma clang loop unroll(full)
    for (int v = 0; v < 4; v++) acc[v] += v_load_upto(x + (ptrdiff_t)(r + (size_t)v) * ld, width);
  }
  for (int v = 0; r < rows; r++, v++) acc[v] += v_load_upto(x + (ptrdiff_t)r * ld, width);
  return (acc[0] + acc[1]) + (acc[2] + acc[3]);
}
void APUS_(apus_column_sums_f32)(size_t rows, size_t n, const float *x, ptrdiff_t ld, float *y) {
  for (size_t j = 0; j < n; j += VL) v_store_upto(y + j, columns_sum(rows, x + j, ld, n - j), n - j);
}
void APUS_(apus_column_means_f32)(size_t rows, size_t n, const float *x, ptrdiff_t ld, float *y) {
  const vf count = v_set1((float)rows);
  for (size_t j = 0; j < n; j += VL) v_store_upto(y + j, columns_sum(rows, x + j, ld, n - j) / count, n - j);
}
