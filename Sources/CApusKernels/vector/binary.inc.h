// Binary element-wise kernels: plain loops over element types, which the compiler turns into vectors of the file's
// instruction set.

#define LOOP(name, type, ai, bi, expression) \
  void APUS_(apus_##name)(size_t n, const void *a_, const void *b_, void *y_) { \
    const type *as = a_, *bs = b_; \
    type *ys = y_; \
    _Pragma("clang loop vectorize(enable) interleave_count(2)") \
    for (size_t i = 0; i < n; i++) { \
      const type a = as[ai], b = bs[bi]; \
      ys[i] = (type)(expression); \
    } \
  }
// With one side a single element, it is read first: y may be where it lies.
#define LOOP_S(name, type, scalar, vector, expression) \
  void APUS_(apus_##name)(size_t n, const void *a_, const void *b_, void *y_) { \
    if (n == 0) return; \
    const type scalar = *(const type *)scalar##_, *xs = vector##_; \
    type *ys = y_; \
    _Pragma("clang loop vectorize(enable) interleave_count(2)") \
    for (size_t i = 0; i < n; i++) { \
      const type vector = xs[i]; \
      ys[i] = (type)(expression); \
    } \
  }
#define FORMS(op, suffix, type, expression) \
  LOOP(op##_##suffix##_vv, type, i, i, expression) \
  LOOP_S(op##_##suffix##_vs, type, b, a, expression) \
  LOOP_S(op##_##suffix##_sv, type, a, b, expression)

FORMS(add, f32, float, a + b)
FORMS(sub, f32, float, a - b)
FORMS(mul, f32, float, a * b)
FORMS(div, f32, float, a / b)
FORMS(min, f32, float, a != a ? a : (a < b ? a : b))
FORMS(max, f32, float, a != a ? a : (a > b ? a : b))
FORMS(add, f64, double, a + b)
FORMS(sub, f64, double, a - b)
FORMS(mul, f64, double, a * b)
FORMS(div, f64, double, a / b)
FORMS(min, f64, double, a != a ? a : (a < b ? a : b))
FORMS(max, f64, double, a != a ? a : (a > b ? a : b))
FORMS(add, i32, int32_t, (uint32_t)a + (uint32_t)b)
FORMS(sub, i32, int32_t, (uint32_t)a - (uint32_t)b)
FORMS(mul, i32, int32_t, (uint32_t)a * (uint32_t)b)
FORMS(min, i32, int32_t, a < b ? a : b)
FORMS(max, i32, int32_t, a > b ? a : b)
FORMS(add, i64, int64_t, (uint64_t)a + (uint64_t)b)
FORMS(sub, i64, int64_t, (uint64_t)a - (uint64_t)b)
FORMS(mul, i64, int64_t, (uint64_t)a * (uint64_t)b)
FORMS(min, i64, int64_t, a < b ? a : b)
FORMS(max, i64, int64_t, a > b ? a : b)
#undef FORMS
#undef LOOP
#undef LOOP_S

void APUS_(apus_accumulate_f32)(size_t n, const float *x, float *y) {
  for (size_t i = 0; i < n; i++) y[i] += x[i];
}
