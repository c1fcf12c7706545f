// The rate of integer products for AVX-512 with VNNI: VPDPBUSD.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX512 ",avx512vnni"))), apply_to = function)
#include "../kernel_declarations.h"

#define PEAK_NAME apus_peak_i8_avx512vnni
#define I8_VECTOR __m512i
#define I8_SPLAT(number) _mm512_set1_epi32(number)
#define I8_DOT(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#define I8_PRODUCTS 64
#define I8_LANE(vector) _mm_cvtsi128_si32(_mm512_castsi512_si128(vector))
#include "peak_i8.inc.h"
#pragma clang attribute pop
#endif
