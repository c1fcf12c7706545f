// The rate of integer products for AVX2 with AVX-VNNI: VPDPBUSD.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX2 ",avxvnni"))), apply_to = function)
#include "../kernel_declarations.h"

#define PEAK_NAME apus_peak_i8_avx2vnni
#define I8_VECTOR __m256i
#define I8_SPLAT(number) _mm256_set1_epi32(number)
#define I8_DOT(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
#define I8_PRODUCTS 32
#define I8_LANE(vector) _mm256_extract_epi32(vector, 0)
#include "peak_i8.inc.h"
#pragma clang attribute pop
#endif
