// Float32 GEMM and its packing for AVX-512.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX512))), apply_to = function)
#include "../simd/simd_avx512.h"
#include "../math/activation.h"
#include "gemm_tiles_avx512.h"

#define GEMM_NAME apus_gemm_f32
#define GEMM_B float
#define GEMM_LOAD(p) v_load(p)
#include "gemm_f32.inc.h"
#include "gemm_direct.inc.h"
#define PACK_NAME apus_gemm_f32_pack
#define PACK_TRANSPOSE apus_transpose_4
#include "gemm_pack.inc.h"
#pragma clang attribute pop
#endif
