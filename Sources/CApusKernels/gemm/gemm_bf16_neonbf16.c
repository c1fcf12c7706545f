// Bfloat16 GEMM for NEON with products of small matrices.
#include "../isa.h"
#if APUS_ARM
#pragma clang attribute push(__attribute__((target(APUS_TARGET_NEONBF16))), apply_to = function)
#include "../simd/simd_neon.h"
#include "../math/activation.h"

#define BF16_VARIANT(name) name##_neonbf16
#define BF16_NR 16
#define BF16_ROWS 8
#define BF16_PRODUCTS "gemm_bf16_products_neonbf16.h"
#include "gemm_bf16.inc.h"
#pragma clang attribute pop
#endif
