// Elementary functions on one vector of float32, over the vector vocabulary. Lane-wise: a lane's result depends on that
// lane only. The polynomials are minimax fits made for this project (tools of the fit: Lawson's algorithm in long
// double, coefficients rounded one after another).

INLINE vf v_poly4(vf x, float c0, float c1, float c2, float c3, float c4) {
  vf p = v_fma(v_set1(c4), x, v_set1(c3));
  p = v_fma(p, x, v_set1(c2));
  p = v_fma(p, x, v_set1(c1));
  return v_fma(p, x, v_set1(c0));
}

// x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, the first with so few bits that n times it is exact.
typedef struct {
  vf n, r;
} exp_parts;
INLINE exp_parts v_exp_reduce(vf x) {
  vf n = v_round(x * v_set1(0x1.715476p+0f));
  vf r = v_fnma(n, v_set1(0x1.62e4p-1f), x);
  return (exp_parts){n, v_fnma(n, v_set1(0x1.7f7d1cp-20f), r)};
}
// exp(r) - 1 - r, divided by r^2.
INLINE vf v_exp_tail(vf r) {
  return v_poly4(r, 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558aap-5f, 0x1.123982p-7f, 0x1.6a53f0p-10f);
}

INLINE vf v_exp(vf x) {
  exp_parts e = v_exp_reduce(v_clamp(x, v_set1(-104.5f), v_set1(89.5f)));
  vf p = v_fma(v_exp_tail(e.r) * e.r, e.r, e.r) + v_set1(1);
  return v_ldexp(p, e.n);
}

// exp(x) for x <= 0 where results below 2^-126 may be flushed to about 2^-126.
INLINE vf v_exp_negative(vf x) {
  exp_parts e = v_exp_reduce(v_max(v_set1(-87.3f), x));
  vf p = v_fma(v_exp_tail(e.r) * e.r, e.r, e.r) + v_set1(1);
  return v_scale(p, e.n);
}

// 2^x for |x| <= 120.
INLINE vf v_exp2_bounded(vf x) {
  vf n = v_round(x), r = x - n;
  vf p = v_fma(v_set1(0x1.47eeb0p-13f), r, v_set1(0x1.5f100ep-10f));
  p = v_fma(p, r, v_set1(0x1.3b2496p-7f));
  p = v_fma(p, r, v_set1(0x1.c6af6ep-5f));
  p = v_fma(p, r, v_set1(0x1.ebfbe8p-3f));
  p = v_fma(p, r, v_set1(0x1.62e430p-1f));
  return v_scale(v_fma(p, r, v_set1(1)), n);
}

// exp(r) - 1 - r, divided by r^2, for sums in which exp(r) - 1 stands alone.
INLINE vf v_expm1_tail(vf r) {
  return v_poly4(r, 0x1.000000p-1f, 0x1.5554b0p-3f, 0x1.5554e0p-5f, 0x1.12279ep-7f, 0x1.6d568cp-10f);
}

// exp(x) - 1 for x in [-30, 89.5], exact to the last places near 0, and 0 for -0.
INLINE vf v_expm1_bounded(vf x) {
  exp_parts e = v_exp_reduce(x);
  vf r = e.r;
  vf small = v_fma(v_expm1_tail(r) * r, r, r);  // exp(r) - 1
  // 2^n small + (2^n - 1), by way of 2^(n-1) so that n = 128 and 129 do not overflow early.
  vf half = (vf)((v_to_int(e.n) + 126) << 23);
  vf y = v_fma(half, small, half - v_set1(0.5f));
  return y + y;
}

// exp(x) - 1. At and below -17.4 it is -1, from 89 on infinite.
INLINE vf v_expm1(vf x) {
  return v_select(v_eq(x, v_zero()), x, v_expm1_bounded(v_clamp(x, v_set1(-30), v_set1(89.5f))));
}

// log(m) for m in [sqrt 1/2, sqrt 2) plus e ln 2, with f = m - 1.
INLINE vf v_log_core(vf f, vf e) {
  vf p = v_fma(v_set1(0x1.13cf10p-4f), f, v_set1(-0x1.ddaa44p-4f));
  p = v_fma(p, f, v_set1(0x1.e6df46p-4f));
  p = v_fma(p, f, v_set1(-0x1.fc3c1ep-4f));
  p = v_fma(p, f, v_set1(0x1.233abap-3f));
  p = v_fma(p, f, v_set1(-0x1.555b94p-3f));
  p = v_fma(p, f, v_set1(0x1.99a47ap-3f));
  p = v_fma(p, f, v_set1(-0x1.000008p-2f));
  p = v_fma(p, f, v_set1(0x1.555548p-2f));
  vf square = f * f;
  vf low = v_fma(p * f, square, e * v_set1(0x1.7f7d1cp-20f));
  low = v_fnma(v_set1(0.5f), square, low);
  return v_fma(e, v_set1(0x1.62e4p-1f), f + low);
}

// x = m 2^e with m in [sqrt 1/2, sqrt 2), for positive normal x.
INLINE vi v_exponent_from_sqrt_half(vf x) { return ((vi)x - 0x3f3504f3) >> 23; }

INLINE vf v_log(vf x) {
  vm tiny = v_lt(x, v_set1(0x1p-126f));
  vf y = v_select(tiny, x * v_set1(0x1p24f), x);
  vi e = v_exponent_from_sqrt_half(y);
  vf f = (vf)((vi)y - (e << 23)) - v_set1(1);
  vf r = v_log_core(f, v_to_float(e) - v_select(tiny, v_set1(24), v_zero()));
  r = v_select(v_eq(x, v_set1(__builtin_inff())), x, r);
  r = v_select(v_eq(x, v_zero()), v_set1(-__builtin_inff()), r);
  r = v_select(v_lt(x, v_zero()), v_set1(__builtin_nanf("")), r);
  return v_select(v_is_nan(x), x, r);
}

// log(1 + x) for x in [0, 1]: the rounding error of 1 + x is put back in first order.
INLINE vf v_log1p_unit(vf x) {
  vf y = x + v_set1(1);
  vf lost = x - (y - v_set1(1));
  vi e = v_exponent_from_sqrt_half(y);
  vf m = (vf)((vi)y - (e << 23));
  vf scale = (vf)((v_set1_i(127) - e) << 23);
  return v_log_core(v_fma(lost, scale, m - v_set1(1)), v_to_float(e));
}

// Below 0.85 an odd polynomial; above, 1 - exp(-q(|x|)), where q fits -log(erfc).
INLINE vf v_erf(vf x) {
  vf t = v_min(v_set1(3.95f), v_abs(x)), z = t * t;
  vf p = v_fma(v_set1(0x1.7093a4p-14f), z, v_set1(-0x1.af948ap-11f));
  p = v_fma(p, z, v_set1(0x1.555030p-8f));
  p = v_fma(p, z, v_set1(-0x1.b81abcp-6f));
  p = v_fma(p, z, v_set1(0x1.ce2e7ep-4f));
  p = v_fma(p, z, v_set1(-0x1.812744p-2f));
  p = v_fma(p, z, v_set1(0x1.06eba8p-3f));
  vf near = v_fma(p, t, t);
  vf q = v_fma(v_set1(-0x1.ab235cp-13f), t, v_set1(0x1.98a9cap-9f));
  q = v_fma(q, t, v_set1(-0x1.70f3dep-6f));
  q = v_fma(q, t, v_set1(0x1.ac2378p-4f));
  q = v_fma(q, t, v_set1(0x1.45e5ccp-1f));
  q = v_fma(q, t, v_set1(0x1.20c89cp+0f));
  q = v_fma(q, t, v_set1(0x1.b65f32p-14f));
  vf far = v_set1(1) - v_exp_negative(v_neg(q));
  return v_copysign(v_select(v_lt(t, v_set1(0.85f)), near, far), x);
}

// tanh|x| = h / (h + 1) with h = (exp(2|x|) - 1) / 2 = 2^(n-1) s + 2^(n-1) - 1/2, where s = exp(r) - 1 and
// 2|x| = n ln 2 + r. To round 2|x| / ln 2, 1.5 * 2^23 is added, whose last bits n becomes. From 9.1 on the quotient
// rounds to 1.
INLINE vf v_tanh(vf x) {
  const vf magic = v_set1(0x1.8p23f), half_t = v_min(v_set1(9.1f), v_abs(x)), t = half_t + half_t;
  const vf rounded = v_fma(t, v_set1(0x1.715476p+0f), magic), n = rounded - magic;
  vf r = v_fnma(n, v_set1(0x1.62e4p-1f), t);
  r = v_fnma(n, v_set1(0x1.7f7d1cp-20f), r);
  const vf s = v_fma(v_expm1_tail(r) * r, r, r);
  const vf half = (vf)(((vi)rounded << 23) + v_set1_i(126 << 23));
  const vf h = v_fma(half, s, half - v_set1(0.5f));
  return v_copysign(h / (h + v_set1(1)), x);
}

// With e = exp(-|x|): 1 / (1 + e), or e / (1 + e) on the negative side.
INLINE vf v_sigmoid(vf x) {
  vf e = v_exp(v_neg(v_abs(x)));
  return v_select(v_lt(x, v_zero()), e, v_set1(1)) / (e + v_set1(1));
}

INLINE vf v_silu(vf x) { return x * v_sigmoid(x); }

// x / 2 times 1 + erf(x / sqrt 2), which is 2 - e or e, by the sign of x, with e = erfc(|x| / sqrt 2) = 2^-q; q is a
// polynomial in |x| without constant term, good to 2^-28 in e up to |x| = 5.5, where e is 2^-24.7, and e is 0 beyond.
INLINE vf v_gelu(vf x) {
  vf t = v_abs(x);
  vf q = v_fma(v_set1(-0x1.17aa58p-21f), t, v_set1(0x1.44a6f6p-17f));
  q = v_fma(q, t, v_set1(-0x1.3d47d4p-14f));
  q = v_fma(q, t, v_set1(0x1.2c54b0p-12f));
  q = v_fma(q, t, v_set1(-0x1.38a74cp-16f));
  q = v_fma(q, t, v_set1(-0x1.c5fed4p-8f));
  q = v_fma(q, t, v_set1(0x1.ad8754p-5f));
  q = v_fma(q, t, v_set1(0x1.d63e4cp-2f));
  q = v_fma(q, t, v_set1(0x1.26aec4p+0f));
  vf e = v_exp2_bounded(v_neg(q * t));
  e = v_select(v_lt(t, v_set1(5.5f)), e, v_zero());
  return x * v_set1(0.5f) * v_select(v_lt(x, v_zero()), e, v_set1(2) - e);
}

// (1 + tanh u) / 2 = sigmoid(2 u).
INLINE vf v_gelu_tanh(vf x) {
  vf inner = v_fma(x * x, v_set1(0.044715f), v_set1(1)) * x;
  return x * v_sigmoid(inner * v_set1(0x1.988454p+0f));
}

// x tanh(log(1 + e)) with e = exp(x): the quotient w / (w + 2) with w = e (e + 2), which is 1 to the last place for x >
// 20.
INLINE vf v_mish(vf x) {
  vf e = v_exp(v_min(v_set1(20), x));
  vf w = e * (e + v_set1(2));
  return x * (w / (w + v_set1(2)));
}

INLINE vf v_elu(vf x, vf alpha) { return v_select(v_le(x, v_zero()), alpha * v_expm1(x), x); }

INLINE vf v_celu(vf x, vf alpha) { return v_select(v_le(x, v_zero()), alpha * v_expm1(x / alpha), x); }
INLINE vf v_selu(vf x, vf alpha, vf gamma) { return gamma * v_elu(x, alpha); }
INLINE vf v_swish(vf x, vf alpha) { return x * v_sigmoid(alpha * x); }
INLINE vf v_softsign(vf x) { return x / (v_abs(x) + v_set1(1)); }
INLINE vf v_thresholded_relu(vf x, vf alpha) { return v_select(v_lt(alpha, x), x, v_zero()); }
INLINE vf v_shrink(vf x, vf bias, vf lambda) {
  vf y = v_select(v_lt(lambda, x), x - bias, v_zero());
  return v_select(v_lt(x, v_neg(lambda)), x + bias, y);
}
// 0 for either zero, NaN for NaN.
INLINE vf v_sign(vf x) {
  vf y = v_select(v_is_nan(x), x, v_copysign(v_set1(1), x));
  return v_select(v_eq(x, v_zero()), v_zero(), y);
}

INLINE vf v_softplus(vf x) {
  vf y = v_max(v_zero(), x) + v_log1p_unit(v_exp(v_neg(v_abs(x))));
  return v_select(v_is_nan(x), x, y);
}

INLINE vf v_relu(vf x) { return v_clamp(x, v_zero(), v_set1(__builtin_inff())); }
INLINE vf v_leaky_relu(vf x, vf alpha) { return v_select(v_lt(x, v_zero()), alpha * x, x); }
INLINE vf v_hard_sigmoid(vf x, vf alpha, vf beta) { return v_clamp(v_fma(alpha, x, beta), v_zero(), v_set1(1)); }
INLINE vf v_hard_swish(vf x) { return x * v_hard_sigmoid(x, v_set1(1.0f / 6), v_set1(0.5f)); }
