// Kernels on bytes that stand for floats, for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "bytes.inc.h"
#endif
