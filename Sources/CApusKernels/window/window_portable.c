// Depthwise convolution and pooling for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../math/activation.h"
#include "window.inc.h"
