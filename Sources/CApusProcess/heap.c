#define _GNU_SOURCE
#include "apus_heap.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#endif

void apus_trim_heap(void) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void apus_populate(void *start, size_t byte_count) {
#ifdef __linux__
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  const uintptr_t first = ((uintptr_t)start + page - 1) / page * page;
  const uintptr_t end = ((uintptr_t)start + byte_count) / page * page;
  const int error = errno;
  if (first < end) madvise((void *)first, end - first, MADV_POPULATE_WRITE);  // what it cannot do, faults will
  errno = error;
#endif
}
