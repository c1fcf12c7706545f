// Float32 unary kernels for AVX2 with FMA.
#include <math.h>

#include "../isa.h"
#if APUS_X86
#pragma clang attribute push(__attribute__((target(APUS_TARGET_AVX2))), apply_to = function)
#include "../simd/simd_avx2.h"
#include "activation.h"
#include "math.inc.h"
#include "hyperbolic.inc.h"
#include "trig.inc.h"
#include "unary_f32.inc.h"
#pragma clang attribute pop
#endif
