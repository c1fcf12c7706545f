// Float64 GEMM for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../kernel_declarations.h"
#include "gemm_tiles_neon.h"

#include "gemm_f64.inc.h"
#endif
