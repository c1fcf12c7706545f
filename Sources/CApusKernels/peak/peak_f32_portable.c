// The rate of float32 multiply-adds in the compiler's vector types.
#include "../kernel_declarations.h"
#include "../simd/simd_portable.h"
#include "peak_f32.inc.h"
