// Depthwise convolution for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../math/activation.h"
#include "depthwise.inc.h"
#endif
