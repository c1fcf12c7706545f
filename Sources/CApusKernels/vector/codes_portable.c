// Codes of 8 bits and less for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../kernel_declarations.h"
#include "codes.inc.h"
