// 8-bit integer GEMM for NEON.
#include "../isa.h"
#if APUS_ARM
#include "../simd/simd_neon.h"
#include "../math/activation.h"

#define I8_VARIANT(name) name##_neon
#define I8_NR 16
#define I8_MR 2
#define I8_GROUP_BYTES (256 * 1024)
#define I8_TILES TILE(1, 16) TILE(2, 16)
#define I8_PRODUCTS "gemm_i8_products_neon.h"
#include "gemm_i8.inc.h"
#endif
