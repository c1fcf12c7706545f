// Float32 unary kernels for AVX-512.
#include <math.h>

#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX512))), apply_to = function)
#include "../simd/simd_avx512.h"
#include "activation.h"
#include "math.inc.h"
#include "hyperbolic.inc.h"
#include "trig.inc.h"
#include "unary_f32.inc.h"
#pragma clang attribute pop
#endif
