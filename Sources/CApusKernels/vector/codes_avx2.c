// Codes of 8 bits and less for AVX2 with FMA.
#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX2))), apply_to = function)
#include "../simd/simd_avx2.h"
#include "../kernel_declarations.h"
#include "codes.inc.h"
#pragma clang attribute pop
#endif
