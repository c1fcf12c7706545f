// Codes of 8 bits and less for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../kernel_declarations.h"
#include "codes.inc.h"
#endif
