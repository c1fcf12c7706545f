// Products with weights of few bits for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "gemm_tiles_neon.h"

#include "gemm_nbits.inc.h"
#endif
