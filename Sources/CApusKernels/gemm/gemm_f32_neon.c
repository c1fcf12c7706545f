// Float32 GEMM and its packing for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../math/activation.h"
#include "gemm_tiles_neon.h"

#define GEMM_NAME apus_gemm_f32
#define GEMM_B float
#define GEMM_LOAD(p) v_load(p)
#include "gemm_f32.inc.h"
#include "gemm_direct.inc.h"
#define PACK_NAME apus_gemm_f32_pack
#define PACK_TRANSPOSE apus_transpose_4
#include "gemm_pack.inc.h"
#endif
