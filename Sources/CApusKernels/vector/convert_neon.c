// Conversions and quantization for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../kernel_declarations.h"
#include "convert.inc.h"
#endif
