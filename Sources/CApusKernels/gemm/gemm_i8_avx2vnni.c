// 8-bit integer GEMM for AVX2 with the dot products of AVX-VNNI.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX2 ",avxvnni"))), apply_to = function)
#include "../simd/simd_avx2.h"
#include "../math/activation.h"

#define I8_VARIANT(name) name##_avx2vnni
#define I8_NR 32
#define I8_MR 6
#define I8_GROUP_BYTES (24 * 1024)
#define I8_TILES \
  TILE(1, 16) TILE(2, 16) TILE(3, 16) TILE(4, 16) TILE(5, 16) TILE(6, 16) \
  TILE(1, 32) TILE(2, 32) TILE(3, 32) TILE(4, 32) TILE(5, 32) TILE(6, 32)
#define I8_PRODUCTS "gemm_i8_products_avx2vnni.h"
#include "gemm_i8.inc.h"
#pragma clang attribute pop
#endif
