// Winograd convolution for AVX-512.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX512))), apply_to = function)
#include "../simd/simd_avx512.h"
#include "../math/activation.h"
#include "gemm_tiles_avx512.h"
#include "winograd.inc.h"
#pragma clang attribute pop
#endif
