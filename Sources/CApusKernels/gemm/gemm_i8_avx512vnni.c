// 8-bit integer GEMM for AVX-512 with VNNI.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX512 ",avx512vnni"))), apply_to = function)
#include "../simd/simd_avx512.h"
#include "../math/activation.h"

#define I8_VARIANT(name) name##_avx512vnni
#include "gemm_i8_tiles_avx512.h"
#define I8_PRODUCTS "gemm_i8_products_avx512vnni.h"
#include "gemm_i8.inc.h"
#pragma clang attribute pop
#endif
