// Float64 GEMM for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../kernel_declarations.h"
#include "gemm_tiles_portable.h"

#include "gemm_f64.inc.h"
