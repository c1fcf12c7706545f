// Hyperbolic functions and their inverses on one vector of float32.

// exp(x) / 2 for x >= 0, which does not overflow before sinh and cosh do.
INLINE vf v_half_exp(vf x) {
  exp_parts e = v_exp_reduce(v_min(v_set1(90), x));
  vf p = v_fma(v_exp_tail(e.r) * e.r, e.r, e.r) + v_set1(1);
  return v_ldexp(p, e.n - v_set1(1));
}

// Up to 1 an odd polynomial; above, with h = exp|x| / 2, the difference of h and 1 / 4h.
INLINE vf v_sinh(vf x) {
  vf t = v_abs(x), z = t * t;
  vf p = v_fma(v_set1(0x1.756c1ep-19f), z, v_set1(0x1.a022bcp-13f));
  p = v_fma(p, z, v_set1(0x1.1110e0p-7f));
  p = v_fma(p, z, v_set1(0x1.555556p-3f));
  vf near = v_fma(p * z, t, t);
  vf h = v_half_exp(t);
  vf y = v_copysign(v_select(v_lt(t, v_set1(1)), near, h - v_set1(0.25f) / h), x);
  return v_select(v_is_nan(x), x, y);
}
INLINE vf v_cosh(vf x) {
  vf h = v_half_exp(v_abs(x));
  return v_select(v_is_nan(x), x, h + v_set1(0.25f) / h);
}

// log(1 + t) for t >= 0, or log(t) + k ln 2 where `large`: the rounding error of 1 + t is put back in first order.
INLINE vf v_log1p_or(vf t, vm large, float k) {
  vf one = v_set1(1), sum = t + one;
  vf lost = v_select(v_lt(t, one), t - (sum - one), one - (sum - t));
  vf y = v_select(large, t, sum);
  vi e = v_exponent_from_sqrt_half(y);
  vf m = (vf)((vi)y - (e << 23));
  vf scale = (vf)((v_set1_i(127) - e) << 23);
  vf f = v_select(large, m - one, v_fma(lost, scale, m - one));
  vf r = v_log_core(f, v_to_float(e) + v_select(large, v_set1(k), v_zero()));
  return v_select(v_lt(t, v_set1(__builtin_inff())), r, t);
}

// Up to 0.6 an odd polynomial; above, log(t + sqrt(t^2 + 1)), which is log 2t where t^2 may overflow.
INLINE vf v_asinh(vf x) {
  vf t = v_abs(x), z = t * t;
  vf p = v_fma(v_set1(-0x1.343f7cp-8f), z, v_set1(0x1.a98ab0p-7f));
  p = v_fma(p, z, v_set1(-0x1.5ad9c2p-6f));
  p = v_fma(p, z, v_set1(0x1.eea540p-6f));
  p = v_fma(p, z, v_set1(-0x1.6d93eap-5f));
  p = v_fma(p, z, v_set1(0x1.333278p-4f));
  p = v_fma(p, z, v_set1(-0x1.555554p-3f));
  vf near = v_fma(p * z, t, t);
  vm large = v_le(v_set1(0x1p28f), t);
  vf above = v_select(large, t, (t - v_set1(1)) + v_sqrt(z + v_set1(1)));
  vf y = v_select(v_lt(t, v_set1(0.6f)), near, v_log1p_or(above, large, 1));
  return v_select(v_is_nan(x), x, v_copysign(y, x));
}

// With d = x - 1, log(1 + (d + sqrt(d (d + 2)))).
INLINE vf v_acosh(vf x) {
  vf d = x - v_set1(1);
  vm large = v_le(v_set1(0x1p28f), x);
  vf t = v_select(large, x, d + v_sqrt(d * (d + v_set1(2))));
  vf y = v_log1p_or(v_select(v_lt(d, v_zero()), v_zero(), t), large, 1);
  y = v_select(v_lt(x, v_set1(1)), v_set1(__builtin_nanf("")), y);
  return v_select(v_is_nan(x), x, y);
}

// Up to 1/2 an odd polynomial; above, half the logarithm of (1 + t) / (1 - t).
INLINE vf v_atanh(vf x) {
  vf t = v_abs(x), z = t * t;
  vf p = v_fma(v_set1(0x1.7b2d28p-3f), z, v_set1(0x1.15d226p-6f));
  p = v_fma(p, z, v_set1(0x1.af15acp-4f));
  p = v_fma(p, z, v_set1(0x1.bfab0ap-4f));
  p = v_fma(p, z, v_set1(0x1.24d1bap-3f));
  p = v_fma(p, z, v_set1(0x1.99979ep-3f));
  p = v_fma(p, z, v_set1(0x1.555558p-2f));
  vf near = v_fma(p * z, t, t);
  vf far = v_set1(0.5f) * v_log((t + v_set1(1)) / (v_set1(1) - t));
  return v_copysign(v_select(v_lt(t, v_set1(0.5f)), near, far), x);
}
