// Element-wise kernels on contiguous arrays.
#pragma once
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

// y[i] = f(x[i]) for i < n; x == y is allowed, other overlap is not. The bits of y[i] depend on x[i] and params only.
// params: as in apus_activation for those operations that have (alpha, beta); elu reads alpha. NULL elsewhere.
// Special values are those of the C library: NaN stays NaN, infinities map to limits, -0 keeps its sign where the
// function is odd, subnormal inputs and results are exact to the stated error.
typedef void apus_unary_f32_fn(size_t n, const float *x, float *y, const float *_Nullable params);

#pragma clang assume_nonnull end
