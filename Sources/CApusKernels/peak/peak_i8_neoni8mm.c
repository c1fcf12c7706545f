// The rate of integer products for NEON with products of small matrices: SMMLA.
#include "../isa.h"
#if APUS_ARM
#pragma clang attribute push(__attribute__((target(APUS_TARGET_NEONI8MM))), apply_to = function)
#include "../kernel_declarations.h"

#define PEAK_NAME apus_peak_i8_neoni8mm
#define I8_VECTOR int32x4_t
#define I8_SPLAT(number) vdupq_n_s32(number)
#define I8_DOT(sum, a, b) vmmlaq_s32(sum, (int8x16_t)a, (int8x16_t)b)
#define I8_PRODUCTS 32
#define I8_LANE(vector) vgetq_lane_s32(vector, 0)
#include "peak_i8.inc.h"
#pragma clang attribute pop
#endif
