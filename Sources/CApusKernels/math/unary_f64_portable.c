// Float64 unary kernels for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../kernel_declarations.h"
#include "unary_f64.inc.h"
