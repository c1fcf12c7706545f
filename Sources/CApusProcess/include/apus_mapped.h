/* Mapped files that somebody makes shorter: an error of those who read them, not the end of the process. */
#ifndef APUS_MAPPED_H
#define APUS_MAPPED_H

#include <stdbool.h>
#include <stddef.h>

/* Watches a mapping of a file, which begins at a page. Where a page of it is not to be had any more, because the file
 * became shorter or its disk failed, that page and all behind it become zeros, and the mapping counts as damaged. As
 * long as any mapping is watched the process has a handler of SIGBUS for that; all other such signals go to the handler
 * that was there before. The number of the watch; below 0 if there are too many, and then nothing is watched. */
int apus_watch_mapping(void *base, size_t byte_count);

/* Ends a watch, before the mapping goes. */
void apus_unwatch_mapping(int watch);

/* Whether pages of the mapping were gone. */
bool apus_mapping_is_damaged(int watch);

#endif
