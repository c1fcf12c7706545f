// GEMM of float32 by float16 for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../math/activation.h"
#include "gemm_tiles_neon.h"

#define GEMM_NAME apus_gemm_f32_f16
#define GEMM_B uint16_t
#define GEMM_LOAD(p) v_from_f16(p)
#include "gemm_f32.inc.h"
#endif
