// Kernels on contiguous arrays: element-wise, row-wise, and conversions.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

// y[i] = f(x[i]) for i < n; x == y is allowed, other overlap is not. The bits of y[i] depend on x[i] and params only.
// params: as in apus_activation for those operations that have (alpha, beta); elu reads alpha. NULL elsewhere.
// Special values are those of the C library: NaN stays NaN, infinities map to limits, -0 keeps its sign where the
// function is odd, subnormal inputs and results are exact to the stated error. Functions of the form x * g(x) are NaN
// where that product is (silu of -infinity).
typedef void apus_unary_f32_fn(size_t n, const float *x, float *y, const float *_Nullable params);

// The same for float64. Errors in units of the last place of the result: exp 1, log 1, sigmoid 2.5, tanh 3; the others
// are exactly rounded.
typedef void apus_unary_f64_fn(size_t n, const double *x, double *y);

// y[i] = a[i] op b[i] for i < n; in the form _vs b, in the form _sv a is one element. y may be a or b. Pointers are
// aligned to the element. Integers wrap; their quotients are truncated, and 0 where b is 0. NaN of either side wins in
// min and max.
typedef void apus_binary_fn(size_t n, const void *a, const void *b, void *y);

// Which operand is one element in the place of n.
typedef enum { APUS_BOTH_MOVE = 0, APUS_ONE_A = 1, APUS_ONE_B = 2 } apus_operands;

// y[i] = a[i] op b[i] ? 1 : 0 for i < n, false where one is NaN; of bool operands every byte but 0 is true. y may be an
// operand of n elements of one byte.
typedef void apus_compare_fn(size_t n, const void *a, const void *b, uint8_t *y, apus_operands operands);

// y[i] = (x[i] & mask) - low <= span ? 1 : 0 for i < n, on unsigned integers of the width in the name (bytes), of which
// the arguments hold the low bits. y may be x where that is 1.
typedef void apus_in_range_fn(size_t n, const void *x, uint8_t *y, uint64_t mask, uint64_t low, uint64_t span);

// y[i] = condition[i] ? a[i] : b[i] for i < n, elements of the width in the name (bytes). y may be a or b.
typedef void apus_select_fn(size_t n, const uint8_t *condition, const void *a, const void *b, void *y);

// y[r * length + i] = x[r * row_stride + (moves ? i : 0)] for r < rows, i < length: operands of a broadcast, laid out
// as its result. Elements of the width in the name (bytes). Up to 64 bytes behind the result are written as well. No
// overlap.
typedef void apus_expand_fn(size_t rows, size_t length, const void *x, ptrdiff_t row_stride, int moves, void *y);

// Byte offsets of what indices along an axis of `extent` elements name, `stride` bytes apart: offsets[i] = place(i) *
// stride + first + i * step for i < n, with place(i) = indices[i], or indices[i] + extent where that is negative. False
// if an index is not in [-extent, extent); then the offsets are of no use. offsets may be indices.
typedef bool apus_index_offsets_fn(size_t n, const ptrdiff_t *indices, ptrdiff_t extent, ptrdiff_t stride,
                                   ptrdiff_t first, ptrdiff_t step, ptrdiff_t *offsets);

// A number from n >= 0 floats: an accumulator for each residue of the index modulo a fixed width, combined in a fixed
// order. Of nothing: sum 0, max -infinity, min +infinity. NaN wins in max and min.
typedef float apus_reduce_f32_fn(size_t n, const float *x);

// What is done with the elements of a fold. Of nothing: sums 0, the product 1, maxima and minima the bounds of the type
// (for floats the infinities). Integers wrap; NaN wins in maxima and minima.
typedef enum {
  APUS_FOLD_SUM = 0,
  APUS_FOLD_SUM_SQUARES = 1,
  APUS_FOLD_SUM_ABS = 2,
  APUS_FOLD_PRODUCT = 3,
  APUS_FOLD_MAX = 4,
  APUS_FOLD_MIN = 5,
} apus_fold;

// fold_rows: y[r] = the fold of x[r * ld + j] over j < n, for r < rows, in an order that n alone decides.
// fold_columns: y[j] = the fold of x[r * ld + j] over r < rows, for j < n, in an order that `rows` alone decides.
// Pointers are aligned to the element; no overlap. Bytes have maxima and minima only.
typedef void apus_fold_fn(apus_fold fold, size_t rows, size_t n, const void *x, ptrdiff_t ld, void *y);

// Places of values, -1 where there is none; NaN stands for every value. Elements and values are aligned to the element.
// find_rows: places[r] = the first j < n, or the last one, with x[r * ld + j] == values[r], for r < rows.
// find_columns: places[j] = the first r < rows, or the last one, with x[r * ld + j] == values[j], for j < n.
typedef void apus_find_fn(size_t rows, size_t n, const void *x, ptrdiff_t ld, const void *values, bool last,
                          int64_t *places);

// keys[i] for x[i], i < n: keys are in the order of the elements, equal for equal ones. NaN comes last and equals
// itself, -0 equals 0, every true is one. x is aligned to the element.
typedef void apus_sort_keys_fn(size_t n, const void *x, uint64_t *keys);

// Writes the i < n with keys[i] < bound in ascending order, and returns their number. n is less than 2^32.
typedef size_t apus_keys_below_fn(size_t n, const uint64_t *keys, uint64_t bound, uint32_t *places);

// y = the sum, or the product, of all elements of a line up to each, one after the other: of those before it if
// `exclusive`, from the end if `reverse`. A line is the n neighbours from x + r * ld on (scan_rows, for r < rows), or
// the `rows` elements, ld apart, from x + j on (scan_columns, for j < n). y has the same strides, and may be x unless
// `exclusive`.
typedef void apus_scan_fn(bool product, size_t rows, size_t n, const void *x, ptrdiff_t ld, void *y, bool exclusive,
                          bool reverse);

// The same as apus_softmax_f32_fn, with the same bits, for many lines without scale and mask: of n neighbours each, one
// behind the other, for r < rows (softmax_rows), or of `rows` elements, ld apart, from x + j on, for j < n
// (softmax_columns, in an order that `rows` alone decides). y may be x.
typedef void apus_softmax_rows_f32_fn(size_t rows, size_t n, const float *x, float *y);
typedef void apus_softmax_columns_f32_fn(size_t rows, size_t n, const float *x, ptrdiff_t ld, float *y);

// y = softmax(x * scale + mask) or its logarithm over n floats, with the maximum taken off first; NaN throughout for a
// row of -infinity only or with a NaN. y may be x.
typedef void apus_softmax_f32_fn(size_t n, const float *x, float *y, float scale, const float *_Nullable mask);

// y = (x - mean) / sqrt(variance + epsilon) * scale + bias over n floats; the variance is the mean of squares around
// the mean, in a second pass. statistics, where given, receives the mean and 1 / sqrt(variance + epsilon). y may be x.
typedef void apus_layer_norm_f32_fn(size_t n, const float *x, float *y, const float *_Nullable scale,
                                    const float *_Nullable bias, float epsilon, float *_Nullable statistics);

// y = x / sqrt(mean of squares + epsilon) * scale over n floats. y may be x.
typedef void apus_rms_norm_f32_fn(size_t n, const float *x, float *y, const float *_Nullable scale, float epsilon);

// moments[0] = the mean of n > 0 floats, moments[1] = the mean of squares around it, in a second pass.
typedef void apus_moments_f32_fn(size_t n, const float *x, float *moments);

// y = (x - center) * factor + offset over n floats, the product and the sum rounded once where the machine can; `each`:
// with the i-th of n centers, factors and offsets for x[i], else with the first ones for all. y may be x.
typedef void apus_affine_f32_fn(size_t n, const float *x, float *y, const float *center, const float *factor,
                                const float *offset, bool each);

// y[j] = mean or sum over r < rows of x[r * ld + j], for j < n: four partial sums by r modulo 4, then ((0+1)+(2+3)).
typedef void apus_columns_f32_fn(size_t rows, size_t n, const float *x, ptrdiff_t ld, float *y);

// y[i] += x[i].
typedef void apus_accumulate_f32_fn(size_t n, const float *x, float *y);

// Turns `pairs` pairs of a row by the angles of the cosines and sines: of a = x[i] and b = x[pairs + i], or of
// neighbours a = x[2 i] and b = x[2 i + 1] if `interleaved`, y has cos a - sin b and sin a + cos b in the same places.
// One of the two products is fused with the sum where the machine can. y may be x.
typedef void apus_rotate_f32_fn(size_t pairs, const float *x, float *y, const float *cosines, const float *sines,
                                bool interleaved);

// y[i] = x[i] in another type, as Cast has it: floats round to nearest, half to even, integers wrap, floats become
// integers by truncation, and the least integer of 32 or 64 bits, cut to the width, where that does not fit. To
// integers of one width signed and unsigned are one kernel (from floats to 32 and 64 bits they are two). NaN stays NaN,
// overflow is infinite. f64_to_f32_odd rounds to odd: to zero, and the last bit is set if the result is inexact, so
// that a further rounding to fewer bits is that of x itself. y may be x where both have one width.
typedef void apus_convert_fn(size_t n, const void *x, void *y);

// y[i] = (x[i] - zero) * scale, from the integer type in the name.
typedef void apus_dequantize_fn(size_t n, const void *x, float *y, float scale, int32_t zero);

// The same with a scale and a zero point for every element, the latter of the type of x; no zeros: all are 0.
typedef void apus_dequantize_each_fn(size_t n, const void *x, float *y, const float *scales,
                                     const void *_Nullable zeros);

// y[i] = saturate(round_half_even(x[i] / scale) + zero), to the integer type in the name. NaN gives the least value.
typedef void apus_quantize_fn(size_t n, const float *x, void *y, float scale, int32_t zero);

// The same with a scale and a zero point for every element, the latter of the type of y; no zeros: all are 0.
typedef void apus_quantize_each_fn(size_t n, const float *x, void *y, const float *scales, const void *_Nullable zeros);

// dst[c * dst_ld + r] = src[r * src_ld + c] for r < rows, c < columns, elements of the width in the name (bytes) and
// any alignment; distances in elements. No overlap.
typedef void apus_transpose_fn(size_t rows, size_t columns, const void *src, ptrdiff_t src_ld, void *dst,
                               ptrdiff_t dst_ld);

#pragma clang assume_nonnull end
