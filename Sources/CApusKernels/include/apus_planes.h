// Kernels that slide a window over planar float32 images. Planes are first copied with their padding and cut into
// phases, so that element i of every tap lies at one distance from element i of the result; all sums and maxima are
// then over whole vectors of neighbours.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

// One plane of up to three axes (the first ones have extents of 1 where there are fewer), dense. Coordinate c of an
// axis of the copy is coordinate starts + c of the plane, or padding. The copy consists of strides[0] * strides[1] *
// strides[2] phases one after the other, each dense and of the extents `copied`: phase (p, q, r) has the coordinates (p
// + i * strides[0], q + j * strides[1], r + k * strides[2]) at (i, j, k).
typedef struct {
  const float *x;
  size_t extents[3];
  ptrdiff_t starts[3];
  size_t strides[3];
  size_t copied[3];
  float fill;  // what the padding holds
} apus_plane_split_args;

// Writes all of the copy, and up to APUS_PLANE_SLACK elements behind it. True if it holds a NaN.
enum { APUS_PLANE_SLACK = 16 };
typedef bool apus_plane_split_fn(const apus_plane_split_args *args, float *y);

// y[o * y_ld + i] = bias[o] + sum over taps t, ascending, of x[offsets[t] + i] * weights[t * weights_ld + o] for
// i < n and o < outputs: one accumulator, fused, which takes the bias last. x and y do not overlap.
typedef struct {
  const float *x;
  const ptrdiff_t *_Nullable offsets;  // NULL only without taps
  size_t taps;
  const float *weights;
  ptrdiff_t weights_ld;
  size_t outputs;
  const float *_Nullable bias;
  float *y;
  ptrdiff_t y_ld;
} apus_plane_sums_args;
typedef void apus_plane_sums_fn(const apus_plane_sums_args *args, size_t n);

// y[i] = the largest of x[offsets[t] + i] over taps t < taps, of which there is one at least. With `nan` a NaN wins,
// without it there is none. x and y do not overlap.
typedef void apus_plane_max_fn(const float *x, const ptrdiff_t *offsets, size_t taps, bool nan, size_t n, float *y);

// Takes rows out of phases and puts them together: element j < width of row (a, b) of the result, at
// y + a * y_rows[0] + b * y_rows[1] + j, is element (j + first) / phases of phase (j + first) % phases, which starts at
// x + phase * ld + a * x_rows[0] + b * x_rows[1]. Up to APUS_PLANE_SLACK elements behind a row of x are read.
typedef struct {
  const float *x;
  ptrdiff_t ld;
  size_t phases;
  size_t first;
  size_t rows[2];
  ptrdiff_t x_rows[2];
  ptrdiff_t y_rows[2];
  size_t width;
} apus_plane_join_args;
typedef void apus_plane_join_fn(const apus_plane_join_args *args, float *y);

// y[r * y_ld + i] = sum over taps t, ascending, of x[r * x_ld + p] * weights[t * n + i], fused, for p =
// positions[t * n + i], rows r < rows, and i < n. An element at a negative position is 0. x and y do not overlap.
typedef struct {
  const float *x;
  ptrdiff_t x_ld;
  size_t rows;
  const int32_t *positions;
  const float *weights;
  size_t taps, n;
  float *y;
  ptrdiff_t y_ld;
} apus_resample_args;
typedef void apus_resample_fn(const apus_resample_args *args);

// Windows over planar images as the columns of a matrix: column i is output i of a plane in row-major order, and row
// t * channels + c of it is what tap t of its window sees of channel c, 0 in the padding. There are three axes (the
// first ones have extents and strides of 1 where there are fewer); channels are x_plane elements apart. Output o of an
// axis sees the input at o * strides - pads + k * dilations for k < kernel.
typedef struct {
  const float *x;
  ptrdiff_t x_plane;
  size_t channels;
  size_t extents[3];
  size_t outputs[3];
  size_t kernel[3];
  size_t strides[3];
  size_t dilations[3];
  ptrdiff_t pads[3];
} apus_plane_columns_args;

// Writes columns [first, first + count) in panels of nr (a multiple of 4, 64 at the most), as gemm_f32_pack does:
// y[p][row][nr], with zeros behind the last column; and up to APUS_PLANE_SLACK elements behind all of them.
typedef void apus_plane_columns_fn(const apus_plane_columns_args *args, size_t first, size_t count, size_t nr,
                                   float *y);

// Windows of kernel_h (3, 5 or 7) by kernel_w (16 at the most) elements at stride 1 over planes of [in_h, in_w], one
// after the other, each with weights and, perhaps, a bias of its own; planes of y are [out_h, out_w].
typedef struct {
  const float *x;
  size_t in_h, in_w;
  ptrdiff_t pad_top, pad_left;
  size_t kernel_h, kernel_w;
  const float *weights;
  const float *_Nullable bias;
  float *y;
  size_t out_h, out_w;
} apus_plane_depthwise_args;

// y[p][i][j] = bias[p] + sum over taps (a, b), ascending, of x[p][i - pad_top + a][j - pad_left + b] *
// weights[p][a][b], an element outside being 0: one accumulator, fused, which takes the bias last. Computes rows
// [y0, y1) of planes p < planes. `scratch` has apus_plane_depthwise_scratch floats for these rows.
typedef void apus_plane_depthwise_fn(const apus_plane_depthwise_args *args, size_t planes, size_t y0, size_t y1,
                                     float *scratch);
static inline size_t apus_plane_depthwise_pitch(size_t out_w, size_t kernel_w) {
  return ((out_w + 15) / 16 * 16 + kernel_w + 14) / 16 * 16 + 16;
}
// Planes that are copied at a time, in 16 KB, each of `lines` lines.
static inline size_t apus_plane_depthwise_planes(size_t lines, size_t pitch) {
  return lines * pitch < 4096 ? 4096 / (lines * pitch) : 1;
}
static inline size_t apus_plane_depthwise_scratch(size_t out_w, size_t kernel_h, size_t kernel_w, size_t rows) {
  const size_t lines = rows + kernel_h - 1, pitch = apus_plane_depthwise_pitch(out_w, kernel_w);
  return apus_plane_depthwise_planes(lines, pitch) * lines * pitch + APUS_PLANE_SLACK;
}

// Windows that lie whole in planes of up to three axes, of neighbours along each of them; strides[2] is 1 or 2.
typedef struct {
  const float *x;
  float *y;
  size_t extents[3];
  size_t outputs[3];
  size_t kernel[3];
  size_t strides[3];
} apus_plane_pool_args;

// For each of `planes` planes, one after the other: the largest element of each window, where NaN wins; or with
// `average` the sum of its elements in ascending order, divided by their number.
typedef void apus_plane_pool_fn(const apus_plane_pool_args *args, bool average, size_t planes);

#pragma clang assume_nonnull end
