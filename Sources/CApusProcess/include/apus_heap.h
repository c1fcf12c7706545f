/* The heap of the C library. */
#ifndef APUS_HEAP_H
#define APUS_HEAP_H
#include <stddef.h>

/* Gives memory that was freed back to the system, where the C library would keep it. */
void apus_trim_heap(void);

/* Lets the whole pages of a writable range come at once, where the system can (Linux 5.14), and not by a fault each. It
   changes no byte. For memory that is written next. */
void apus_populate(void *start, size_t byte_count);

#endif
