// The float64 unary kernels: functions of one number without branches in plain loops, which the compiler makes vectors
// of.

#if APUS_HAS_FMA
INLINE double d_fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
INLINE double d_fma(double a, double b, double c) { return a * b + c; }
#endif
INLINE uint64_t d_bits(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
INLINE double d_from_bits(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// Added to an integer below 2^51 in magnitude, it leaves that in the low bits of the sum; to any other number, the
// nearest integer, half to even.
#define WHOLE 0x1.8p52
INLINE double d_whole(double x) { return (x + WHOLE) - WHOLE; }

// x = n ln 2 + r with |r| <= ln 2 / 2, and exp(r) - 1 of it.
typedef struct {
  double n, small;
} d_exp_parts;
INLINE d_exp_parts d_exp_reduce(double x) {
  const double n = d_whole(x * 0x1.71547652b82fep+0);
  // The first part of ln 2 ends in so many zeros that n times it is exact.
  double r = d_fma(-n, 0x1.62e42fefa0000p-1, x);
  r = d_fma(-n, 0x1.cf79abc9e3b3ap-40, r);
  double p = d_fma(1.0 / 6227020800, r, 1.0 / 479001600);
  p = d_fma(p, r, 1.0 / 39916800);
  p = d_fma(p, r, 1.0 / 3628800);
  p = d_fma(p, r, 1.0 / 362880);
  p = d_fma(p, r, 1.0 / 40320);
  p = d_fma(p, r, 1.0 / 5040);
  p = d_fma(p, r, 1.0 / 720);
  p = d_fma(p, r, 1.0 / 120);
  p = d_fma(p, r, 1.0 / 24);
  p = d_fma(p, r, 1.0 / 6);
  p = d_fma(p, r, 0.5);
  return (d_exp_parts){n, d_fma(p * r, r, r)};
}
// 2^n for integral n in [-1022, 1023].
INLINE double d_power(double n) { return d_from_bits((d_bits(n + WHOLE) + 1023) << 52); }
INLINE double d_bounded(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

INLINE double d_exp(double x) {
  const d_exp_parts e = d_exp_reduce(d_bounded(x, -746, 710));
  const double half = d_whole(e.n * 0.5);
  return (e.small + 1) * d_power(half) * d_power(e.n - half);
}

// x = m 2^e with m in [sqrt 1/2, sqrt 2), f = m - 1, s = f / (2 + f): log m = 2 atanh(s) = f - (f^2 / 2 - s (f^2 / 2 +
// s^2 p(s^2))).
INLINE double d_log(double x) {
  const uint64_t tiny = x < 0x1p-1022;
  const double y = tiny ? x * 0x1p54 : x;
  // 2^52 and the biased exponent in its low bits, counted from sqrt 1/2 on.
  const uint64_t above = d_bits(y) - 0x3fe6a09e667f3bcd;
  const uint64_t raised = (above + (1024ull << 52)) >> 52;
  const double e = d_from_bits(raised | 0x4330000000000000) - (0x1p52 + 1024) - (tiny ? 54 : 0);
  const double m = d_from_bits(d_bits(y) - ((raised - 1024) << 52)), f = m - 1;
  const double s = f / (m + 1), z = s * s;
  double p = d_fma(0x1.2b5b5fb2eec9bp-3, z, 0x1.39fe208c32e37p-3);
  p = d_fma(p, z, 0x1.7462b697053bcp-3);
  p = d_fma(p, z, 0x1.c71c62debf86ap-3);
  p = d_fma(p, z, 0x1.2492492df6947p-2);
  p = d_fma(p, z, 0x1.99999999952b2p-2);
  p = d_fma(p, z, 0x1.5555555555558p-1) * z;
  const double half = 0.5 * f * f;
  const double low = d_fma(e, 0x1.cf79abc9e3b3ap-40, s * (half + p)) - half;
  double r = d_fma(e, 0x1.62e42fefa0000p-1, f + low);
  r = x == __builtin_inf() ? x : r;
  r = x == 0 ? -__builtin_inf() : r;
  r = x < 0 ? __builtin_nan("") : r;
  return x != x ? x : r;
}

// tanh|x| = d / (d + 2) with d = exp(2|x|) - 1, which is 1 to the last place from 19.1 on.
INLINE double d_tanh(double x) {
  const double t = __builtin_fabs(x), bounded = t > 20 ? 20 : t;
  const d_exp_parts e = d_exp_reduce(bounded + bounded);
  const double power = d_power(e.n), d = d_fma(power, e.small, power - 1);
  return __builtin_copysign(d / (d + 2), x);
}
INLINE double d_sigmoid(double x) {
  const double e = d_exp(-__builtin_fabs(x));
  return (x < 0 ? e : 1) / (1 + e);
}

// Numbers from 2^52 on are whole, and NaN stays.
INLINE double d_round(double x) {
  const double t = __builtin_fabs(x), r = (t + 0x1p52) - 0x1p52;
  return t < 0x1p52 ? __builtin_copysign(r, x) : x;
}
INLINE double d_floor(double x) {
  const double r = d_round(x);
  return r > x ? r - 1 : r;
}
INLINE double d_ceil(double x) {
  const double r = d_round(x);
  return r < x ? __builtin_copysign(r + 1, x) : r;
}

#define UNARY(op, expression) \
  void APUS_(apus_##op##_f64)(size_t n, const double *xs, double *ys) { \
    _Pragma("clang loop vectorize(assume_safety) interleave(enable)") \
    for (size_t i = 0; i < n; i++) { \
      const double x = xs[i]; \
      ys[i] = expression; \
    } \
  }
UNARY(exp, d_exp(x))
UNARY(log, d_log(x))
UNARY(tanh, d_tanh(x))
UNARY(sigmoid, d_sigmoid(x))
UNARY(sqrt, __builtin_elementwise_sqrt(x))
UNARY(floor, d_floor(x))
UNARY(ceil, d_ceil(x))
UNARY(round, d_round(x))
#undef UNARY
