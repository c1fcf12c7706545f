// Drivers of matrix products and their packing.
#include "check.h"

static bool is_named(const call *c, const char *name) { return strcmp(c->info.name, name) == 0; }

static apus_epilogue_f32 epilogue(const call *c, size_t rows, size_t n) {
  apus_epilogue_f32 e = {0};
  e.bias = perhaps_floats(c, n);
  e.add_ld = (ptrdiff_t)(n + below(3));
  if (chance(3)) e.add = floats(c, rows ? (rows - 1) * (size_t)e.add_ld + n : 0);
  e.activation = (apus_activation)(chance(2) ? 0 : below(APUS_ACTIVATION_GELU_TANH + 1));
  e.alpha = -0.75f, e.beta = 1.5f;
  return e;
}

// Rows of A, dense or through offsets, of elements of one size: `rows` of `taps` runs of kc.
typedef struct {
  size_t rows, taps, kc;
  ptrdiff_t lda;
  int32_t *offsets;
  void *elements;
} left;
static left left_operand(const call *c, size_t rows, size_t taps, size_t kc, bool has_padding, element e) {
  left a = {rows, taps, kc, (ptrdiff_t)(kc + below(4)), NULL, NULL};
  if (taps == 1 && !chance(3)) {
    a.elements = filled(c, rows ? (rows - 1) * (size_t)a.lda + kc : 0, e);
    return a;
  }
  const size_t room = kc + 50;
  a.elements = filled(c, room, e);
  a.offsets = memory(rows * taps * sizeof *a.offsets);
  for (size_t i = 0; i < rows * taps; i++)
    a.offsets[i] = has_padding && chance(5) ? APUS_OFFSET_ZERO : (int32_t)below(room - kc + 1);
  return a;
}

// B, by rows or by columns, as `count` elements that begin anywhere.
static apus_gemm_source right_operand(const call *c, size_t taps, size_t kc, size_t n, element e) {
  apus_gemm_source s = {0};
  s.taps = taps, s.kc = kc, s.n = n;
  const size_t kind = below(3);
  if (kind == 0) s.stride_n = 1, s.stride_k = (ptrdiff_t)n, s.stride_tap = (ptrdiff_t)(kc * n);
  if (kind == 1) s.stride_n = (ptrdiff_t)(taps * kc), s.stride_k = 1, s.stride_tap = (ptrdiff_t)kc;
  if (kind == 2) s.stride_n = (ptrdiff_t)(taps * kc), s.stride_k = (ptrdiff_t)taps, s.stride_tap = 1;
  s.b = filled(c, taps * kc * n, e);
  return s;
}

static void gemm_f32_pack(const call *c) {
  const size_t taps = chance(2) ? 1 : between(2, 9), kc = between(1, 40), n = between(1, 70);
  const size_t nr = c->machine->gemm_f32_nr;
  const apus_gemm_source s = right_operand(c, taps, kc, n, f32);
  float *packed = result(apus_gemm_f32_packed_count(taps, kc, n, nr), f32, 0);
  FUNCTION(apus_gemm_f32_pack_fn, c)(&s, packed, 0, apus_gemm_panels(n, nr));
}
static void gemm_b16_pack(const call *c) {
  const size_t taps = chance(2) ? 1 : between(2, 9), kc = between(1, 40), n = between(1, 70);
  const size_t nr = c->machine->gemm_f32_nr;
  const apus_gemm_source s = right_operand(c, taps, kc, n, words);
  uint16_t *packed = result(apus_gemm_f32_packed_count(taps, kc, n, nr), words, 0);
  FUNCTION(apus_gemm_b16_pack_fn, c)(&s, packed, 0, apus_gemm_panels(n, nr));
}

static void gemm_f32(const call *c) {
  // The first call is of more weights than a cache has.
  const bool is_large = c->trial == 0;
  const size_t taps = is_large || !chance(4) ? 1 : between(2, 5);
  const size_t m = is_large ? 31 : below(20), n = is_large ? 200 : between(1, 150), kc = is_large ? 1400 : below(90);
  const size_t nr = c->machine->gemm_f32_nr, panels = apus_gemm_panels(n, nr);
  const bool is_half = is_named(c, "gemm_f32_f16"), is_short = is_half || is_named(c, "gemm_f32_bf16");
  const left a = left_operand(c, m, taps, kc, true, f32);
  const element e = is_short ? element_of(&c->info, 1) : f32;
  const apus_gemm_source s = right_operand(c, taps, kc, n, e);
  void *packed = memory(apus_gemm_f32_packed_count(taps, kc, n, nr) * e.size);
  if (is_short) c->machine->gemm_b16_pack(&s, packed, 0, panels);
  else c->machine->gemm_f32_pack(&s, packed, 0, panels);
  float *zeros = memory(kc * sizeof *zeros);
  memset(zeros, 0, kc * sizeof *zeros);
  const ptrdiff_t ldc = (ptrdiff_t)(n + (chance(9) ? 1024 : below(3)));
  apus_gemm_f32_args g = {a.elements, a.lda, a.offsets, zeros, taps, kc, n, packed, NULL, ldc, epilogue(c, m, n), NULL};
  if (chance(3)) g.row_bias = floats(c, m);
  g.c = result(m ? (m - 1) * (size_t)ldc + n : 0, f32, 0);
  const size_t m0 = chance(3) ? below(m) : 0, p0 = chance(3) ? below(panels) : 0;
  FUNCTION(apus_gemm_f32_fn, c)(&g, m0, m, p0, panels);
}

static void gemm_direct(const call *c) {
  const bool is_turned = is_named(c, "gemm_f32_turned");
  const size_t m = below(9), n = chance(9) ? 1100 : between(1, 70), kc = below(50);
  const size_t ldb = (is_turned ? kc : n) + below(5), lines = is_turned ? n : kc, line = is_turned ? kc : n;
  const left a = {m, 1, kc, (ptrdiff_t)(kc + below(4)), NULL, floats(c, m * (kc + 4))};
  const float *b = floats(c, lines ? (lines - 1) * ldb + line : 0);
  const ptrdiff_t ldc = (ptrdiff_t)(n + below(3));
  apus_gemm_f32_args g = {a.elements, a.lda, NULL, NULL, 1, kc, n, b, NULL, ldc, epilogue(c, m, n), NULL};
  g.c = result(m ? (m - 1) * (size_t)ldc + n : 0, f32, 0);
  FUNCTION(apus_gemm_direct_fn, c)(&g, (ptrdiff_t)ldb, 0, m, n > 40 ? 16 : 0, n);
}

static void gemm_f64(const call *c) {
  const size_t m = below(20), n = below(40), k = chance(9) ? 700 : below(40);
  const element e = element_of(&c->info, 0);
  const bool a_turned = chance(2), b_turned = chance(2);
  apus_gemm_f64_args g = {0};
  g.a = filled(c, m * k, e), g.a_row = (ptrdiff_t)(a_turned ? 1 : k), g.a_depth = (ptrdiff_t)(a_turned ? m : 1);
  g.b = filled(c, k * n, e), g.b_depth = (ptrdiff_t)(b_turned ? 1 : n), g.b_column = (ptrdiff_t)(b_turned ? k : 1);
  g.k = k, g.ldc = (ptrdiff_t)(n + below(3));
  g.c = result(m ? (m - 1) * (size_t)g.ldc + n : 0, e, 0);
  FUNCTION(apus_gemm_f64_fn, c)(&g, 0, m, 0, n);
}

// MARK: - Bytes

static void gemm_i8_pack(const call *c) {
  const size_t taps = chance(2) ? 1 : between(2, 9), kc = between(1, 70), n = between(1, 70);
  const size_t nr = c->machine->gemm_i8_nr;
  const apus_gemm_source s = right_operand(c, taps, kc, n, u8);
  const bool b_signed = chance(2);
  void *packed = result(apus_gemm_i8_packed_bytes(taps, kc, n, nr) / 4, i32, 0);
  FUNCTION(apus_gemm_i8_pack_fn, c)(&s, b_signed, packed, 0, apus_gemm_panels(n, nr));
}

// Scales, zero points and bounds of the output of an integer product.
static void choose_output(const call *c, apus_gemm_i8_args *g, size_t m) {
  g->output = (apus_gemm_i8_output)below(4);
  g->wide = chance(3) && g->output >= APUS_GEMM_I8_TO_U8;
  if (chance(2)) g->bias = filled(c, g->n, i32);
  g->scale = c->special && chance(5) ? number(true) : 0x1p-9f;
  if (chance(2)) g->scales = floats(c, g->n);
  const bool is_signed = g->output == APUS_GEMM_I8_TO_S8;
  g->low = is_signed ? -128 : 0, g->high = is_signed ? 127 : 255;
  g->zero = (int32_t)between(0, 255) + g->low;
  if (g->output == APUS_GEMM_I8_TO_F32) g->epilogue = epilogue(c, m, g->n);
}

static void gemm_i8(const call *c) {
  const size_t taps = chance(3) ? between(2, 5) : 1, m = below(27), n = between(1, 70);
  const size_t kc = c->trial == 0 ? 3000 : between(1, 90), nr = c->machine->gemm_i8_nr;
  const bool has_zeros = chance(3);
  const left a = left_operand(c, m, taps, kc, !has_zeros, u8);
  const apus_gemm_source s = right_operand(c, taps, kc, n, u8);
  apus_gemm_i8_args g = {0};
  g.a = a.elements, g.lda = a.lda, g.offsets = a.offsets, g.taps = taps, g.kc = kc, g.n = n;
  g.a_signed = chance(2), g.b_signed = chance(2);
  // The largest products there are.
  if (m && chance(6)) {
    memset(a.elements, g.a_signed ? 0x80 : 0xff, kc);
    memset((void *)(uintptr_t)s.b, 0x80, kc);
  }
  g.a_zero = (int32_t)below(256) - (g.a_signed ? 128 : 0);
  g.b_zero = chance(2) ? 0 : (int32_t)below(256) - (g.b_signed ? 128 : 0);
  if (has_zeros) g.a_zeros = filled(c, m, i32);
  if (chance(3)) g.b_zeros = filled(c, n, i32);
  uint8_t *pad = memory(kc), *packed = memory(apus_gemm_i8_packed_bytes(taps, kc, n, nr));
  memset(pad, (uint8_t)g.a_zero, kc);
  c->machine->gemm_i8_pack(&s, g.b_signed, packed, 0, apus_gemm_panels(n, nr));
  g.pad = pad, g.b = packed;
  choose_output(c, &g, m);
  g.ldc = (ptrdiff_t)(n + below(3));
  const element e = g.output == APUS_GEMM_I8_TO_I32 ? i32 : g.output == APUS_GEMM_I8_TO_F32 ? f32 : u8;
  g.c = result(m ? (m - 1) * (size_t)g.ldc + n : 0, e, 0);
  FUNCTION(apus_gemm_i8_fn, c)(&g, chance(3) ? below(m) : 0, m, 0, apus_gemm_panels(n, nr));
}

// MARK: - Few bits

static apus_nbits_weights few_bits(const call *c, bool may_be_table) {
  apus_nbits_weights w = {0};
  w.bits = 2u << below(3);
  w.k = between(1, 150), w.n = between(1, 70), w.block = 16 << below(4);
  const size_t blocks = (w.k + w.block - 1) / w.block, nr = c->machine->gemm_f32_nr;
  const size_t count = apus_gemm_panels(w.n, nr) * blocks * nr;
  w.codes = filled(c, count * w.block * w.bits / 32, i32);
  w.scales = floats(c, count);
  const size_t kind = below(4);
  if (kind == 1) {
    uint8_t *zeros = filled(c, count, u8);
    for (size_t i = 0; i < count; i++) zeros[i] &= (uint8_t)((1 << w.bits) - 1);
    w.zeros = zeros;
  }
  if (kind == 2) w.float_zeros = floats(c, count);
  if (kind == 3 && may_be_table && w.bits == 4) w.table = floats(c, 16);
  return w;
}

static void gemm_nbits(const call *c) {
  const size_t m = below(10);
  apus_gemm_nbits_args g = {.weights = few_bits(c, true)};
  g.lda = (ptrdiff_t)(g.weights.k + below(3));
  g.a = floats(c, m ? (m - 1) * (size_t)g.lda + g.weights.k : 0);
  g.bias = perhaps_floats(c, g.weights.n);
  g.ldc = (ptrdiff_t)(g.weights.n + below(3));
  g.c = result(m ? (m - 1) * (size_t)g.ldc + g.weights.n : 0, f32, 0);
  FUNCTION(apus_gemm_nbits_fn, c)(&g, 0, m, 0, apus_gemm_panels(g.weights.n, c->machine->gemm_f32_nr));
}

static void nbits_panels(const call *c) {
  const apus_nbits_weights w = few_bits(c, true);
  const size_t nr = c->machine->gemm_f32_nr, panels = apus_gemm_panels(w.n, nr);
  FUNCTION(apus_nbits_panels_fn, c)(&w, result(panels * nr * w.k, f32, 0), 0, panels);
}

static void nbits_row(const call *c) {
  const unsigned bits = 2u << below(3);
  const size_t k = between(1, 200), block = 16 << below(4), blocks = (k + block - 1) / block;
  const float *a = chance(4) ? floats(c, k) : plain_floats(k);
  int8_t *row = memory(blocks * block);
  float *scales = memory(blocks * sizeof *scales);
  int32_t *sums = memory(blocks * sizeof *sums);
  const bool is_done = FUNCTION(apus_nbits_row_fn, c)(k, block, bits, a, row, scales, sums);
  returned(is_done);
  if (!is_done) return;
  result_over(row, blocks * block, u8, 0);
  result_over(scales, blocks, f32, 0);
  result_over(sums, blocks, i32, 0);
}

static void gemm_nbits_i8(const call *c) {
  const size_t m = below(10);
  apus_gemm_nbits_i8_args g = {.weights = few_bits(c, false)};
  const apus_nbits_weights *w = &g.weights;
  const size_t blocks = (w->k + w->block - 1) / w->block;
  int8_t *rows = memory(m * blocks * w->block);
  float *row_scales = memory(m * blocks * sizeof *row_scales);
  int32_t *row_sums = memory(m * blocks * sizeof *row_sums);
  const float *a = plain_floats(w->k);
  for (size_t i = 0; i < m; i++)
    c->machine->nbits_row(w->k, w->block, w->bits, a, rows + i * blocks * w->block, row_scales + i * blocks,
                          row_sums + i * blocks);
  g.rows = rows, g.row_scales = row_scales, g.row_sums = row_sums;
  g.bias = perhaps_floats(c, w->n);
  g.ldc = (ptrdiff_t)(w->n + below(3));
  g.c = result(m ? (m - 1) * (size_t)g.ldc + w->n : 0, f32, 0);
  FUNCTION(apus_gemm_nbits_i8_fn, c)(&g, 0, m, 0, apus_gemm_panels(w->n, c->machine->gemm_f32_nr));
}

// MARK: - Bfloat16

static void gemm_bf16_pack(const call *c) {
  const size_t k = between(1, 60), nr = c->machine->gemm_bf16_nr;
  const float *panel = floats(c, k * nr);
  FUNCTION(apus_gemm_bf16_pack_fn, c)(k, panel, result((k + 1) / 2 * nr * 2, element_named("bf16", 4), 0));
}

static float widened(const apus_kernel_table *machine, float x) {
  uint16_t bits;
  float y;
  machine->f32_to_bf16(1, &x, &bits);
  machine->bf16_to_f32(1, &bits, &y);
  return y;
}

// Numbers of moderate size, so that no sum is near the ends of the range. The orders of sums differ: each of the k sums
// is off by a unit in the last place of the magnitudes so far, on both machines.
static void gemm_bf16(const call *c) {
  const size_t m = between(1, 20), n = between(1, 70), k = chance(6) ? 600 : between(1, 90);
  const size_t nr = c->machine->gemm_bf16_nr, panels = apus_gemm_panels(n, nr);
  const size_t stride = apus_gemm_bf16_panel_count(1, k, nr);
  const float *a = plain_floats(m * k), *b = plain_floats(k * n);
  uint16_t *packed = memory(panels * stride * sizeof *packed);
  float *panel = memory(k * nr * sizeof *panel), *bounds = memory(m * n * sizeof *bounds);
  memset(packed, 0, panels * stride * sizeof *packed);
  for (size_t p = 0; p < panels; p++) {
    for (size_t i = 0; i < k * nr; i++) {
      const size_t column = p * nr + i % nr;
      panel[i] = column < n ? b[i / nr * n + column] : 0;
    }
    c->machine->gemm_bf16_pack(k, panel, packed + p * stride);
  }
  for (size_t i = 0; i < m * n; i++) {
    float sum = 0;
    for (size_t j = 0; j < k; j++) {
      const float product = widened(c->machine, a[i / n * k + j]) * widened(c->machine, b[j * n + i % n]);
      sum += product < 0 ? -product : product;
    }
    bounds[i] = sum * (float)(k + 2) * 0x1p-23f;
  }
  apus_gemm_f32_args g = {0};
  g.a = a, g.lda = (ptrdiff_t)k, g.taps = 1, g.kc = k, g.n = n, g.ldc = (ptrdiff_t)n;
  g.b = (const float *)(const void *)packed;
  g.c = near_result(m * n, bounds);
  FUNCTION(apus_gemm_bf16_fn, c)(&g, 0, m, 0, panels);
}

// MARK: - Winograd

static size_t winograd_m(const call *c) { return c->info.name[8] - '0'; }

static void winograd_pack(const call *c) {
  const size_t channels = between(1, 20), outputs = between(1, 40), nr = c->machine->gemm_f32_nr;
  const float *weights = floats(c, outputs * channels * 9);
  float *packed = result(apus_winograd_packed(winograd_m(c), channels, outputs, nr), f32, 0);
  for (size_t p = 0; p < apus_gemm_panels(outputs, nr); p++)
    FUNCTION(apus_winograd_pack_f32_fn, c)(weights + p * nr * channels * 9, channels, outputs, packed, p);
}

static void winograd(const call *c) {
  const size_t m = winograd_m(c), channels = between(1, 20), outputs = between(1, 40), images = between(1, 2);
  const size_t nr = c->machine->gemm_f32_nr, panels = apus_gemm_panels(outputs, nr);
  apus_winograd_f32_args g = {0};
  g.in_h = between(1, 9), g.in_w = between(1, 9), g.pad_top = (ptrdiff_t)below(3), g.pad_left = (ptrdiff_t)below(3);
  g.out_h = g.in_h + (g.in_h < 3 ? 0 : below(2)), g.out_w = g.in_w;
  g.channels = channels, g.outputs = outputs;
  g.in_pixel = (ptrdiff_t)(channels + below(3)), g.in_row = g.in_pixel * (ptrdiff_t)g.in_w;
  g.in_image = g.in_row * (ptrdiff_t)g.in_h;
  g.out_pixel = (ptrdiff_t)outputs, g.out_row = g.out_pixel * (ptrdiff_t)g.out_w;
  g.out_image = g.out_row * (ptrdiff_t)g.out_h;
  g.input = floats(c, images * (size_t)g.in_image);
  const float *weights = floats(c, outputs * channels * 9);
  float *packed = memory(apus_winograd_packed(m, channels, outputs, nr) * sizeof *packed);
  for (size_t p = 0; p < panels; p++) {
    const float *of_panel = weights + p * nr * channels * 9;
    if (m == 2) c->machine->winograd2_pack_f32(of_panel, channels, outputs, packed, p);
    else c->machine->winograd4_pack_f32(of_panel, channels, outputs, packed, p);
  }
  g.weights = packed;
  g.epilogue = epilogue(c, images * g.out_h * g.out_w, outputs);
  g.output = result(images * (size_t)g.out_image, f32, 0);
  const size_t tiles = apus_winograd_tiles(m, images, g.out_h, g.out_w);
  float *scratch = memory(apus_winograd_scratch(m, tiles, channels, panels, nr) * sizeof *scratch);
  FUNCTION(apus_winograd_f32_fn, c)(&g, 0, tiles, 0, panels, scratch);
}

const driver matrix_drivers[] = {{"apus_gemm_f32_fn", gemm_f32, 160},
                                 {"apus_gemm_f32_pack_fn", gemm_f32_pack, 60},
                                 {"apus_gemm_direct_fn", gemm_direct, 100},
                                 {"apus_gemm_b16_pack_fn", gemm_b16_pack, 60},
                                 {"apus_gemm_f64_fn", gemm_f64, 100},
                                 {"apus_gemm_i8_fn", gemm_i8, 400},
                                 {"apus_gemm_i8_pack_fn", gemm_i8_pack, 60},
                                 {"apus_gemm_nbits_fn", gemm_nbits, 150},
                                 {"apus_nbits_panels_fn", nbits_panels, 60},
                                 {"apus_nbits_row_fn", nbits_row, 100},
                                 {"apus_gemm_nbits_i8_fn", gemm_nbits_i8, 150},
                                 {"apus_gemm_bf16_fn", gemm_bf16, 60},
                                 {"apus_gemm_bf16_pack_fn", gemm_bf16_pack, 60},
                                 {"apus_winograd_f32_fn", winograd, 60},
                                 {"apus_winograd_pack_f32_fn", winograd_pack, 30},
                                 {0}};
