// Windows over planes for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../kernel_declarations.h"
#include "planes.inc.h"
#include "plane_windows.inc.h"
