// Products with weights of few bits for portable C.
#include "../simd/simd_portable.h"
#include "gemm_tiles_portable.h"

#include "gemm_nbits.inc.h"
