// Row-wise kernels for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../kernel_declarations.h"
#include "../math/math.inc.h"
#include "rows.inc.h"
#include "folds.inc.h"
#include "scan.inc.h"
#include "search.inc.h"
