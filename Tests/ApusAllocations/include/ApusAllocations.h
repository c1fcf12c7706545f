// Counts what a thread takes from the C library's heap.

#ifndef APUS_ALLOCATIONS_H
#define APUS_ALLOCATIONS_H

#include <stdbool.h>
#include <stdint.h>

// False where the heap cannot be watched: with another C library than glibc, or a sanitizer that has its own heap.
bool apus_counts_allocations(void);

// The blocks that the calling thread has taken so far; of a block that grows, each time.
int64_t apus_allocations(void);

#endif
