// Comparisons and selections for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../kernel_declarations.h"
#include "compare.inc.h"
