// What the machine can run: the processor has the instructions and the operating system keeps their registers.
#pragma once
#include "CApusKernels.h"

// The best level, and through `features` the extra instructions (apus_features) that are usable with it. Tile registers
// are asked for from the kernel, for the process and for good, if `wants_tiles` says so, and otherwise not used.
apus_level apus_cpu_level(bool wants_tiles, uint32_t *features);
