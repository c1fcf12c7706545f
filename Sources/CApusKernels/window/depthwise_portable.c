// Depthwise convolution for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../math/activation.h"
#include "depthwise.inc.h"
