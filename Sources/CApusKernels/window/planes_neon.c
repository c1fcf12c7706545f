// Windows over planes for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../kernel_declarations.h"
#include "planes.inc.h"
#include "plane_windows.inc.h"
#endif
