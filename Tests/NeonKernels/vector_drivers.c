// Drivers of kernels on single elements: functions, operations on two operands, comparisons, conversions, bytes.
#include "check.h"

static void unary_f32(const call *c) {
  const size_t n = length();
  const float *x = floats(c, n), *params = plain_floats(2);
  const bool in_place = chance(4);
  float *y = in_place ? result_over(x, n, f32, 0) : result(n, f32, 0);
  FUNCTION(apus_unary_f32_fn, c)(n, in_place ? y : x, y, params);
}

static void unary_f64(const call *c) {
  const size_t n = length();
  const element e = element_of(&c->info, 0);
  const double *x = filled(c, n, e);
  FUNCTION(apus_unary_f64_fn, c)(n, x, result(n, e, 0));
}

// What ends with _vs or _sv has one element for an operand.
static bool has_one(const call *c, const char *form) {
  return strcmp(c->info.name + strlen(c->info.name) - 3, form) == 0;
}
static void binary(const call *c) {
  const size_t n = length();
  const element e = element_of(&c->info, 0);
  void *a = filled(c, has_one(c, "_sv") ? 1 : n, e), *b = filled(c, has_one(c, "_vs") ? 1 : n, e);
  const bool in_place = chance(4) && !has_one(c, "_sv");
  void *y = in_place ? result_over(a, n, e, 0) : result(n, e, 0);
  FUNCTION(apus_binary_fn, c)(n, in_place ? y : a, b, y);
}

static void compare(const call *c) {
  const size_t n = length();
  const element e = element_of(&c->info, 0);
  const apus_operands operands = (apus_operands)below(3);
  uint8_t *a = filled(c, operands == APUS_ONE_A ? 1 : n, e), *b = filled(c, operands == APUS_ONE_B ? 1 : n, e);
  // Some that are equal.
  if (operands == APUS_BOTH_MOVE)
    for (size_t i = 0; i < n * e.size; i += 3 * e.size) memcpy(b + i, a + i, e.size);
  FUNCTION(apus_compare_fn, c)(n, a, b, result(n, u8, 0), operands);
}

static void in_range(const call *c) {
  const size_t n = length();
  const void *x = filled(c, n, element_of(&c->info, 0));
  const uint64_t mask = draw(), low = draw(), span = draw();
  FUNCTION(apus_in_range_fn, c)(n, x, result(n, u8, 0), mask, low, span);
}

static void select(const call *c) {
  const size_t n = length();
  const element e = element_of(&c->info, 0);
  const uint8_t *condition = filled(c, n, u8);
  const void *a = filled(c, n, e), *b = filled(c, n, e);
  FUNCTION(apus_select_fn, c)(n, condition, a, b, result(n, e, 0));
}

static void expand(const call *c) {
  const size_t rows = below(9), n = length(), stride = between(n, n + 3);
  const element e = element_of(&c->info, 0);
  const int moves = chance(2);
  const void *x = filled(c, rows * stride + 1, e);
  FUNCTION(apus_expand_fn, c)(rows, n, x, (ptrdiff_t)stride, moves, result(rows * n, e, 64));
}

static void index_offsets(const call *c) {
  const size_t n = length();
  const element e = {"i64", 8, ANY_BITS};
  ptrdiff_t *indices = filled(c, n, e);
  const ptrdiff_t extent = (ptrdiff_t)between(1, 900), stride = (ptrdiff_t)below(99);
  // In range, but perhaps the last one.
  for (size_t i = 0; i < n; i++) indices[i] %= extent;
  if (n && chance(3)) indices[n - 1] = chance(2) ? extent : -extent - 1;
  ptrdiff_t *offsets = result(n, e, 0);
  returned(FUNCTION(apus_index_offsets_fn, c)(n, indices, extent, stride, 7, 3, offsets));
}

static void sort_keys(const call *c) {
  const size_t n = length();
  const void *x = filled(c, n, element_of(&c->info, 0));
  FUNCTION(apus_sort_keys_fn, c)(n, x, result(n, element_named("u64", 3), 0));
}

static void keys_below(const call *c) {
  const size_t n = length();
  const uint64_t *keys = filled(c, n, element_named("u64", 3));
  returned((double)FUNCTION(apus_keys_below_fn, c)(n, keys, draw(), result(n, i32, 0)));
}

static void convert(const call *c) {
  const size_t n = length();
  const void *x = filled(c, n, element_of(&c->info, 0));
  FUNCTION(apus_convert_fn, c)(n, x, result(n, element_of(&c->info, 1), 0));
}

static void dequantize(const call *c) {
  const size_t n = length();
  const void *x = filled(c, n, element_of(&c->info, 0));
  const float scale = number(c->special);
  FUNCTION(apus_dequantize_fn, c)(n, x, result(n, f32, 0), scale, (int32_t)between(0, 255) - 128);
}
static void dequantize_each(const call *c) {
  const size_t n = length();
  const element e = element_of(&c->info, 0);
  const void *x = filled(c, n, e), *zeros = chance(2) ? filled(c, n, e) : NULL;
  const float *scales = floats(c, n);
  FUNCTION(apus_dequantize_each_fn, c)(n, x, result(n, f32, 0), scales, zeros);
}

static void quantize(const call *c) {
  const size_t n = length();
  const float *x = floats(c, n), scale = chance(3) ? 0.0625f : number(c->special) / 16;
  FUNCTION(apus_quantize_fn, c)(n, x, result(n, element_of(&c->info, 1), 0), scale, (int32_t)below(120));
}
static void quantize_each(const call *c) {
  const size_t n = length();
  const element e = element_of(&c->info, 1);
  const float *x = floats(c, n), *scales = floats(c, n);
  const void *zeros = chance(2) ? filled(c, n, e) : NULL;
  FUNCTION(apus_quantize_each_fn, c)(n, x, result(n, e, 0), scales, zeros);
}

static void binary_bytes(const call *c) {
  const size_t n = length();
  const uint8_t *a = filled(c, n, u8), *b = filled(c, has_one(c, "_vs") ? 1 : n, u8);
  apus_byte_code codes[3];
  const bool alike = chance(2), is_signed = chance(2);
  for (int i = 0; i < 3; i++) {
    codes[i].is_signed = alike ? is_signed : chance(2);
    codes[i].zero = (int32_t)below(256) - (codes[i].is_signed ? 128 : 0);
    codes[i].scale = c->special && chance(5) ? number(true) : (float)between(1, 1000) * 0x1p-9f;
  }
  FUNCTION(apus_binary_bytes_fn, c)(n, a, b, result(n, u8, 0), codes);
}

static void map_bytes(const call *c) {
  const size_t n = length();
  const uint8_t *x = filled(c, n, u8), *table = filled(c, 256, u8);
  FUNCTION(apus_map_bytes_fn, c)(n, x, result(n, u8, 0), table);
}

static void transpose(const call *c) {
  const size_t rows = below(41), columns = below(41), src_ld = columns + below(3), dst_ld = rows + below(3);
  const element e = element_of(&c->info, 0);
  const void *src = filled(c, rows ? (rows - 1) * src_ld + columns : 0, e);
  void *dst = result(columns ? (columns - 1) * dst_ld + rows : 0, e, 0);
  FUNCTION(apus_transpose_fn, c)(rows, columns, src, (ptrdiff_t)src_ld, dst, (ptrdiff_t)dst_ld);
}

static size_t packed_bytes(size_t n, int bits) { return (n * (size_t)bits + 7) / 8; }

static void unpack_codes(const call *c) {
  const size_t n = length();
  const int bits = 2 * (int)between(1, 3);
  const uint8_t *x = filled(c, packed_bytes(n, bits), u8);
  FUNCTION(apus_unpack_codes_fn, c)(n, x, bits, chance(2), result(n, u8, 0));
}

static void pack_codes(const call *c) {
  const size_t n = length();
  const int bits = 2 * (int)between(1, 3);
  const uint8_t *codes = filled(c, n, u8);
  const apus_code_form form = (apus_code_form)below(3);
  FUNCTION(apus_pack_codes_fn, c)(n, codes, bits, form, result(packed_bytes(n, bits), u8, 0));
}

static void codes_to_f32(const call *c) {
  const size_t n = length();
  const uint8_t *codes = filled(c, n, u8);
  const float *table = floats(c, 256);
  FUNCTION(apus_codes_to_f32_fn, c)(n, codes, table, result(n, f32, 0));
}

// To float8e4m3fn, whose largest numbers saturate or become NaN.
static void f32_to_codes(const call *c) {
  const size_t n = length();
  const float *x = floats(c, n);
  const apus_small_float format = {20, 120 << 3, 121u << 23, 0x1p9f, 0x7e, 0x80, 0x80, chance(2) ? 0x7e : 0x7f,
                                   0x80, 0x7f, 0x80};
  FUNCTION(apus_f32_to_codes_fn, c)(n, x, result(n, u8, 0), &format);
}

// Its result is a number of operations, which differs; that it ends is all.
static void peak(const call *c) { FUNCTION(apus_peak_fn, c)(100); }

const driver vector_drivers[] = {{"apus_unary_f32_fn", unary_f32, 60},
                                 {"apus_unary_f64_fn", unary_f64, 60},
                                 {"apus_binary_fn", binary, 60},
                                 {"apus_compare_fn", compare, 90},
                                 {"apus_in_range_fn", in_range, 60},
                                 {"apus_select_fn", select, 60},
                                 {"apus_expand_fn", expand, 60},
                                 {"apus_index_offsets_fn", index_offsets, 60},
                                 {"apus_sort_keys_fn", sort_keys, 40},
                                 {"apus_keys_below_fn", keys_below, 60},
                                 {"apus_convert_fn", convert, 80},
                                 {"apus_dequantize_fn", dequantize, 60},
                                 {"apus_dequantize_each_fn", dequantize_each, 60},
                                 {"apus_quantize_fn", quantize, 90},
                                 {"apus_quantize_each_fn", quantize_each, 90},
                                 {"apus_binary_bytes_fn", binary_bytes, 200},
                                 {"apus_map_bytes_fn", map_bytes, 60},
                                 {"apus_transpose_fn", transpose, 150},
                                 {"apus_unpack_codes_fn", unpack_codes, 90},
                                 {"apus_pack_codes_fn", pack_codes, 90},
                                 {"apus_codes_to_f32_fn", codes_to_f32, 60},
                                 {"apus_f32_to_codes_fn", f32_to_codes, 60},
                                 {"apus_peak_fn", peak, 1},
                                 {0}};
