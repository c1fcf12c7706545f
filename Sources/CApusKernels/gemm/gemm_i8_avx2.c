// 8-bit integer GEMM for AVX2.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX2))), apply_to = function)
#include "../simd/simd_avx2.h"
#include "../math/activation.h"

#define I8_VARIANT(name) name##_avx2
#define I8_NR 16
#define I8_MR 4
#define I8_GROUP_BYTES (24 * 1024)
#define I8_TILES TILE(1, 16) TILE(2, 16) TILE(3, 16) TILE(4, 16)
#define I8_MANY_ROWS "gemm_i8_widened_avx2.h"
#define I8_PRODUCTS "gemm_i8_products_avx2.h"
#include "gemm_i8.inc.h"
#pragma clang attribute pop
#endif
