// Bfloat16 GEMM for AVX-512 with its dot products of pairs.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX512 ",avx512bf16"))), apply_to = function)
#include "../simd/simd_avx512.h"
#include "../math/activation.h"

#define BF16_VARIANT(name) name##_avx512bf16
#define BF16_NR 32
#define BF16_ROWS 12
#define BF16_PRODUCTS "gemm_bf16_products_avx512bf16.h"
#include "gemm_bf16.inc.h"
#pragma clang attribute pop
#endif
