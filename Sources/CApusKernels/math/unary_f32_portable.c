// Float32 unary kernels for any machine.
#include <math.h>

#include "../isa.h"

#include "../simd/simd_portable.h"
#include "activation.h"
#include "math.inc.h"
#include "hyperbolic.inc.h"
#include "trig.inc.h"
#include "unary_f32.inc.h"

