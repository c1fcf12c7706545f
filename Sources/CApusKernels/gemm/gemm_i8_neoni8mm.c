// 8-bit integer GEMM for NEON with products of small matrices.
#include "../isa.h"
#if APUS_ARM
#pragma clang attribute push(__attribute__((target(APUS_TARGET_NEONI8MM))), apply_to = function)
#include "../simd/simd_neon.h"
#include "../math/activation.h"

#define I8_VARIANT(name) name##_neoni8mm
#define I8_NR 16
#define I8_MR 8
#define I8_GROUP_BYTES (256 * 1024)
#define I8_TILES \
  TILE(1, 16) TILE(2, 16) TILE(3, 16) TILE(4, 16) TILE(5, 16) TILE(6, 16) TILE(7, 16) TILE(8, 16)
#define I8_PRODUCTS "gemm_i8_products_neoni8mm.h"
#include "gemm_i8.inc.h"
#pragma clang attribute pop
#endif
