// Sine and cosine on one vector of float32. Up to 8192 in magnitude the argument is reduced by multiples of pi/2 in
// four parts, each with so few bits that its multiples are exact; beyond (rare) each lane asks the C library.

#define TRIG_LIMIT 8192.0f

typedef struct {
  vf r;
  vi quadrant;
} trig_parts;
INLINE trig_parts v_trig_reduce(vf x) {
  vf n = v_round(x * v_set1(0x1.45f306p-1f));
  vf r = v_fnma(n, v_set1(0x1.92p+0f), x);
  r = v_fnma(n, v_set1(0x1.fb4p-12f), r);
  r = v_fnma(n, v_set1(0x1.444p-24f), r);
  r = v_fnma(n, v_set1(0x1.68c234p-39f), r);
  return (trig_parts){r, v_to_int(n)};
}

// sin(x + shift * pi/2).
INLINE vf v_trig(vf x, int shift) {
  vf bounded = v_select(v_le(v_abs(x), v_set1(TRIG_LIMIT)), x, v_zero());
  trig_parts t = v_trig_reduce(bounded);
  vi quadrant = t.quadrant + shift;
  vf z = t.r * t.r;
  vf s = v_fma(v_set1(-0x1.9955b0p-13f), z, v_set1(0x1.11077cp-7f));
  s = v_fma(s, z, v_set1(-0x1.555546p-3f));
  s = v_fma(s * z, t.r, t.r);
  vf c = v_fma(v_set1(0x1.99e904p-16f), z, v_set1(-0x1.6c0c2ap-10f));
  c = v_fma(c, z, v_set1(0x1.55554ap-5f));
  c = v_fma(c * z, z, v_fnma(v_set1(0.5f), z, v_set1(1)));
  vm odd = v_eq(v_to_float(quadrant & 1), v_set1(1));
  vf y = v_select(odd, c, s);
  return (vf)((vi)y ^ ((quadrant & 2) << 30));
}

static __attribute__((noinline)) void trig_far(const float *x, float *y, size_t n, int cosine) {
  for (size_t i = 0; i < n; i++)
    if (!(__builtin_fabsf(x[i]) <= TRIG_LIMIT)) y[i] = cosine ? cosf(x[i]) : sinf(x[i]);
}

INLINE vf v_sincos(vf x, int cosine) {
  vf y = v_trig(x, cosine);
  if (v_any(v_lt(v_set1(TRIG_LIMIT), v_abs(x))) || v_any(v_is_nan(x))) {
    float from[VL], to[VL];
    v_store(from, x);
    v_store(to, y);
    trig_far(from, to, VL, cosine);
    y = v_load(to);
  }
  return cosine ? y : v_select(v_eq(x, v_zero()), x, y);
}
INLINE vf v_sin(vf x) { return v_sincos(x, 0); }
INLINE vf v_cos(vf x) { return v_sincos(x, 1); }
