// Conversions between number types for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../kernel_declarations.h"
#include "cast.inc.h"
