// Row-wise float32 kernels: reductions, softmax, normalizations, sums of columns.
//
// A reduction over n elements keeps four vectors, the element i in lane i mod VL of vector (i / VL) mod 4, but those of
// the last vector that is not whole in the fourth; vectors are combined pairwise, then the lanes by halves. The order
// depends on n and the instruction set only.

// Lanes at or beyond n < VL take `rest`.
INLINE vf v_load_rest(const float *p, size_t n, vf rest) { return v_select(v_mask_first(n), v_load_n(p, n), rest); }

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
    _Pragma("clang loop unroll(full)") for (int v = 0; v < 3; v++) { \
      if (i_ + VL > n) break; \
      const vf x = v_load(xs + i_); \
      acc[v] = combine; \
      i_ += VL; \
    } \
    if (i_ < n) { \
      const int v = 3; \
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
float APUS_(apus_sum_f32)(size_t n, const float *x) { return row_sum(n, x); }
float APUS_(apus_mean_f32)(size_t n, const float *x) { return row_sum(n, x) / (float)n; }
float APUS_(apus_sum_squares_f32)(size_t n, const float *x) { return row_sum_squares(n, x, v_zero()); }
float APUS_(apus_sum_abs_f32)(size_t n, const float *xs) {
  REDUCE(n, xs, v_zero(), v_zero(), acc[v] + v_abs(x))
  return v_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
}
// NaN wins over all: it is looked for on the way.
float APUS_(apus_max_f32)(size_t n, const float *xs) {
  const vf start = v_set1(-__builtin_inff());
  vm bad = v_is_nan(v_zero());
  REDUCE(n, xs, start, start, (bad |= v_is_nan(x), v_max(acc[v], x)))
  return v_any(bad) ? __builtin_nanf("") : v_largest(v_max(v_max(acc[0], acc[1]), v_max(acc[2], acc[3])));
}
float APUS_(apus_min_f32)(size_t n, const float *xs) {
  const vf start = v_set1(__builtin_inff());
  vm bad = v_is_nan(v_zero());
  REDUCE(n, xs, start, start, (bad |= v_is_nan(x), v_min(acc[v], x)))
  return v_any(bad) ? __builtin_nanf("") : -v_largest(v_neg(v_min(v_min(acc[0], acc[1]), v_min(acc[2], acc[3]))));
}

// exp(x) for x <= 0, and 0 where that is no normal number: the sum is 1 or more, and what a product after the softmax
// makes of subnormal numbers takes a processor a hundred times as long as the rest.
INLINE vf v_exp_softmax(vf x) {
  const vm none = v_lt(x, v_set1(-87.3365f));
  const exp_parts e = v_exp_reduce(v_select(none, v_zero(), x));
  const vf p = v_fma(v_exp_tail(e.r) * e.r, e.r, e.r) + v_set1(1);
  return v_select(none, v_zero(), v_ldexp(p, e.n));
}

// The elements i of a row times `scale`, plus `mask` where given; -infinity at and beyond n.
INLINE vf logits(size_t n, size_t i, const float *x, float scale, const float *mask) {
  vf t = n - i >= VL ? v_load(x + i) : v_load_n(x + i, n - i);
  if (scale != 1) t *= v_set1(scale);
  if (mask) t += n - i >= VL ? v_load(mask + i) : v_load_n(mask + i, n - i);
  return n - i >= VL ? t : v_select(v_mask_first(n - i), t, v_set1(-__builtin_inff()));
}

// The maximum of the logits; where they are not x itself they are written to y. A NaN among them need not show in it,
// since its exponential makes the sum NaN.
INLINE float logits_max(size_t n, const float *x, float *y, float scale, const float *mask) {
  if (scale == 1 && !mask) return row_max(n, x);
  vf a = v_set1(-__builtin_inff()), b = a;
  size_t i = 0;
  for (; i + 2 * VL <= n; i += 2 * VL) {
    const vf s = logits(n, i, x, scale, mask), t = logits(n, i + VL, x, scale, mask);
    v_store(y + i, s);
    v_store(y + i + VL, t);
    a = v_max(a, s);
    b = v_max(b, t);
  }
  for (; i < n; i += VL) {
    const vf t = logits(n, i, x, scale, mask);
    v_store_upto(y + i, t, n - i);
    a = v_max(a, t);
  }
  return v_largest(v_max(a, b));
}

INLINE void softmax_row(size_t n, const float *x, float *y, float scale, const float *mask, int logarithm) {
  if (n <= VL) {
    if (n == 0) return;
    const vf t = logits(n, 0, x, scale, mask);
    const vf shifted = t - v_set1(v_largest(t)), e = v_exp_softmax(shifted);
    const float sum = v_sum(e);
    v_store_upto(y, logarithm ? shifted - v_log(v_set1(sum)) : e * v_set1(1.0f / sum), n);
    return;
  }
  // The largest of rounded products is that of the largest, if the factor is positive: they need not be kept then.
  const int is_kept = mask || !(scale > 0);
  const vf top = v_set1(is_kept ? logits_max(n, x, y, scale, mask) : row_max(n, x) * scale);
  const vf factor = v_set1(is_kept ? 1 : scale);
  const float *from = is_kept ? y : x;
  const size_t rest = n % VL, whole = n - rest;
  vf acc[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
  size_t i = 0;
#define TAKE(v, at) \
  { \
    const vf e_ = v_exp_softmax(v_load(from + (at)) * factor - top); \
    if (!logarithm) v_store(y + (at), e_); \
    acc[v] += e_; \
  }
  for (; i + 4 * VL <= whole; i += 4 * VL) {
    TAKE(0, i)
    TAKE(1, i + VL)
    TAKE(2, i + 2 * VL)
    TAKE(3, i + 3 * VL)
  }
  if (i < whole) TAKE(0, i)
  if (i + VL < whole) TAKE(1, i + VL)
  if (i + 2 * VL < whole) TAKE(2, i + 2 * VL)
#undef TAKE
  // The rest stays in a register: what is stored in part is slow to load.
  const vf last = rest ? v_load_rest(from + whole, rest, v_set1(-__builtin_inff())) * factor - top : v_zero();
  const vf last_e = rest ? v_exp_softmax(last) : v_zero();
  acc[3] += last_e;
  const float sum = v_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
  if (logarithm) {
    const vf offset = v_log(v_set1(sum));
    for (i = 0; i < whole; i += VL) v_store(y + i, (v_load(from + i) * factor - top) - offset);
    if (rest) v_store_n(y + whole, last - offset, rest);
  } else {
    const vf share = v_set1(1.0f / sum);
    for (i = 0; i < whole; i += VL) v_store(y + i, v_load(y + i) * share);
    if (rest) v_store_n(y + whole, last_e * share, rest);
  }
}

void APUS_(apus_softmax_f32)(size_t n, const float *x, float *y, float scale, const float *mask) {
  softmax_row(n, x, y, scale, mask, 0);
}
void APUS_(apus_log_softmax_f32)(size_t n, const float *x, float *y, float scale, const float *mask) {
  softmax_row(n, x, y, scale, mask, 1);
}
void APUS_(apus_softmax_rows_f32)(size_t rows, size_t n, const float *x, float *y) {
  for (size_t r = 0; r < rows; r++, x += n, y += n) softmax_row(n, x, y, 1, NULL, 0);
}

// The logarithm of the sum is that of one number, which costs as much as that of a vector: those of some rows are taken
// together. LOG_ROW is the longest row of which there are several in a cache near by.
enum { LOG_ROW = 1024 };

// The largest element of a row longer than a vector, and the sum of the exponentials of the distances to it.
INLINE void exponential_sum(size_t n, const float *xs, float *top, float *sum) {
  *top = row_max(n, xs);
  const vf shift = v_set1(*top);
  REDUCE(n, xs, v_zero(), v_set1(-__builtin_inff()), acc[v] + v_exp_softmax(x - shift))
  *sum = v_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
}
void APUS_(apus_log_softmax_rows_f32)(size_t rows, size_t n, const float *x, float *y) {
  size_t r = 0;
  for (; n > VL && n <= LOG_ROW && r + VL <= rows; r += VL) {
    float tops[VL], sums[VL], logs[VL];
    for (size_t k = 0; k < VL; k++) exponential_sum(n, x + (r + k) * n, tops + k, sums + k);
    v_store(logs, v_log(v_load(sums)));
    for (size_t k = 0; k < VL; k++) {
      const float *from = x + (r + k) * n;
      float *to = y + (r + k) * n;
      const vf top = v_set1(tops[k]), offset = v_set1(logs[k]);
      size_t i = 0;
      for (; i + VL <= n; i += VL) v_store(to + i, (v_load(from + i) - top) - offset);
      if (i < n) v_store_n(to + i, (v_load_n(from + i, n - i) - top) - offset, n - i);
    }
  }
  for (; r < rows; r++) softmax_row(n, x + r * n, y + r * n, 1, NULL, 1);
}

// Rows of a narrow strip that are kept in whole vectors on their way: what is stored in part is slow to load.
enum { STRIP_ROWS = 128 };

// `width` <= VL columns.
INLINE void softmax_strip(size_t rows, size_t width, const float *x, ptrdiff_t ld, float *y, int logarithm) {
  const ptrdiff_t count = (ptrdiff_t)rows;
  const int is_kept = width < VL && rows <= STRIP_ROWS;
  float kept[STRIP_ROWS * VL];
  float *work = is_kept ? kept : y;
  const ptrdiff_t work_ld = is_kept ? VL : ld;
  const size_t work_width = is_kept ? VL : width;
  vf acc[4];
  for (int v = 0; v < 4; v++) acc[v] = v_set1(-__builtin_inff());
#define TAKE(v, r) \
  { \
    const vf t_ = v_load_upto(x + (r) * ld, width); \
    if (is_kept) v_store(kept + (r) * VL, t_); \
    acc[v] = v_max(acc[v], t_); \
  }
  ptrdiff_t r = 0;
  for (; r + 4 <= count; r += 4) {
    TAKE(0, r)
    TAKE(1, r + 1)
    TAKE(2, r + 2)
    TAKE(3, r + 3)
  }
  for (; r < count; r++) TAKE(0, r)
#undef TAKE
  const vf top = v_max(v_max(acc[0], acc[1]), v_max(acc[2], acc[3]));
  const float *from = is_kept ? kept : x;
  for (int v = 0; v < 4; v++) acc[v] = v_zero();
#define TAKE(v, r) \
  { \
    const vf t_ = v_load_upto(from + (r) * work_ld, work_width) - top, e_ = v_exp_softmax(t_); \
    v_store_upto(work + (r) * work_ld, logarithm ? t_ : e_, work_width); \
    acc[v] += e_; \
  }
  for (r = 0; r + 4 <= count; r += 4) {
    TAKE(0, r)
    TAKE(1, r + 1)
    TAKE(2, r + 2)
    TAKE(3, r + 3)
  }
  for (; r < count; r++) TAKE(0, r)
#undef TAKE
  const vf sum = (acc[0] + acc[1]) + (acc[2] + acc[3]);
  const vf last = logarithm ? v_log(sum) : v_set1(1) / sum;
  for (r = 0; r < count; r++) {
    const vf t = v_load_upto(work + r * work_ld, work_width);
    v_store_upto(y + r * ld, logarithm ? t - last : t * last, width);
  }
}
INLINE void softmax_columns(size_t rows, size_t n, const float *x, ptrdiff_t ld, float *y, int logarithm) {
  size_t j = 0;
  for (; j + VL <= n; j += VL) softmax_strip(rows, VL, x + j, ld, y + j, logarithm);
  if (j < n) softmax_strip(rows, n - j, x + j, ld, y + j, logarithm);
}
void APUS_(apus_softmax_columns_f32)(size_t rows, size_t n, const float *x, ptrdiff_t ld, float *y) {
  softmax_columns(rows, n, x, ld, y, 0);
}
void APUS_(apus_log_softmax_columns_f32)(size_t rows, size_t n, const float *x, ptrdiff_t ld, float *y) {
  softmax_columns(rows, n, x, ld, y, 1);
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

void APUS_(apus_moments_f32)(size_t n, const float *x, float *moments) {
  const float mean = row_sum(n, x) / (float)n;
  moments[0] = mean;
  moments[1] = row_sum_squares(n, x, v_set1(mean)) / (float)n;
}

INLINE void affine(size_t n, const float *x, float *y, const float *center, const float *factor, const float *offset,
                   int each) {
  const vf c = v_set1(*center), f = v_set1(*factor), o = v_set1(*offset);
  size_t i = 0;
  for (; i + VL <= n; i += VL) {
    const vf t = v_load(x + i) - (each ? v_load(center + i) : c);
    v_store(y + i, v_fma(t, each ? v_load(factor + i) : f, each ? v_load(offset + i) : o));
  }
  if (i == n) return;
  const vf t = v_load_n(x + i, n - i) - (each ? v_load_n(center + i, n - i) : c);
  v_store_n(y + i, v_fma(t, each ? v_load_n(factor + i, n - i) : f, each ? v_load_n(offset + i, n - i) : o), n - i);
}
void APUS_(apus_affine_f32)(size_t n, const float *x, float *y, const float *center, const float *factor,
                            const float *offset, bool each) {
  if (n == 0) return;
  if (each) affine(n, x, y, center, factor, offset, 1);
  else affine(n, x, y, center, factor, offset, 0);
}

// The pairs from i on: VL of them, or the last `left`.
INLINE void rotate_vector(size_t pairs, size_t i, size_t left, const float *x, float *y, const float *cosines,
                          const float *sines) {
  const vf a = v_load_upto(x + i, left), b = v_load_upto(x + pairs + i, left);
  const vf c = v_load_upto(cosines + i, left), s = v_load_upto(sines + i, left);
  v_store_upto(y + i, v_fma(c, a, v_neg(s * b)), left);
  v_store_upto(y + pairs + i, v_fma(s, a, c * b), left);
}
INLINE void rotate_halves(size_t pairs, const float *x, float *y, const float *cosines, const float *sines) {
  size_t i = 0;
  for (; i + VL <= pairs; i += VL) rotate_vector(pairs, i, VL, x, y, cosines, sines);
  if (i < pairs) rotate_vector(pairs, i, pairs - i, x, y, cosines, sines);
}
INLINE void rotate_neighbours(size_t pairs, const float *x, float *y, const float *cosines, const float *sines) {
#pragma clang loop vectorize(assume_safety)
  for (size_t i = 0; i < pairs; i++) {
    const float a = x[2 * i], b = x[2 * i + 1], c = cosines[i], s = sines[i];
#if APUS_HAS_FMA
    y[2 * i] = __builtin_fmaf(c, a, -(s * b));
    y[2 * i + 1] = __builtin_fmaf(s, a, c * b);
#else
    y[2 * i] = c * a - s * b;
    y[2 * i + 1] = s * a + c * b;
#endif
  }
}
void APUS_(apus_rotate_f32)(size_t pairs, const float *x, float *y, const float *cosines, const float *sines,
                            bool interleaved) {
  if (interleaved) rotate_neighbours(pairs, x, y, cosines, sines);
  else rotate_halves(pairs, x, y, cosines, sines);
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
