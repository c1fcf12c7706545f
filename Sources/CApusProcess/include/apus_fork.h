/* What a fork does to a process that uses the library. Threads do not survive it, a lock that another thread held stays
 * locked for ever, and the Swift runtime remembers the number that the forking thread had in the parent: a lock that
 * this thread takes in the child, and that another thread waits for, is never handed over. Hence three rules:
 *
 * - a fork waits, for a bounded time, until no call of the library is in progress;
 * - in the child, calls are made by a thread that was born there, on behalf of the one that came out of the fork;
 * - in the child of a fork that found a call in progress, calls are refused.
 *
 * What a guest in a process owes to its signals is in apus_signals.h.
 */
#ifndef APUS_FORK_H
#define APUS_FORK_H

#include <stdbool.h>
#include <stdint.h>

/* The forks between the process that loaded the library and this one. Threads that were started at another generation
 * than this do not exist any more. */
uint32_t apus_fork_generation(void);

/* Calls `work(context)` and returns when it has ended: on this thread, or, where this thread came out of a fork, on
 * another. A fork waits for it; calls within calls are allowed. False, without a call, in the child of a fork that
 * found one in progress. */
bool apus_fork_guard(void (*work)(void *context), void *context);

/* Work in progress that ends on another thread than it began on, as the start of a thread does: forks wait for it.
 * `end` takes what `begin` returned. */
uint32_t apus_fork_begin(void);
void apus_fork_end(uint32_t generation);

#endif
