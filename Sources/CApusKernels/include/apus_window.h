// Kernels that slide a window over channels-last images: depthwise convolution and pooling.
#pragma once
#include <stdbool.h>

#include "apus_activation.h"
#pragma clang assume_nonnull begin

// One image, float32: pixel (y, x) of the input starts at input + y * in_row + x * in_pixel, of the output at
// output + y * out_row + x * out_pixel; distances in elements, channels contiguous. Output pixel (y, x) sees the input
// at rows y * stride_h - pad_top + i * dilation_h, i < kernel_h, and likewise columns; what lies outside is padding.
// pad_bottom and pad_right matter to the divisor of an average only.
typedef struct {
  const float *input;
  float *output;
  ptrdiff_t in_row, in_pixel, out_row, out_pixel;
  size_t in_h, in_w, out_w;
  size_t kernel_h, kernel_w;
  size_t stride_h, stride_w;
  size_t dilation_h, dilation_w;
  ptrdiff_t pad_top, pad_left, pad_bottom, pad_right;
} apus_window_f32;

// output[y][x][c] = epilogue(sum over taps in the image, ascending, of input * weights[tap * weights_ld + c]), one
// accumulator, fused; a tap in the padding adds nothing, or zero. Computes rows [y0, y1), channels [c0, c1) of the
// output. Row r of epilogue.add is pixel y * out_w + x.
typedef struct {
  apus_window_f32 window;
  const float *weights;
  ptrdiff_t weights_ld;
  apus_epilogue_f32 epilogue;
} apus_depthwise_f32_args;
typedef void apus_depthwise_f32_fn(const apus_depthwise_f32_args *args, size_t y0, size_t y1, size_t c0, size_t c1);

// Maximum over the taps in the image; NaN wins; -infinity for a window wholly in the padding.
typedef void apus_max_pool_f32_fn(const apus_window_f32 *window, size_t y0, size_t y1, size_t c0, size_t c1);

// Sum over the taps in the image, divided by their number, or with include_pad by the number of taps that lie in the
// image or its padding. A window with a divisor of zero gives NaN.
typedef void apus_average_pool_f32_fn(const apus_window_f32 *window, bool include_pad, size_t y0, size_t y1, size_t c0,
                                      size_t c1);

#pragma clang assume_nonnull end
