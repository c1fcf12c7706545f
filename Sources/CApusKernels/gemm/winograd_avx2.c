// Winograd convolution for AVX2.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX2))), apply_to = function)
#include "../simd/simd_avx2.h"
#include "../math/activation.h"
#include "gemm_tiles_avx2.h"
#include "winograd.inc.h"
#pragma clang attribute pop
#endif
