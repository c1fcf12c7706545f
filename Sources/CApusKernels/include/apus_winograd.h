// Convolutions of 3×3 windows at stride 1 by Winograd's minimal filtering: tiles of outputs from fewer products.
#pragma once
#include "apus_activation.h"
#pragma clang assume_nonnull begin

// Channels-last float32 images, one behind the other: output pixel (y, x) of each sees the inputs at rows
// y - pad_top + i and columns x - pad_left + j, i, j < 3; what lies outside counts as zero. Distances in elements,
// channels contiguous.
//
// A tile is a square of m × m outputs (m = 2 for winograd2, 4 for winograd4) which sees (m + 2)² inputs. Tiles are
// numbered in rows of an image, image after image; those at the end of a row or column reach beyond the image.
// The sum of an output is that of (m + 2)² products of transformed inputs and weights, each a gemm_f32 over the
// channels, whose rows are tiles: the bits of a tile do not depend on others. Where a result of a tile is not finite,
// the outputs of the tile are summed as the convolution has it, with weights that are found from the transformed ones,
// to a few units in the last place of the largest weight of the window.
typedef struct {
  const float *input;
  float *output;
  ptrdiff_t in_image, in_row, in_pixel, out_image, out_row, out_pixel;
  size_t in_h, in_w, out_h, out_w;
  ptrdiff_t pad_top, pad_left;
  size_t channels, outputs;
  // What the pack of the same name made.
  const float *weights;
  // Row r of epilogue.add is output pixel r of all images.
  apus_epilogue_f32 epilogue;
} apus_winograd_f32_args;

// Computes tiles [t0, t1) of the outputs of panels [p0, p1). `scratch` has apus_winograd_scratch floats for as many
// tiles and panels, aligned to 64 bytes for speed.
typedef void apus_winograd_f32_fn(const apus_winograd_f32_args *args, size_t t0, size_t t1, size_t p0, size_t p1,
                                  float *scratch);

// Transforms the weights [outputs][channels][3][3], unaligned, of panel `panel` of a whole packed buffer, which has
// apus_winograd_packed floats: `weights` is the first weight of the panel's first output.
typedef void apus_winograd_pack_f32_fn(const void *weights, size_t channels, size_t outputs, float *packed,
                                       size_t panel);

// Floats between the matrices of one point of a tile and of the next: not a multiple of what caches alias at.
static inline size_t apus_winograd_stride(size_t tiles, size_t columns) {
  return ((tiles * columns + 15) & ~(size_t)15) + 16;
}
static inline size_t apus_winograd_scratch(size_t m, size_t tiles, size_t channels, size_t panels, size_t nr) {
  return (m + 2) * (m + 2) * (apus_winograd_stride(tiles, channels) + apus_winograd_stride(tiles, panels * nr));
}
static inline size_t apus_winograd_packed(size_t m, size_t channels, size_t outputs, size_t nr) {
  return (m + 2) * (m + 2) * ((outputs + nr - 1) / nr) * nr * channels;
}
static inline size_t apus_winograd_tiles(size_t m, size_t images, size_t out_h, size_t out_w) {
  return images * ((out_h + m - 1) / m) * ((out_w + m - 1) / m);
}

#pragma clang assume_nonnull end
