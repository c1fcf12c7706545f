// The rate of float32 multiply-adds for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../kernel_declarations.h"
#include "peak_f32.inc.h"
#endif
