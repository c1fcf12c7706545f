// GEMM of float32 by bfloat16, and packing of 16-bit elements, for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../math/activation.h"
#include "gemm_tiles_neon.h"

#define GEMM_NAME apus_gemm_f32_bf16
#define GEMM_B uint16_t
#define GEMM_LOAD(p) v_from_bf16(p)
#include "gemm_f32.inc.h"
#define PACK_NAME apus_gemm_b16_pack
#define PACK_TRANSPOSE apus_transpose_2
#include "gemm_pack.inc.h"
#endif
