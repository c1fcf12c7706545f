// The rate of integer products for NEON with dot products: SDOT.
#include "../isa.h"
#if APUS_ARM
#pragma clang attribute push(__attribute__((target(APUS_TARGET_NEONDOT))), apply_to = function)
#include "../kernel_declarations.h"

#define PEAK_NAME apus_peak_i8_neondot
#define I8_VECTOR int32x4_t
#define I8_SPLAT(number) vdupq_n_s32(number)
#define I8_DOT(sum, a, b) vdotq_s32(sum, (int8x16_t)a, (int8x16_t)b)
#define I8_PRODUCTS 16
#define I8_LANE(vector) vgetq_lane_s32(vector, 0)
#include "peak_i8.inc.h"
#pragma clang attribute pop
#endif
