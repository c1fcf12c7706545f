// Float32 GEMM and its packing for AVX2 with FMA.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX2))), apply_to = function)
#include "../simd/simd_avx2.h"
#include "../math/activation.h"

#define GEMM_NV 2
#define GEMM_MR 6
#define APUS_GEMM_TILES \
  TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1) \
  TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2) TILE(6, 2) TILE(1, 4) TILE(2, 4) TILE(1, 8)
#include "gemm_f32.inc.h"
#include "gemm_f32_pack.inc.h"
#pragma clang attribute pop
#endif
