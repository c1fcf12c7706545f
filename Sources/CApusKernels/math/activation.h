// Which unary kernel an activation is, per instruction set; defined beside the unary kernels.
#pragma once
#include "../simd/simd_common.h"
#include "../kernel_declarations.h"

apus_unary_f32_fn *apus_activation_function_portable(apus_activation kind);
apus_unary_f32_fn *apus_activation_function_avx2(apus_activation kind);
apus_unary_f32_fn *apus_activation_function_avx512(apus_activation kind);
apus_unary_f32_fn *apus_activation_function_neon(apus_activation kind);
