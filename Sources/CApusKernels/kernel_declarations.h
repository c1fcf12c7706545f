// Declares apus_<kernel>_<variant> for every variant of every line of kernels.inc.
#pragma once
#include "CApusKernels.h"

#define DECLARE(type, name, variant, level, features, rows, columns) type apus_##name##_##variant;
#define APUS_KERNEL(type, name, elements, variants) variants(DECLARE, type, name)
#include "kernels.inc"
#undef DECLARE
