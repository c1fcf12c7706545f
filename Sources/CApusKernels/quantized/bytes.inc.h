// Element by element on bytes that stand for floats, over the vector vocabulary.

#include "quotient.inc.h"

typedef uint8_t vbyte __attribute__((vector_size(VL)));
typedef int8_t vsbyte __attribute__((vector_size(VL)));

INLINE vi v_from_bytes(const void *p, const int is_signed) {
  if (is_signed) {
    vsbyte x;
    memcpy(&x, p, sizeof x);
    return __builtin_convertvector(x, vi);
  }
  vbyte x;
  memcpy(&x, p, sizeof x);
  return __builtin_convertvector(x, vi);
}

INLINE vf v_decode(const void *p, const int is_signed, vf scale, vi zero) {
  return v_to_float(v_from_bytes(p, is_signed) - zero) * scale;
}

// Bounded before the conversion to integer; the bounds are whole numbers, so this is saturation. NaN becomes low.
INLINE void v_store_code(void *p, vf x, vf zero, vf low, vf high) {
  const vi q = v_to_int(v_min(high, v_max(v_round(x) + zero, low)));
  const vbyte bytes = __builtin_convertvector((vu)q, vbyte);
  memcpy(p, &bytes, sizeof bytes);
}

// A vector at a time, the last one by way of a copy.
#define BINARY_LOOP(operation, single, a_signed, b_signed) \
  for (size_t i = 0; i < n; i += VL) { \
    const size_t left = n - i < VL ? n - i : VL; \
    const uint8_t *from_a = a + i, *from_b = single ? b : b + i; \
    uint8_t last[3][VL]; \
    if (left < VL) { \
      memcpy(last[0], from_a, left); \
      from_a = last[0]; \
      if (!single) { \
        memcpy(last[1], from_b, left); \
        from_b = last[1]; \
      } \
    } \
    const vf p = v_decode(from_a, a_signed, a_scale, a_zero); \
    const vf q = single ? other : v_decode(from_b, b_signed, b_scale, b_zero); \
    uint8_t *to = left < VL ? last[2] : y + i; \
    v_store_code(to, v_quotient(p operation q, y_scale, inverse, reach), y_zero, low, high); \
    if (left < VL) memcpy(y + i, last[2], left); \
  }

#define BINARY(linkage, name, operation, single) \
  linkage void name(size_t n, const void *a_, const void *b_, void *y_, const apus_byte_code *codes) { \
    const uint8_t *a = a_, *b = b_; \
    uint8_t *y = y_; \
    const int a_signed = codes[0].is_signed, b_signed = codes[1].is_signed, y_signed = codes[2].is_signed; \
    const vf a_scale = v_set1(codes[0].scale), b_scale = v_set1(codes[1].scale), y_scale = v_set1(codes[2].scale); \
    const vf inverse = v_quotient_inverse(codes[2].scale), reach = v_set1(v_quotient_reach(codes[2].scale)); \
    const vi a_zero = v_set1_i(codes[0].zero), b_zero = v_set1_i(codes[1].zero); \
    const vf y_zero = v_set1((float)codes[2].zero); \
    const vf low = v_set1(y_signed ? -128 : 0), high = v_set1(y_signed ? 127 : 255); \
    vf other = v_zero(); \
    if (single && n > 0) \
      other = v_set1((float)((b_signed ? *(const int8_t *)b : *b) - codes[1].zero) * codes[1].scale); \
    if (a_signed && b_signed) { \
      BINARY_LOOP(operation, single, 1, 1) \
    } else if (!a_signed && !b_signed) { \
      BINARY_LOOP(operation, single, 0, 0) \
    } else if (a_signed) { \
      BINARY_LOOP(operation, single, 1, 0) \
    } else { \
      BINARY_LOOP(operation, single, 0, 1) \
    } \
  }
BINARY(static, exact_sums, +, 0)
BINARY(static, exact_sums_vs, +, 1)
BINARY(, APUS_(apus_mul_bytes), *, 0)
BINARY(, APUS_(apus_mul_bytes_vs), *, 1)
#undef BINARY
#undef BINARY_LOOP

// The code of a sum before it is rounded, as one linear function of the codes of a and b. It is `reach` away from a
// whole number at most where rounding it gives what rounding the sum step by step gives.
typedef struct {
  float a, b, start, reach;
} sum_function;

// In units of 2^-24 of the largest terms: the three factors, two steps here, and the steps of the definition (two
// products, a sum, a quotient), each rounded once, are off by 6, 5 and 3; some more for what these do to each other.
INLINE sum_function sum_function_of(const apus_byte_code *codes, int single, const uint8_t *b) {
  const sum_function none = {0, 0, 0, 0};
  for (int i = 0; i < 3; i++)
    if (v_quotient_reach(codes[i].scale) == 0) return none;
  const double factor_a = (double)codes[0].scale / (double)codes[2].scale;
  const double factor_b = (double)codes[1].scale / (double)codes[2].scale;
  const int other = !single ? 0 : codes[1].is_signed ? (int8_t)*b : *b;
  const double start = (double)codes[2].zero - (double)codes[0].zero * factor_a + (other - codes[1].zero) * factor_b;
  const double size = __builtin_fabs(factor_a) + __builtin_fabs(factor_b);
  const double reach = 0.5 - 0x1p-24 * (7 * 256 * size + 4 * __builtin_fabs(start));
  if (!(reach > 0)) return none;
  return (sum_function){(float)factor_a, (float)factor_b, (float)start, (float)reach};
}

// Four vectors of sums; 0 if one of them is too near the middle between two codes, and then nothing is written.
INLINE int sum_group(const uint8_t *a, const uint8_t *b, uint8_t *y, const sum_function *f, const int is_signed,
                     const int single) {
  vi codes[4];
  vf farthest = v_zero();
#pragma clang loop unroll(full)
  for (int v = 0; v < 4; v++) {
    vf q = v_fma(v_to_float(v_from_bytes(a + v * VL, is_signed)), v_set1(f->a), v_set1(f->start));
    if (!single) q = v_fma(v_to_float(v_from_bytes(b + v * VL, is_signed)), v_set1(f->b), q);
    const vf rounded = v_round(q);
    farthest = v_max(farthest, v_abs(q - rounded));
    codes[v] = v_to_int(rounded);
  }
  if (__builtin_expect(v_any((vm)~v_lt(farthest, v_set1(f->reach))), 0)) return 0;
  v_store_saturated(y, codes, is_signed);
  return 1;
}

#define SUMS(name, exact, single) \
  void APUS_(apus_##name)(size_t n, const void *a_, const void *b_, void *y_, const apus_byte_code *codes) { \
    const uint8_t *a = a_, *b = b_; \
    uint8_t *y = y_; \
    const int is_signed = codes[0].is_signed; \
    size_t i = 0; \
    if (n >= 4 * VL && codes[1].is_signed == is_signed && codes[2].is_signed == is_signed) { \
      const sum_function f = sum_function_of(codes, single, b); \
      for (; i + 4 * VL <= n; i += 4 * VL) { \
        const uint8_t *other = single ? b : b + i; \
        const int is_done = \
            is_signed ? sum_group(a + i, other, y + i, &f, 1, single) : sum_group(a + i, other, y + i, &f, 0, single); \
        if (!is_done) exact(4 * VL, a + i, other, y + i, codes); \
      } \
    } \
    if (i < n) exact(n - i, a + i, single ? b : b + i, y + i, codes); \
  }
SUMS(add_bytes, exact_sums, 0)
SUMS(add_bytes_vs, exact_sums_vs, 1)
#undef SUMS

void APUS_(apus_map_bytes)(size_t n, const uint8_t *x, uint8_t *y, const uint8_t *table) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t in, out = 0;
    memcpy(&in, x + i, sizeof in);
#pragma clang loop unroll(full)
    for (int b = 0; b < 64; b += 8) out |= (uint64_t)table[in >> b & 255] << b;
    memcpy(y + i, &out, sizeof out);
  }
  for (; i < n; i++) y[i] = table[x[i]];
}

INLINE int32_t v_sum_i(vi x) {
  int32_t sum = 0;
#pragma clang loop unroll(full)
  for (int lane = 0; lane < VL; lane++) sum += x[lane];
  return sum;
}

// `left` < VL bytes, the others zero.
INLINE vi v_from_few_bytes(const uint8_t *p, size_t left, const int is_signed) {
  uint8_t copy[VL] = {0};
  memcpy(copy, p, left);
  return v_from_bytes(copy, is_signed);
}

INLINE void sum_rows(size_t rows, size_t n, const uint8_t *x, ptrdiff_t ld, const int is_signed, int32_t *y) {
  for (size_t r = 0; r < rows; r++, x += ld) {
    vi acc[4] = {v_set1_i(0), v_set1_i(0), v_set1_i(0), v_set1_i(0)};
    size_t j = 0;
    for (; j + 4 * VL <= n; j += 4 * VL) {
#pragma clang loop unroll(full)
      for (int v = 0; v < 4; v++) acc[v] += v_from_bytes(x + j + v * VL, is_signed);
    }
    for (; j + VL <= n; j += VL) acc[0] += v_from_bytes(x + j, is_signed);
    if (j < n) acc[1] += v_from_few_bytes(x + j, n - j, is_signed);
    y[r] = v_sum_i((acc[0] + acc[1]) + (acc[2] + acc[3]));
  }
}
void APUS_(apus_sum_byte_rows)(size_t rows, size_t n, const void *x, ptrdiff_t ld, bool is_signed, int32_t *y) {
  if (is_signed) sum_rows(rows, n, x, ld, 1, y);
  else sum_rows(rows, n, x, ld, 0, y);
}

INLINE void sum_columns(size_t rows, size_t n, const uint8_t *x, ptrdiff_t ld, const int is_signed, int32_t *y) {
  size_t j = 0;
  for (; j + 4 * VL <= n; j += 4 * VL) {
    vi acc[4] = {v_set1_i(0), v_set1_i(0), v_set1_i(0), v_set1_i(0)};
    const uint8_t *row = x + j;
    for (size_t r = 0; r < rows; r++, row += ld) {
#pragma clang loop unroll(full)
      for (int v = 0; v < 4; v++) acc[v] += v_from_bytes(row + v * VL, is_signed);
    }
    memcpy(y + j, acc, sizeof acc);
  }
  for (; j < n; j += VL) {
    const size_t left = n - j;
    vi acc = v_set1_i(0);
    const uint8_t *row = x + j;
    for (size_t r = 0; r < rows; r++, row += ld)
      acc += left >= VL ? v_from_bytes(row, is_signed) : v_from_few_bytes(row, left, is_signed);
    memcpy(y + j, &acc, left >= VL ? sizeof acc : left * sizeof *y);
  }
}
void APUS_(apus_sum_byte_columns)(size_t rows, size_t n, const void *x, ptrdiff_t ld, bool is_signed, int32_t *y) {
  if (is_signed) sum_columns(rows, n, x, ld, 1, y);
  else sum_columns(rows, n, x, ld, 0, y);
}

// Depthwise convolution: some pixels at a time; at the edges of the image each tap is asked whether it lies inside. A
// vector of channels after the other. The last vector begins so that it ends with the channels; fewer channels than a
// vector has go by way of a copy.
#if APUS_LANES == 16
enum { DEPTHWISE_PIXELS = 4, DEPTHWISE_WIDE = 8, DEPTHWISE_WIDEST_KERNEL = 5, DEPTHWISE_WIDEST_STRIDE = 2 };
#else
enum { DEPTHWISE_PIXELS = 4, DEPTHWISE_WIDE = 4, DEPTHWISE_WIDEST_KERNEL = 5, DEPTHWISE_WIDEST_STRIDE = 2 };
#endif

// The sums of `count` neighbours, of `pixels` at most, from `pixel` on; four at a time if they become bytes: bounded
// before the conversion to integer by whole numbers, which is saturation, and NaN becomes low.
INLINE void depthwise_bytes_finish(const apus_depthwise_i8_args *g, size_t pixel, size_t count, size_t c, size_t left,
                                   const vf *sum, const int pixels) {
  const vu start = (vu)v_load_upto((const float *)(const void *)(g->start + c), left);
  size_t at = pixel * g->channels + c;
  if (!g->scales) {
    for (size_t p = 0; p < (size_t)pixels && p < count; p++, at += g->channels)
      v_store_upto((float *)g->y + at, (vf)((vu)v_to_int(sum[p]) + start), left);
    return;
  }
  const vf scales = v_load_upto(g->scales + c, left);
  const int turn = g->y_signed ? 128 : 0;
  const vf low = v_set1((float)(-turn - g->zero)), high = v_set1((float)(255 - turn - g->zero));
#pragma clang loop unroll(full)
  for (int first = 0; first < pixels; first += 4) {
    vi codes[4];
#pragma clang loop unroll(full)
    for (int p = 0; p < 4; p++) {
      const vu exact = (vu)v_to_int(sum[first + p < pixels ? first + p : first]) + start;
      const vf x = v_to_float((vi)exact) * scales;
      codes[p] = v_to_int(v_min(high, v_max(x, low))) + v_set1_i(g->zero + turn);
    }
    uint8_t bytes[4 * VL];
    v_store_saturated(bytes, codes, 0);
    typedef uint8_t all __attribute__((vector_size(4 * VL)));
    all turned;
    memcpy(&turned, bytes, sizeof turned);
    turned ^= (uint8_t)turn;
    memcpy(bytes, &turned, sizeof turned);
#pragma clang loop unroll(full)
    for (int p = 0; p < 4; p++, at += g->channels) {
      if ((size_t)(first + p) >= count) break;
      const uint8_t *code = bytes + p * VL;
      if (left >= VL) memcpy((uint8_t *)g->y + at, code, VL);
      else memcpy((uint8_t *)g->y + at, code, left);
    }
  }
}

INLINE vf depthwise_bytes_load(const uint8_t *x, size_t left, const int x_signed) {
  uint8_t copy[VL];
  if (left < VL) {
    for (size_t i = 0; i < left; i++) copy[i] = x[i];
    x = copy;
  }
  return v_to_float(v_from_bytes(x, x_signed));
}

// The first of some bytes of a pixel of a line.
INLINE const uint8_t *depthwise_bytes_pixel(const apus_depthwise_i8_args *g, const uint8_t *line, ptrdiff_t column,
                                            const int edge) {
  const int outside = !line || (edge && (column < 0 || column >= (ptrdiff_t)g->width));
  return outside ? g->pad : line + column * (ptrdiff_t)g->channels;
}

// `count` neighbours from `pixel` on, computed as `pixels`; `edge` says that taps may lie outside.
INLINE void depthwise_bytes_channels(const apus_depthwise_i8_args *g, size_t pixel, size_t count, size_t c, size_t left,
                                     const int pixels, const int edge, const int x_signed) {
  vf sum[DEPTHWISE_PIXELS];
#pragma clang loop unroll(full)
  for (int p = 0; p < pixels; p++) sum[p] = v_zero();
  const float *weights = g->weights + c;
  const ptrdiff_t first = (ptrdiff_t)(pixel * g->stride) - g->pad_left;
  for (size_t l = 0; l < g->line_count; l++) {
    const uint8_t *line = g->lines[l];
    ptrdiff_t column = first;
    for (size_t t = 0; t < g->kernel; t++, weights += g->channels, column += (ptrdiff_t)g->dilation) {
      const vf w = v_load_upto(weights, left);
#pragma clang loop unroll(full)
      for (int p = 0; p < pixels; p++) {
        const uint8_t *x = depthwise_bytes_pixel(g, line, column + p * (ptrdiff_t)g->stride, edge);
        sum[p] = v_fma(depthwise_bytes_load(x + c, left, x_signed), w, sum[p]);
      }
    }
  }
  depthwise_bytes_finish(g, pixel, count, c, left, sum, pixels);
}

// The same for common kernels and strides: each column serves all pixels that see it.
INLINE void depthwise_bytes_columns(const apus_depthwise_i8_args *g, size_t pixel, size_t count, size_t c, size_t left,
                                    const int pixels, const int kernel, const int stride, const int edge,
                                    const int x_signed) {
  vf sum[DEPTHWISE_WIDE];
#pragma clang loop unroll(full)
  for (int p = 0; p < pixels; p++) sum[p] = v_zero();
  const float *weights = g->weights + c;
  const ptrdiff_t first = (ptrdiff_t)pixel * stride - g->pad_left;
  for (size_t l = 0; l < g->line_count; l++) {
    vf seen[(DEPTHWISE_WIDE - 1) * DEPTHWISE_WIDEST_STRIDE + DEPTHWISE_WIDEST_KERNEL];
#pragma clang loop unroll(full)
    for (int j = 0; j < (pixels - 1) * stride + kernel; j++)
      seen[j] = depthwise_bytes_load(depthwise_bytes_pixel(g, g->lines[l], first + j, edge) + c, left, x_signed);
#pragma clang loop unroll(full)
    for (int t = 0; t < kernel; t++, weights += g->channels) {
      const vf w = v_load_upto(weights, left);
#pragma clang loop unroll(full)
      for (int p = 0; p < pixels; p++) sum[p] = v_fma(seen[p * stride + t], w, sum[p]);
    }
  }
  depthwise_bytes_finish(g, pixel, count, c, left, sum, pixels);
}

// `kernel`: a common one at a common stride; 0: any other.
INLINE void depthwise_bytes_vector(const apus_depthwise_i8_args *g, size_t pixel, size_t count, size_t c, size_t left,
                                   const int pixels, const int kernel, const int stride, const int edge,
                                   const int x_signed) {
  if (kernel) depthwise_bytes_columns(g, pixel, count, c, left, pixels, kernel, stride, edge, x_signed);
  else depthwise_bytes_channels(g, pixel, count, c, left, pixels, edge, x_signed);
}

INLINE void depthwise_bytes_pixels(const apus_depthwise_i8_args *g, size_t pixel, size_t count, const int pixels,
                                   const int kernel, const int stride, const int edge, const int x_signed) {
  const size_t channels = g->channels;
  if (channels < VL) {
    depthwise_bytes_vector(g, pixel, count, 0, channels, pixels, kernel, stride, edge, x_signed);
    return;
  }
  size_t c = 0;
  for (; c + VL <= channels; c += VL)
    depthwise_bytes_vector(g, pixel, count, c, VL, pixels, kernel, stride, edge, x_signed);
  if (c < channels) depthwise_bytes_vector(g, pixel, count, channels - VL, VL, pixels, kernel, stride, edge, x_signed);
}

INLINE void depthwise_bytes_line(const apus_depthwise_i8_args *g, size_t x0, size_t x1, const int kernel,
                                 const int stride, const int x_signed) {
  const ptrdiff_t width = (ptrdiff_t)g->width, reach = (ptrdiff_t)((g->kernel - 1) * g->dilation);
  for (size_t x = x0, count; x < x1; x += count) {
    const ptrdiff_t first = (ptrdiff_t)(x * g->stride) - g->pad_left;
    // Pixels from here on whose taps all lie in the image.
    const ptrdiff_t free = width - 1 - reach - first;
    const size_t room = first < 0 || free < 0 ? 0 : (size_t)free / g->stride + 1, left = x1 - x;
    if (kernel && DEPTHWISE_WIDE > DEPTHWISE_PIXELS && left >= DEPTHWISE_WIDE && room >= DEPTHWISE_WIDE) {
      count = DEPTHWISE_WIDE;
      depthwise_bytes_pixels(g, x, count, DEPTHWISE_WIDE, kernel, stride, 0, x_signed);
    } else if (left >= DEPTHWISE_PIXELS && room >= DEPTHWISE_PIXELS) {
      count = DEPTHWISE_PIXELS;
      depthwise_bytes_pixels(g, x, count, DEPTHWISE_PIXELS, kernel, stride, 0, x_signed);
    } else {
      count = left < DEPTHWISE_PIXELS ? left : DEPTHWISE_PIXELS;
      depthwise_bytes_pixels(g, x, count, DEPTHWISE_PIXELS, kernel, stride, 1, x_signed);
    }
  }
}

void APUS_(apus_depthwise_i8)(const apus_depthwise_i8_args *g, size_t x0, size_t x1) {
  if (g->channels == 0 || g->kernel == 0) return;
  const size_t stride = g->stride, kernel = stride <= DEPTHWISE_WIDEST_STRIDE && g->dilation == 1 ? g->kernel : 0;
#define LINE(common, step) \
  { \
    if (g->x_signed) depthwise_bytes_line(g, x0, x1, common, step, 1); \
    else depthwise_bytes_line(g, x0, x1, common, step, 0); \
  }
  if (kernel == 3 && stride == 1) LINE(3, 1)
  else if (kernel == 3 && stride == 2) LINE(3, 2)
  else if (kernel == 5 && stride == 1) LINE(5, 1)
  else if (kernel == 5 && stride == 2) LINE(5, 2)
  else LINE(0, 0)
#undef LINE
}
