// Kernels on numbers of 8 bits and less: packed codes, and floats of 8, 6 and 4 bits.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

// codes[i] = code i of x for i < n, extended to a byte by zeros or by its sign. Codes have 2, 4 or 6 bits and lie one
// behind the other, from the lowest bit of the first byte on. No overlap.
typedef void apus_unpack_codes_fn(size_t n, const uint8_t *x, int bits, bool is_signed, uint8_t *codes);

// What a byte becomes that does not fit into a code: its low bits, or the nearest number without or with a sign.
typedef enum { APUS_CODE_LOW_BITS = 0, APUS_CODE_UNSIGNED = 1, APUS_CODE_SIGNED = 2 } apus_code_form;

// Code i of y = codes[i] for i < n, laid out as for apus_unpack_codes_fn; the bits behind the last code in its byte
// become 0. No overlap.
typedef void apus_pack_codes_fn(size_t n, const uint8_t *codes, int bits, apus_code_form form, uint8_t *y);

// y[i] = table[codes[i]] for i < n, for a table of 256 numbers. No overlap.
typedef void apus_codes_to_f32_fn(size_t n, const uint8_t *codes, const float *table, float *y);

// A float format of 8 bits or less with a sign: sign, exponent, fraction, from the highest bit of its code down.
typedef struct {
  // The bits of a float32's fraction that its own has not; and what its exponents are smaller by, as part of a code.
  uint32_t dropped, offset;
  // The bits of its smallest normal number as a float32, and one over its smallest positive number, a power of two.
  uint32_t least_normal;
  float subnormals;
  // The code of its largest number, and the bit of the sign.
  uint32_t largest, sign;
  // What numbers beyond that, NaN and zeros become: (sign of x & keeps) ^ code.
  uint32_t beyond_keeps, beyond, nan_keeps, nan, zero_keeps;
} apus_small_float;

// y[i] = the code of the number nearest to x[i], ties to even, for i < n. No overlap.
typedef void apus_f32_to_codes_fn(size_t n, const float *x, uint8_t *y, const apus_small_float *format);

#pragma clang assume_nonnull end
