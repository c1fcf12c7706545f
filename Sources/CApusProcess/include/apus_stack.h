/* The stack of the thread that asks. */
#ifndef APUS_STACK_H
#define APUS_STACK_H

#include <stddef.h>

/* Bytes that are not used yet; 0 if the system does not tell. */
size_t apus_stack_remaining(void);

#endif
