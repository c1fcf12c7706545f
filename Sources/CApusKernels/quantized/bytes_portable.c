// Kernels on bytes that stand for floats, for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "bytes.inc.h"
