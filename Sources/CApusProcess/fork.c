// Keeps the library usable in the children of a process: handlers of fork, and the thread that works for the forked
// one.

#define _GNU_SOURCE
#include "apus_fork.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

// How long a fork waits for calls in progress, and how often it looks.
#define PATIENCE_NANOSECONDS 1000000000L
#define LOOK_NANOSECONDS 50000L
// The stack of the thread that works for the forked one, whatever `ulimit -s` says.
#define STACK_BYTES ((size_t)16 << 20)

static _Atomic uint32_t generation;
// Calls in progress in this process.
static _Atomic uint32_t busy;
// Whether a fork is about to happen: new calls wait for it.
static _Atomic bool forking;
// Whether the fork that made this process, or one before it, found a call in progress.
static _Atomic bool tainted;
// Whether this process came out of a fork, and the thread that did.
static _Atomic bool is_child;
static pthread_t forked_thread;

// One fork at a time; also where calls wait for its end.
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

uint32_t apus_fork_generation(void) { return atomic_load_explicit(&generation, memory_order_relaxed); }

uint32_t apus_fork_begin(void) {
  atomic_fetch_add(&busy, 1);
  return apus_fork_generation();
}

void apus_fork_end(uint32_t begun) {
  // A call that a fork has cut off is not counted in the child.
  if (begun == apus_fork_generation()) atomic_fetch_sub(&busy, 1);
}

// Begins a call, behind a fork that is about to happen. Of a call within a call the fork sees the outer one and gives
// up at last.
static uint32_t begin_call(void) {
  for (;;) {
    uint32_t begun = apus_fork_begin();
    if (!atomic_load(&forking)) return begun;
    apus_fork_end(begun);
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
  }
}

// MARK: - The thread that works for the forked one

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool exists;
  // The call that is wanted; NULL once it has ended.
  void (*work)(void *);
  void *context;
} deputy = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *deputy_main(void *unused) {
  (void)unused;
  pthread_mutex_lock(&deputy.lock);
  for (;;) {
    while (!deputy.work) pthread_cond_wait(&deputy.changed, &deputy.lock);
    pthread_mutex_unlock(&deputy.lock);
    deputy.work(deputy.context);
    pthread_mutex_lock(&deputy.lock);
    deputy.work = NULL;
    pthread_cond_broadcast(&deputy.changed);
  }
  return NULL;
}

// Starts the thread, which takes no signals: those are the host program's.
static bool start_deputy(void) {
  sigset_t all, before;
  pthread_attr_t attributes;
  pthread_t thread;
  if (pthread_attr_init(&attributes) != 0) return false;
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigfillset(&all);
  // But for what a thread brings upon itself.
  const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&all, faults[i]);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = pthread_create(&thread, &attributes, deputy_main, NULL) == 0;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return started;
}

// Only the forked thread comes here, so there is one call at a time.
static void delegate(void (*work)(void *), void *context) {
  if (!deputy.exists) deputy.exists = start_deputy();
  if (!deputy.exists) {
    work(context);
    return;
  }
  pthread_mutex_lock(&deputy.lock);
  deputy.context = context;
  deputy.work = work;
  pthread_cond_broadcast(&deputy.changed);
  while (deputy.work) pthread_cond_wait(&deputy.changed, &deputy.lock);
  pthread_mutex_unlock(&deputy.lock);
}

bool apus_fork_guard(void (*work)(void *), void *context) {
  if (atomic_load_explicit(&tainted, memory_order_relaxed)) return false;
  uint32_t begun = begin_call();
  if (atomic_load_explicit(&is_child, memory_order_relaxed) && pthread_equal(pthread_self(), forked_thread)) {
    delegate(work, context);
  } else {
    work(context);
  }
  apus_fork_end(begun);
  return true;
}

// MARK: - The handlers

static void before_fork(void) {
  pthread_mutex_lock(&gate);
  atomic_store(&forking, true);
  struct timespec pause = {0, LOOK_NANOSECONDS}, start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  while (atomic_load(&busy) > 0) {
    nanosleep(&pause, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec > PATIENCE_NANOSECONDS) break;
  }
}

static void after_fork_in_parent(void) {
  atomic_store(&forking, false);
  pthread_mutex_unlock(&gate);
}

static void after_fork_in_child(void) {
  // This is the only thread. What others held or waited for is made anew.
  if (atomic_load(&busy) > 0) atomic_store(&tainted, true);
  atomic_store(&busy, 0);
  atomic_fetch_add(&generation, 1);
  atomic_store(&is_child, true);
  forked_thread = pthread_self();
  pthread_mutex_init(&deputy.lock, NULL);
  pthread_cond_init(&deputy.changed, NULL);
  deputy.exists = false;
  deputy.work = NULL;
  atomic_store(&forking, false);
  pthread_mutex_init(&gate, NULL);
}

__attribute__((constructor)) static void install(void) {
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
