// Bfloat16 GEMM for any machine.
#include "../isa.h"
#include "../simd/simd_portable.h"
#include "../math/activation.h"

#define BF16_VARIANT(name) name##_portable
#define BF16_NR 16
#define BF16_ROWS 4
#define BF16_PRODUCTS "gemm_bf16_products_portable.h"
#include "gemm_bf16.inc.h"
