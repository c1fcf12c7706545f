// Declares apus_<kernel>_<level> for every line of kernels.inc.
#pragma once
#include "CApusKernels.h"

#define APUS_KERNEL(type, name) type apus_##name##_portable;
#include "kernels.inc"
#define APUS_KERNEL(type, name) type apus_##name##_avx2;
#include "kernels.inc"
#define APUS_KERNEL(type, name) type apus_##name##_avx512;
#include "kernels.inc"
