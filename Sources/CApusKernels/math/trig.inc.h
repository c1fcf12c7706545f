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

static __attribute__((noinline)) void tan_far(const float *x, float *y, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (!(__builtin_fabsf(x[i]) <= TRIG_LIMIT)) y[i] = tanf(x[i]);
}

INLINE vf v_tan(vf x) {
  vf bounded = v_select(v_le(v_abs(x), v_set1(TRIG_LIMIT)), x, v_zero());
  trig_parts t = v_trig_reduce(bounded);
  vf z = t.r * t.r;
  vf p = v_fma(v_set1(0x1.1ec804p-8f), z, v_set1(0x1.8208c6p-14f));
  p = v_fma(p, z, v_set1(0x1.62f14ep-7f));
  p = v_fma(p, z, v_set1(0x1.5cba3cp-6f));
  p = v_fma(p, z, v_set1(0x1.bada4ap-5f));
  p = v_fma(p, z, v_set1(0x1.110d9cp-3f));
  p = v_fma(p, z, v_set1(0x1.555560p-2f));
  vf near = v_fma(p * z, t.r, t.r);
  vm odd = v_eq(v_to_float(t.quadrant & 1), v_set1(1));
  vf y = v_select(odd, v_set1(-1) / near, near);
  if (v_any(v_lt(v_set1(TRIG_LIMIT), v_abs(x))) || v_any(v_is_nan(x))) {
    float from[VL], to[VL];
    v_store(from, x);
    v_store(to, y);
    tan_far(from, to, VL);
    y = v_load(to);
  }
  return v_select(v_eq(x, v_zero()), x, y);
}

#define HALF_PI 0x1.921fb6p+0f
#define HALF_PI_REST -0x1.777a5cp-25f

// asin(t) - t for t in [0, 1/2] with z = t^2, times 1 / t.
INLINE vf v_asin_tail(vf z) {
  vf p = v_fma(v_set1(0x1.595c8cp-5f), z, v_set1(0x1.8c3e2ap-6f));
  p = v_fma(p, z, v_set1(0x1.747bbap-5f));
  p = v_fma(p, z, v_set1(0x1.330204p-4f));
  return v_fma(p, z, v_set1(0x1.5555c8p-3f)) * z;
}

// Beyond 1/2, pi/2 - 2 asin(sqrt((1 - t) / 2)).
INLINE vf v_asin(vf x) {
  vf t = v_abs(x);
  vm near = v_le(t, v_set1(0.5f));
  vf half = v_fnma(v_set1(0.5f), t, v_set1(0.5f));
  vf z = v_select(near, t * t, half), s = v_select(near, t, v_sqrt(half));
  vf y = v_fma(v_asin_tail(z), s, s);
  return v_copysign(v_select(near, y, v_set1(HALF_PI) - (y + y - v_set1(HALF_PI_REST))), x);
}
INLINE vf v_acos(vf x) {
  vf t = v_abs(x);
  vm near = v_le(t, v_set1(0.5f));
  vf half = v_fnma(v_set1(0.5f), t, v_set1(0.5f));
  vf z = v_select(near, t * t, half), s = v_select(near, x, v_sqrt(half));
  vf y = v_fma(v_asin_tail(z), s, s);
  vf far = v_select(v_lt(x, v_zero()), v_set1(2 * HALF_PI) - (y + y - v_set1(2 * HALF_PI_REST)), y + y);
  return v_select(near, v_set1(HALF_PI) - (y - v_set1(HALF_PI_REST)), far);
}

// Beyond 1, pi/2 - atan(1 / t).
INLINE vf v_atan(vf x) {
  vf t = v_abs(x);
  vm far = v_lt(v_set1(1), t);
  vf u = v_select(far, v_set1(1) / t, t), z = u * u;
  vf p = v_fma(v_set1(-0x1.d4e5bap-10f), z, v_set1(0x1.64ec40p-7f));
  p = v_fma(p, z, v_set1(-0x1.fe228ap-6f));
  p = v_fma(p, z, v_set1(0x1.da7156p-5f));
  p = v_fma(p, z, v_set1(-0x1.581a72p-4f));
  p = v_fma(p, z, v_set1(0x1.c090f6p-4f));
  p = v_fma(p, z, v_set1(-0x1.2420d6p-3f));
  p = v_fma(p, z, v_set1(0x1.9991e8p-3f));
  p = v_fma(p, z, v_set1(-0x1.55553ep-2f));
  vf y = v_fma(p * z, u, u);
  return v_copysign(v_select(far, v_set1(HALF_PI) - (y - v_set1(HALF_PI_REST)), y), x);
}
