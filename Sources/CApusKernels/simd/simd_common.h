// What every kernel file needs before its vector vocabulary: integer types, the public contracts, inlining, and exact
// rounding (a product and a sum are fused only where v_fma says so).
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "CApusKernels.h"

#pragma STDC FP_CONTRACT OFF

#define APUS_JOIN_(a, b) a##b
#define APUS_JOIN(a, b) APUS_JOIN_(a, b)
#define INLINE static inline __attribute__((always_inline, unused, nodebug))
