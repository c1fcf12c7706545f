// Kernels on contiguous arrays: element-wise, row-wise, and conversions.
#pragma once
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

// y[i] = f(x[i]) for i < n; x == y is allowed, other overlap is not. The bits of y[i] depend on x[i] and params only.
// params: as in apus_activation for those operations that have (alpha, beta); elu reads alpha. NULL elsewhere.
// Special values are those of the C library: NaN stays NaN, infinities map to limits, -0 keeps its sign where the
// function is odd, subnormal inputs and results are exact to the stated error. Functions of the form x * g(x) are NaN
// where that product is (silu of -infinity).
typedef void apus_unary_f32_fn(size_t n, const float *x, float *y, const float *_Nullable params);

// y[i] = a[i] op b[i] for i < n; in the form _vs b, in the form _sv a is one element. y may be a or b. Pointers are
// aligned to the element. Integers wrap. NaN of either side wins in min and max.
typedef void apus_binary_fn(size_t n, const void *a, const void *b, void *y);

// A number from n >= 0 floats: an accumulator for each residue of the index modulo a fixed width, combined in a fixed
// order. Of nothing: sum 0, max -infinity, min +infinity. NaN wins in max and min.
typedef float apus_reduce_f32_fn(size_t n, const float *x);

// y = softmax(x * scale + mask) or its logarithm over n floats, with the maximum taken off first; NaN throughout for a
// row of -infinity only or with a NaN. y may be x.
typedef void apus_softmax_f32_fn(size_t n, const float *x, float *y, float scale, const float *_Nullable mask);

// y = (x - mean) / sqrt(variance + epsilon) * scale + bias over n floats; the variance is the mean of squares around
// the mean, in a second pass. statistics, where given, receives the mean and 1 / sqrt(variance + epsilon). y may be x.
typedef void apus_layer_norm_f32_fn(size_t n, const float *x, float *y, const float *_Nullable scale,
                                    const float *_Nullable bias, float epsilon, float *_Nullable statistics);

// y = x / sqrt(mean of squares + epsilon) * scale over n floats. y may be x.
typedef void apus_rms_norm_f32_fn(size_t n, const float *x, float *y, const float *_Nullable scale, float epsilon);

// y[j] = mean or sum over r < rows of x[r * ld + j], for j < n: four partial sums by r modulo 4, then ((0+1)+(2+3)).
typedef void apus_columns_f32_fn(size_t rows, size_t n, const float *x, ptrdiff_t ld, float *y);

// y[i] += x[i].
typedef void apus_accumulate_f32_fn(size_t n, const float *x, float *y);

// y[i] = x[i] in another type. To float16 and bfloat16: nearest, half to even, NaN stays NaN, overflow is infinite.
typedef void apus_convert_fn(size_t n, const void *x, void *y);

// y[i] = (x[i] - zero) * scale, from the integer type in the name.
typedef void apus_dequantize_fn(size_t n, const void *x, float *y, float scale, int32_t zero);

// y[i] = saturate(round_half_even(x[i] / scale) + zero), to the integer type in the name. NaN gives the least value.
typedef void apus_quantize_fn(size_t n, const float *x, void *y, float scale, int32_t zero);

// dst[c * dst_ld + r] = src[r * src_ld + c] for r < rows, c < columns, elements of the width in the name (bytes) and
// any alignment; distances in elements. No overlap.
typedef void apus_transpose_fn(size_t rows, size_t columns, const void *src, ptrdiff_t src_ld, void *dst,
                               ptrdiff_t dst_ld);

#pragma clang assume_nonnull end
