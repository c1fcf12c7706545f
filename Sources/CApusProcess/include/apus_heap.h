/* The heap of the C library. */
#ifndef APUS_HEAP_H
#define APUS_HEAP_H

/* Gives memory that was freed back to the system, where the C library would keep it. */
void apus_trim_heap(void);

#endif
