// Drivers of kernels that slide windows over images.
#include "check.h"

static size_t outputs_of(size_t extent, size_t kernel, size_t stride, size_t dilation, size_t pads) {
  const size_t reach = (kernel - 1) * dilation + 1;
  return extent + pads < reach ? 0 : (extent + pads - reach) / stride + 1;
}

// An image of `channels` channels and its result, of which *out_h rows are.
static apus_window_f32 window(const call *c, size_t channels, size_t *out_h) {
  apus_window_f32 w = {0};
  w.in_h = between(1, 9), w.in_w = between(1, 20);
  w.kernel_h = between(1, 4), w.kernel_w = between(1, 5);
  w.stride_h = between(1, 2), w.stride_w = between(1, 3);
  w.dilation_h = between(1, 2), w.dilation_w = between(1, 2);
  w.pad_top = (ptrdiff_t)below(3), w.pad_left = (ptrdiff_t)below(3);
  w.pad_bottom = (ptrdiff_t)below(3), w.pad_right = (ptrdiff_t)below(3);
  *out_h = outputs_of(w.in_h, w.kernel_h, w.stride_h, w.dilation_h, (size_t)(w.pad_top + w.pad_bottom));
  w.out_w = outputs_of(w.in_w, w.kernel_w, w.stride_w, w.dilation_w, (size_t)(w.pad_left + w.pad_right));
  w.in_pixel = (ptrdiff_t)channels, w.in_row = w.in_pixel * (ptrdiff_t)w.in_w;
  w.out_pixel = (ptrdiff_t)channels, w.out_row = w.out_pixel * (ptrdiff_t)w.out_w;
  w.input = floats(c, w.in_h * w.in_w * channels);
  w.output = result(*out_h * w.out_w * channels, f32, 0);
  return w;
}

static void depthwise(const call *c) {
  const size_t channels = between(1, 40);
  size_t out_h;
  apus_depthwise_f32_args g = {.window = window(c, channels, &out_h)};
  g.weights_ld = (ptrdiff_t)channels;
  g.weights = floats(c, g.window.kernel_h * g.window.kernel_w * channels);
  g.epilogue.bias = perhaps_floats(c, channels);
  g.epilogue.add_ld = (ptrdiff_t)channels;
  g.epilogue.add = perhaps_floats(c, out_h * g.window.out_w * channels);
  g.epilogue.activation = (apus_activation)below(APUS_ACTIVATION_GELU_TANH + 1);
  g.epilogue.alpha = -0.5f, g.epilogue.beta = 2;
  FUNCTION(apus_depthwise_f32_fn, c)(&g, 0, out_h, chance(3) ? below(channels) : 0, channels);
}
static void max_pool(const call *c) {
  const size_t channels = between(1, 40);
  size_t out_h;
  const apus_window_f32 w = window(c, channels, &out_h);
  FUNCTION(apus_max_pool_f32_fn, c)(&w, 0, out_h, 0, channels);
}
static void average_pool(const call *c) {
  const size_t channels = between(1, 40);
  size_t out_h;
  const apus_window_f32 w = window(c, channels, &out_h);
  FUNCTION(apus_average_pool_f32_fn, c)(&w, chance(2), 0, out_h, 0, channels);
}

static void depthwise_i8(const call *c) {
  apus_depthwise_i8_args g = {0};
  const size_t channels = between(1, 70);
  g.width = between(1, 30), g.kernel = between(1, 6), g.line_count = between(1, 4);
  g.stride = between(1, 2), g.dilation = between(1, 2), g.pad_left = (ptrdiff_t)below(4), g.channels = channels;
  g.x_signed = chance(2), g.y_signed = chance(2);
  const uint8_t *bytes = filled(c, g.line_count * g.width * channels, u8);
  const void **lines = memory(g.line_count * sizeof *lines);
  for (size_t l = 0; l < g.line_count; l++) lines[l] = chance(6) ? NULL : bytes + l * g.width * channels;
  g.lines = lines, g.pad = filled(c, channels, u8);
  const size_t count = g.line_count * g.kernel * channels;
  float *weights = memory(count * sizeof *weights);
  for (size_t i = 0; i < count; i++) weights[i] = (float)below(511) - 255;
  g.weights = weights, g.start = filled(c, channels, i32), g.zero = (int32_t)below(100);
  if (chance(2)) g.scales = floats(c, channels);
  const size_t out = outputs_of(g.width, g.kernel, g.stride, g.dilation, (size_t)g.pad_left + below(4));
  g.y = result(out * channels, g.scales ? u8 : i32, 0);
  FUNCTION(apus_depthwise_i8_fn, c)(&g, 0, out);
}

// MARK: - Planes

static void plane_split(const call *c) {
  apus_plane_split_args g = {.fill = number(false)};
  size_t count = 1, total = 1;
  for (int i = 0; i < 3; i++) {
    g.extents[i] = between(1, i == 2 ? 40 : 5);
    g.starts[i] = -(ptrdiff_t)below(4);
    g.strides[i] = between(1, 3);
    g.copied[i] = between(1, i == 2 ? 40 : 4);
    count *= g.extents[i], total *= g.strides[i] * g.copied[i];
  }
  g.x = floats(c, count);
  returned(FUNCTION(apus_plane_split_fn, c)(&g, result(total, f32, APUS_PLANE_SLACK * sizeof(float))));
}

static ptrdiff_t *offsets_within(size_t taps, size_t room) {
  ptrdiff_t *offsets = memory(taps * sizeof *offsets);
  for (size_t t = 0; t < taps; t++) offsets[t] = (ptrdiff_t)below(room + 1);
  return offsets;
}
static void plane_sums(const call *c) {
  const size_t n = length(), taps = below(12), outputs = between(1, 9);
  apus_plane_sums_args g = {.taps = taps, .outputs = outputs};
  g.x = floats(c, n + 60), g.offsets = taps ? offsets_within(taps, 60) : NULL;
  g.weights_ld = (ptrdiff_t)(outputs + below(3)), g.weights = floats(c, taps * (size_t)g.weights_ld + outputs);
  g.bias = perhaps_floats(c, outputs);
  g.y_ld = (ptrdiff_t)(n + below(3)), g.y = result((outputs - 1) * (size_t)g.y_ld + n, f32, 0);
  FUNCTION(apus_plane_sums_fn, c)(&g, n);
}
static void plane_max(const call *c) {
  const size_t n = length(), taps = between(1, 12);
  const bool nan = c->special;
  const float *x = floats(c, n + 60);
  const ptrdiff_t *offsets = offsets_within(taps, 60);
  FUNCTION(apus_plane_max_fn, c)(x, offsets, taps, nan, n, result(n, f32, 0));
}
static void plane_join(const call *c) {
  apus_plane_join_args g = {.phases = between(1, 4), .width = between(1, 70)};
  g.first = below(3), g.rows[0] = between(1, 3), g.rows[1] = between(1, 4);
  const size_t row = (g.width + g.first) / g.phases + 1;
  g.x_rows[1] = (ptrdiff_t)row, g.x_rows[0] = (ptrdiff_t)(row * g.rows[1]);
  g.ld = (ptrdiff_t)(row * g.rows[0] * g.rows[1]);
  g.y_rows[1] = (ptrdiff_t)g.width, g.y_rows[0] = (ptrdiff_t)(g.width * g.rows[1]);
  g.x = floats(c, (size_t)g.ld * g.phases + APUS_PLANE_SLACK);
  FUNCTION(apus_plane_join_fn, c)(&g, result(g.width * g.rows[0] * g.rows[1], f32, 0));
}
static void plane_columns(const call *c) {
  apus_plane_columns_args g = {.channels = between(1, 5)};
  size_t plane = 1, outputs = 1, taps = 1;
  for (int i = 0; i < 3; i++) {
    const bool is_used = i > 0;
    g.extents[i] = is_used ? between(1, 14) : 1;
    g.kernel[i] = is_used ? between(1, 3) : 1;
    g.strides[i] = is_used ? between(1, 3) : 1;
    g.dilations[i] = is_used ? between(1, 2) : 1;
    g.pads[i] = is_used ? (ptrdiff_t)below(3) : 0;
    g.outputs[i] = outputs_of(g.extents[i], g.kernel[i], g.strides[i], g.dilations[i], 2 * (size_t)g.pads[i]);
    plane *= g.extents[i], outputs *= g.outputs[i], taps *= g.kernel[i];
  }
  g.x_plane = (ptrdiff_t)plane, g.x = floats(c, plane * g.channels);
  const size_t nr = 4 * between(1, 16), first = below(outputs), count = outputs - first;
  const size_t total = (count + nr - 1) / nr * taps * g.channels * nr;
  FUNCTION(apus_plane_columns_fn, c)(&g, first, count, nr, result(total, f32, APUS_PLANE_SLACK * sizeof(float)));
}
static void plane_depthwise(const call *c) {
  apus_plane_depthwise_args g = {.kernel_h = 3 + 2 * below(3), .kernel_w = between(1, 16)};
  const size_t planes = between(1, 4);
  g.in_h = between(1, 12), g.in_w = between(1, 40);
  g.pad_top = (ptrdiff_t)below(4), g.pad_left = (ptrdiff_t)below(4);
  g.out_h = between(1, 10), g.out_w = between(1, 40);
  g.x = floats(c, planes * g.in_h * g.in_w), g.weights = floats(c, planes * g.kernel_h * g.kernel_w);
  g.bias = perhaps_floats(c, planes);
  g.y = result(planes * g.out_h * g.out_w, f32, 0);
  float *scratch = memory(apus_plane_depthwise_scratch(g.out_w, g.kernel_h, g.kernel_w, g.out_h) * sizeof *scratch);
  FUNCTION(apus_plane_depthwise_fn, c)(&g, planes, 0, g.out_h, scratch);
}
static void plane_pool(const call *c) {
  apus_plane_pool_args g = {0};
  const size_t planes = between(1, 5);
  size_t in = planes, out = planes;
  for (int i = 0; i < 3; i++) {
    g.kernel[i] = between(1, 3);
    g.strides[i] = between(1, 2);
    g.outputs[i] = between(1, i == 2 ? 30 : 4);
    g.extents[i] = (g.outputs[i] - 1) * g.strides[i] + g.kernel[i] + below(2);
    in *= g.extents[i], out *= g.outputs[i];
  }
  g.x = floats(c, in), g.y = result(out, f32, 0);
  FUNCTION(apus_plane_pool_fn, c)(&g, chance(2), planes);
}
static void resample(const call *c) {
  const size_t rows = between(1, 9), n = between(1, 70), taps = between(1, 5), width = between(1, 90);
  apus_resample_args g = {.rows = rows, .taps = taps, .n = n};
  g.x_ld = (ptrdiff_t)(width + below(3)), g.x = floats(c, (rows - 1) * (size_t)g.x_ld + width);
  int32_t *positions = memory(taps * n * sizeof *positions);
  // Near one another, as where an image is made larger, or anywhere.
  const bool is_near = chance(2);
  for (size_t i = 0; i < taps * n; i++) {
    const size_t near = i % n * width / n + i / n;
    positions[i] = chance(9) ? -1 : (int32_t)(is_near ? (near < width ? near : width - 1) : below(width));
  }
  g.positions = positions, g.weights = floats(c, taps * n);
  g.y_ld = (ptrdiff_t)(n + below(3)), g.y = result((rows - 1) * (size_t)g.y_ld + n, f32, 0);
  FUNCTION(apus_resample_fn, c)(&g);
}

const driver window_drivers[] = {{"apus_depthwise_f32_fn", depthwise, 150},
                                 {"apus_max_pool_f32_fn", max_pool, 100},
                                 {"apus_average_pool_f32_fn", average_pool, 100},
                                 {"apus_depthwise_i8_fn", depthwise_i8, 150},
                                 {"apus_plane_split_fn", plane_split, 100},
                                 {"apus_plane_sums_fn", plane_sums, 100},
                                 {"apus_plane_max_fn", plane_max, 100},
                                 {"apus_plane_join_fn", plane_join, 100},
                                 {"apus_plane_columns_fn", plane_columns, 100},
                                 {"apus_plane_depthwise_fn", plane_depthwise, 100},
                                 {"apus_plane_pool_fn", plane_pool, 100},
                                 {"apus_resample_fn", resample, 100},
                                 {0}};
