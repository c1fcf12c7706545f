// Counts what a thread takes from the C library's heap.

#ifndef APUS_ALLOCATIONS_H
#define APUS_ALLOCATIONS_H

#include <stdbool.h>
#include <stdint.h>

// False where the heap is not watched: with another C library than glibc, under a sanitizer that has its own heap, and
// in debug.
bool apus_counts_allocations(void);

// The blocks that the calling thread has taken so far; of a block that grows, each time.
int64_t apus_allocations(void);

#endif
