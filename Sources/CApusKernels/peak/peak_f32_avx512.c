// The rate of float32 multiply-adds for AVX-512.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX512))), apply_to = function)
#include "../simd/simd_avx512.h"
#include "../kernel_declarations.h"
#include "peak_f32.inc.h"
#pragma clang attribute pop
#endif
