#define _GNU_SOURCE
#include "apus_stack.h"

#include <pthread.h>

size_t apus_stack_remaining(void) {
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return 0;
  void *lowest = NULL;
  size_t size = 0;
  int status = pthread_attr_getstack(&attributes, &lowest, &size);
  pthread_attr_destroy(&attributes);
  const char *here = __builtin_frame_address(0);
  return status == 0 && here > (const char *)lowest ? (size_t)(here - (const char *)lowest) : 0;
}
