// 8-bit integer GEMM for NEON with dot products.
#include "../isa.h"
#if APUS_ARM
#pragma clang attribute push(__attribute__((target(APUS_TARGET_NEONDOT))), apply_to = function)
#include "../simd/simd_neon.h"
#include "../math/activation.h"

#define I8_VARIANT(name) name##_neondot
#define I8_NR 16
#define I8_MR 4
#define I8_GROUP_BYTES (256 * 1024)
#define I8_TILES TILE(1, 16) TILE(2, 16) TILE(3, 16) TILE(4, 16)
#define I8_PRODUCTS "gemm_i8_products_neondot.h"
#include "gemm_i8.inc.h"
#pragma clang attribute pop
#endif
