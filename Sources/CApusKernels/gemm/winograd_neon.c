// Winograd convolution for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../math/activation.h"
#include "gemm_tiles_neon.h"
#include "winograd.inc.h"
#endif
