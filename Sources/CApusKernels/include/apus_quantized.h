// Kernels on bytes that stand for floats by a scale and a zero point, beside the 8-bit matrix multiply.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

// How bytes stand for floats: (byte - zero) * scale.
typedef struct {
  float scale;
  int32_t zero;
  bool is_signed;
} apus_byte_code;

// y[i] = saturate(round_half_even(f((a[i] - zero) * scale, (b[i] - zero) * scale) / scale) + zero), in float32 with a
// rounding after each operation: what DequantizeLinear, f and QuantizeLinear compute. codes: of a, b and y. In the form
// _vs b is one byte. NaN gives the least value. y may be a or b.
typedef void apus_binary_bytes_fn(size_t n, const void *a, const void *b, void *y, const apus_byte_code *codes);

// y[i] = table[x[i]], for a table of 256 bytes. y may be x.
typedef void apus_map_bytes_fn(size_t n, const uint8_t *x, uint8_t *y, const uint8_t *table);

// Sums of bytes, signed or not; at most 2^23 for each sum, so that 32 bits hold it.
// sum_byte_rows: y[r] = the sum of x[r * ld + j] over j < n, for r < rows.
// sum_byte_columns: y[j] = the sum of x[r * ld + j] over r < rows, for j < n.
typedef void apus_sum_bytes_fn(size_t rows, size_t n, const void *x, ptrdiff_t ld, bool is_signed, int32_t *y);

// Depthwise convolution of bytes in channels-last order: one line of the output, along the last axis.
//
// sum[x][c] = start[c] + sum over lines l and taps t < kernel of X(l, t)[c] * weights[(l * kernel + t) * channels + c],
// modulo 2^32, where X(l, t) is the pixel x * stride - pad_left + t * dilation of lines[l], or `pad` (channels bytes)
// if that lies outside of [0, width) or the line is NULL. The weights are whole numbers of magnitude 255 at most, and
// there are at most 256 of a channel, so that products and their sums are exact in float32. y[x][c], at y + x *
// channels + c, is the sum as int32, or where there are scales
//   saturate(round_half_even(float(sum) * scales[c]) + zero)
// as a byte, signed or not as y_signed says; NaN gives the least value.
typedef struct {
  const void *_Nullable const *_Nonnull lines;
  size_t line_count;
  const void *pad;
  size_t width, kernel, stride, dilation;
  ptrdiff_t pad_left;
  size_t channels;
  bool x_signed, y_signed;
  const float *weights;
  const int32_t *start;
  const float *_Nullable scales;
  int32_t zero;
  void *y;
} apus_depthwise_i8_args;

// Pixels [x0, x1) of the line.
typedef void apus_depthwise_i8_fn(const apus_depthwise_i8_args *args, size_t x0, size_t x1);

#pragma clang assume_nonnull end
