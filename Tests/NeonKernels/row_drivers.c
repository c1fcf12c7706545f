// Drivers of kernels on rows and columns: reductions, folds, scans, searches, softmax and normalizations.
#include "check.h"

static void reduce(const call *c) {
  const size_t n = length();
  returned((double)FUNCTION(apus_reduce_f32_fn, c)(n, floats(c, n)));
}

static bool goes_by_columns(const call *c) { return strstr(c->info.name, "_columns") != NULL; }

static void fold(const call *c) {
  const bool is_long = chance(30), by_columns = goes_by_columns(c);
  const size_t rows = is_long && by_columns ? 5000 : below(24);
  const size_t n = is_long ? (by_columns ? between(1, 20) : 5000) : length(), ld = n + below(4);
  const element e = element_of(&c->info, 0);
  const apus_fold kind = (apus_fold)(e.size == 1 ? between(APUS_FOLD_MAX, APUS_FOLD_MIN) : below(6));
  const void *x = filled(c, rows ? (rows - 1) * ld + n : 0, e);
  FUNCTION(apus_fold_fn, c)(kind, rows, n, x, (ptrdiff_t)ld, result(by_columns ? n : rows, e, 0));
}

static void find(const call *c) {
  const size_t rows = below(24), n = length(), ld = n + below(4);
  const element e = element_of(&c->info, 0);
  uint8_t *x = filled(c, rows ? (rows - 1) * ld + n : 0, e);
  const size_t count = goes_by_columns(c) ? n : rows;
  uint8_t *values = filled(c, count, e);
  // Of some lines an element.
  for (size_t i = 0; rows && n && i < count; i += 2)
    memcpy(values + i * e.size, x + (goes_by_columns(c) ? below(rows) * ld + i : i * ld + below(n)) * e.size, e.size);
  const bool last = chance(2);
  FUNCTION(apus_find_fn, c)(rows, n, x, (ptrdiff_t)ld, values, last, result(count, element_named("i64", 3), 0));
}

static void scan(const call *c) {
  const size_t rows = below(20), n = length(), ld = n + below(4), count = rows ? (rows - 1) * ld + n : 0;
  const element e = element_of(&c->info, 0);
  const void *x = filled(c, count, e);
  const bool product = chance(2), exclusive = chance(2), reverse = chance(2);
  FUNCTION(apus_scan_fn, c)(product, rows, n, x, (ptrdiff_t)ld, result(count, e, 0), exclusive, reverse);
}

static void softmax(const call *c) {
  const size_t n = length();
  const float *x = floats(c, n), *mask = perhaps_floats(c, n), scale = chance(2) ? 1 : 0.125f;
  FUNCTION(apus_softmax_f32_fn, c)(n, x, result(n, f32, 0), scale, mask);
}
static void softmax_rows(const call *c) {
  const size_t rows = below(9), n = length();
  const float *x = floats(c, rows * n);
  FUNCTION(apus_softmax_rows_f32_fn, c)(rows, n, x, result(rows * n, f32, 0));
}
static void softmax_columns(const call *c) {
  const size_t rows = chance(8) ? 150 : below(20), n = between(1, 40), ld = n + below(4);
  const size_t count = rows ? (rows - 1) * ld + n : 0;
  const float *x = floats(c, count);
  FUNCTION(apus_softmax_columns_f32_fn, c)(rows, n, x, (ptrdiff_t)ld, result(count, f32, 0));
}

static void layer_norm(const call *c) {
  const size_t n = length();
  const float *x = floats(c, n), *scale = perhaps_floats(c, n), *bias = perhaps_floats(c, n);
  float *y = result(n, f32, 0), *statistics = chance(2) && n ? result(2, f32, 0) : NULL;
  FUNCTION(apus_layer_norm_f32_fn, c)(n, x, y, scale, bias, 1e-5f, statistics);
}
static void rms_norm(const call *c) {
  const size_t n = length();
  const float *x = floats(c, n), *scale = perhaps_floats(c, n);
  FUNCTION(apus_rms_norm_f32_fn, c)(n, x, result(n, f32, 0), scale, 1e-5f);
}
static void moments(const call *c) {
  const size_t n = length() + 1;
  FUNCTION(apus_moments_f32_fn, c)(n, floats(c, n), result(2, f32, 0));
}
static void affine(const call *c) {
  const size_t n = length();
  const bool each = chance(2);
  const size_t count = each ? n : 1;
  const float *x = floats(c, n), *center = floats(c, count), *factor = floats(c, count), *offset = floats(c, count);
  FUNCTION(apus_affine_f32_fn, c)(n, x, result(n, f32, 0), center, factor, offset, each);
}
static void columns(const call *c) {
  const size_t rows = below(20), n = length(), ld = n + below(4);
  const float *x = floats(c, rows ? (rows - 1) * ld + n : 0);
  FUNCTION(apus_columns_f32_fn, c)(rows, n, x, (ptrdiff_t)ld, result(n, f32, 0));
}
static void accumulate(const call *c) {
  const size_t n = length();
  const float *x = floats(c, n), *y = floats(c, n);
  FUNCTION(apus_accumulate_f32_fn, c)(n, x, result_over(y, n, f32, 0));
}
static void rotate(const call *c) {
  const size_t pairs = length();
  const float *x = floats(c, 2 * pairs), *cosines = floats(c, pairs), *sines = floats(c, pairs);
  const bool in_place = chance(2), interleaved = chance(2);
  float *y = in_place ? result_over(x, 2 * pairs, f32, 0) : result(2 * pairs, f32, 0);
  FUNCTION(apus_rotate_f32_fn, c)(pairs, in_place ? y : x, y, cosines, sines, interleaved);
}
static void sum_bytes(const call *c) {
  const size_t rows = below(20), n = length(), ld = n + below(4);
  const void *x = filled(c, rows ? (rows - 1) * ld + n : 0, u8);
  int32_t *y = result(goes_by_columns(c) ? n : rows, i32, 0);
  FUNCTION(apus_sum_bytes_fn, c)(rows, n, x, (ptrdiff_t)ld, chance(2), y);
}

const driver row_drivers[] = {{"apus_reduce_f32_fn", reduce, 90},
                              {"apus_fold_fn", fold, 120},
                              {"apus_find_fn", find, 90},
                              {"apus_scan_fn", scan, 90},
                              {"apus_softmax_f32_fn", softmax, 90},
                              {"apus_softmax_rows_f32_fn", softmax_rows, 60},
                              {"apus_softmax_columns_f32_fn", softmax_columns, 60},
                              {"apus_layer_norm_f32_fn", layer_norm, 60},
                              {"apus_rms_norm_f32_fn", rms_norm, 60},
                              {"apus_moments_f32_fn", moments, 60},
                              {"apus_affine_f32_fn", affine, 60},
                              {"apus_columns_f32_fn", columns, 60},
                              {"apus_accumulate_f32_fn", accumulate, 60},
                              {"apus_rotate_f32_fn", rotate, 120},
                              {"apus_sum_bytes_fn", sum_bytes, 90},
                              {0}};
