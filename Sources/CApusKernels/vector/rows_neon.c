// Row-wise kernels for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../kernel_declarations.h"
#include "../math/math.inc.h"
#include "rows.inc.h"
#include "folds.inc.h"
#include "scan.inc.h"
#include "search.inc.h"
#endif
