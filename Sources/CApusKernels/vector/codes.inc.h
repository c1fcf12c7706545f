// Numbers of 8 bits and less: packed codes to bytes and back, codes to the numbers of a table, and float32 to the codes
// of small floats.

typedef uint8_t code_bytes __attribute__((vector_size(VL)));

// The code in the low bits of a byte, extended: `sign` is the bit of its sign, or 0.
#define EXTENDED(code) (uint8_t)(((code) ^ sign) - sign)

INLINE uint8_t code_of_six(const uint8_t *x, size_t i) {
  const size_t bit = 6 * i, shift = bit % 8;
  const unsigned low = x[bit / 8], high = shift > 2 ? x[bit / 8 + 1] : 0;
  return (uint8_t)((low | high << 8) >> shift & 63);
}

void APUS_(apus_unpack_codes)(size_t n, const uint8_t *restrict x, int bits, bool is_signed, uint8_t *restrict codes) {
  const uint8_t sign = is_signed ? (uint8_t)(1u << (bits - 1)) : 0;
  size_t done = 0;
  if (bits == 4) {
#pragma clang loop vectorize(assume_safety) interleave(enable)
    for (size_t i = 0; i < n / 2; i++) {
      codes[2 * i] = EXTENDED(x[i] & 15);
      codes[2 * i + 1] = EXTENDED(x[i] >> 4);
    }
    done = n / 2 * 2;
    if (done < n) codes[done] = EXTENDED(x[done / 2] & 15);
  } else if (bits == 2) {
#pragma clang loop vectorize(assume_safety) interleave(enable)
    for (size_t i = 0; i < n / 4; i++) {
      codes[4 * i] = EXTENDED(x[i] & 3);
      codes[4 * i + 1] = EXTENDED(x[i] >> 2 & 3);
      codes[4 * i + 2] = EXTENDED(x[i] >> 4 & 3);
      codes[4 * i + 3] = EXTENDED(x[i] >> 6);
    }
    for (done = n / 4 * 4; done < n; done++) codes[done] = EXTENDED(x[done / 4] >> done % 4 * 2 & 3);
  } else {
    for (; done + 4 <= n; done += 4, x += 3) {
      const unsigned word = x[0] | x[1] << 8 | (unsigned)x[2] << 16;
      codes[done] = EXTENDED(word & 63);
      codes[done + 1] = EXTENDED(word >> 6 & 63);
      codes[done + 2] = EXTENDED(word >> 12 & 63);
      codes[done + 3] = EXTENDED(word >> 18);
    }
    for (size_t i = 0; done + i < n; i++) codes[done + i] = EXTENDED(code_of_six(x, i));
  }
}
#undef EXTENDED

// The code for a byte, of `bits` bits.
INLINE uint8_t code_of(uint8_t x, const int bits, const apus_code_form form) {
  const uint8_t mask = (uint8_t)((1u << bits) - 1), half = (uint8_t)(1u << (bits - 1));
  if (form == APUS_CODE_UNSIGNED) return x > mask ? mask : x;
  if (form == APUS_CODE_LOW_BITS) return x & mask;
  const int8_t low = (int8_t)-half, high = (int8_t)(half - 1), y = (int8_t)x;
  const int8_t raised = y < low ? low : y;
  return (uint8_t)(raised > high ? high : raised) & mask;
}

INLINE void pack_codes(size_t n, const uint8_t *restrict codes, const int bits, const apus_code_form form,
                       uint8_t *restrict y) {
#define CODE(i) code_of(codes[i], bits, form)
  size_t done = 0;
  if (bits == 4) {
#pragma clang loop vectorize(assume_safety) interleave(enable)
    for (size_t i = 0; i < n / 2; i++) y[i] = (uint8_t)(CODE(2 * i) | CODE(2 * i + 1) << 4);
    done = n / 2 * 2;
    if (done < n) y[done / 2] = CODE(done);
  } else if (bits == 2) {
#pragma clang loop vectorize(assume_safety) interleave(enable)
    for (size_t i = 0; i < n / 4; i++)
      y[i] = (uint8_t)(CODE(4 * i) | CODE(4 * i + 1) << 2 | CODE(4 * i + 2) << 4 | CODE(4 * i + 3) << 6);
    done = n / 4 * 4;
    if (done < n) y[done / 4] = 0;
    for (; done < n; done++) y[done / 4] |= (uint8_t)(CODE(done) << done % 4 * 2);
  } else {
    for (; done < n; done += 4) {
      unsigned word = 0;
      const size_t count = n - done < 4 ? n - done : 4;
      for (size_t i = 0; i < count; i++) word |= (unsigned)CODE(done + i) << 6 * i;
      for (size_t i = 0; i < (6 * count + 7) / 8; i++) *y++ = (uint8_t)(word >> 8 * i);
    }
  }
#undef CODE
}

void APUS_(apus_pack_codes)(size_t n, const uint8_t *codes, int bits, apus_code_form form, uint8_t *y) {
#define FORMS(bits) \
  switch (form) { \
    case APUS_CODE_LOW_BITS: return pack_codes(n, codes, bits, APUS_CODE_LOW_BITS, y); \
    case APUS_CODE_UNSIGNED: return pack_codes(n, codes, bits, APUS_CODE_UNSIGNED, y); \
    case APUS_CODE_SIGNED: return pack_codes(n, codes, bits, APUS_CODE_SIGNED, y); \
  }
  if (bits == 4) FORMS(4)
  else if (bits == 2) FORMS(2)
  else FORMS(6)
#undef FORMS
}

void APUS_(apus_codes_to_f32)(size_t n, const uint8_t *restrict codes, const float *restrict table,
                              float *restrict y) {
  size_t i = 0;
#if APUS_LANES >= 16
  for (; i + VL <= n; i += VL) {
    code_bytes x;
    memcpy(&x, codes + i, sizeof x);
    v_store(y + i, v_gather(table, __builtin_convertvector(x, vi)));
  }
#endif
  for (; i < n; i++) y[i] = table[codes[i]];
}

INLINE vi choose(vi mask, vi yes, vi no) { return (mask & yes) | (~mask & no); }

INLINE code_bytes v_to_codes(vf x, const apus_small_float *format) {
  const vi bits = (vi)x, magnitude = bits & INT32_MAX, sign = (bits >> 31) & (int32_t)format->sign;
  const int32_t dropped = (int32_t)format->dropped;
  // As a sum without a sign: NaN may reach beyond what has one, and is no number here.
  const vu rounding = (vu)((magnitude >> dropped) & 1) + ((1u << (dropped - 1)) - 1);
  const vi normal = (vi)(((vu)magnitude + rounding) >> format->dropped) - (int32_t)format->offset;
  // Below the smallest normal number the codes are equidistant. Adding 2^23 rounds to an integer in the low bits.
  const vi equidistant = (vi)((vf)magnitude * v_set1(format->subnormals) + v_set1(0x1p23f)) & 0x3fffff;
  const vi code = choose(magnitude < (int32_t)format->least_normal, equidistant, normal);
  const vi beyond = (sign & (int32_t)format->beyond_keeps) ^ (int32_t)format->beyond;
  const vi nan = (sign & (int32_t)format->nan_keeps) ^ (int32_t)format->nan;
  const vi number = choose(code == 0, sign & (int32_t)format->zero_keeps, sign | code);
  const vi bounded = choose(code > (int32_t)format->largest, beyond, number);
  return __builtin_convertvector((vu)choose(magnitude > 0x7f800000, nan, bounded), code_bytes);
}

void APUS_(apus_f32_to_codes)(size_t n, const float *x, uint8_t *y, const apus_small_float *format) {
  const apus_small_float own = *format;
  size_t i = 0;
  for (; i + VL <= n; i += VL) {
    const code_bytes codes = v_to_codes(v_load(x + i), &own);
    memcpy(y + i, &codes, sizeof codes);
  }
  if (i < n) {
    const code_bytes codes = v_to_codes(v_load_n(x + i, n - i), &own);
    memcpy(y + i, &codes, n - i);
  }
}
