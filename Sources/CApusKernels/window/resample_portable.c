// Resampling of rows for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../kernel_declarations.h"
#include "resample.inc.h"
