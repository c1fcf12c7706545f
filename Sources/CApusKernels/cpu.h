// What the machine can run: the processor has the instructions and the operating system keeps their registers.
#pragma once
#include "CApusKernels.h"

// The best level, and through `features` the extra instructions (apus_features) that are usable with it.
apus_level apus_cpu_level(uint32_t *features);
