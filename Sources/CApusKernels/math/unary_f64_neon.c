// Float64 unary kernels for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../kernel_declarations.h"
#include "unary_f64.inc.h"
#endif
