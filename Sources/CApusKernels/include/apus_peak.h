// What the arithmetic of a machine can do at most, to hold the rates of kernels against.
#pragma once
#include <stddef.h>
#pragma clang assume_nonnull begin

// Computes `rounds` rounds of multiply-adds that depend on nothing but those of the round before, in registers, by the
// best instructions that kernels of the variant may use. Returns the operations: two for each multiply-add.
typedef double apus_peak_fn(size_t rounds);

#pragma clang assume_nonnull end
