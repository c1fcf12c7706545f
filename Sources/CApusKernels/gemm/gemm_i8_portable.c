// 8-bit integer GEMM for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../math/activation.h"

#define I8_VARIANT(name) name##_portable
#define I8_NR 16
#define I8_MR 4
#define I8_GROUP_BYTES (24 * 1024)
#define I8_TILES TILE(1, 16) TILE(2, 16) TILE(3, 16) TILE(4, 16)
#define I8_PRODUCTS "gemm_i8_products_portable.h"
#include "gemm_i8.inc.h"
