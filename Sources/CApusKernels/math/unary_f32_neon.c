// Float32 unary kernels for NEON.
#include <math.h>

#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "activation.h"
#include "math.inc.h"
#include "hyperbolic.inc.h"
#include "trig.inc.h"
#include "unary_f32.inc.h"
#endif
