// Winograd convolution for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../math/activation.h"
#include "gemm_tiles_portable.h"
#include "winograd.inc.h"
