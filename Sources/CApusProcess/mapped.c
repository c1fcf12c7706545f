// Turns the signal for lost pages of a mapped file into zeros and a mark.

#define _GNU_SOURCE
#include "apus_mapped.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

// A process has a few compiled models; the table is searched in a signal handler and cannot grow.
#define WATCHES 1024

// A watch counts as long as its first address is not 0.
static struct {
  _Atomic uintptr_t base;
  _Atomic uintptr_t end;
  atomic_bool is_damaged;
} watches[WATCHES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int used;
static uintptr_t page_bytes;
static struct sigaction former;

// Puts zeros in the place of the page at `address` and all pages behind it. Async-signal-safe: one call of the system.
static bool replace(int watch, uintptr_t address) {
  uintptr_t page = address & ~(page_bytes - 1), end = atomic_load(&watches[watch].end);
  void *zeros = mmap((void *)page, end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (zeros == MAP_FAILED) return false;
  atomic_store(&watches[watch].is_damaged, true);
  return true;
}

// What the signal would have done without us.
static void pass_on(int number, siginfo_t *info, void *context) {
  if (former.sa_flags & SA_SIGINFO) {
    former.sa_sigaction(number, info, context);
  } else if (former.sa_handler == SIG_DFL || (former.sa_handler == SIG_IGN && info->si_code > 0)) {
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    sigaction(number, &usual, NULL);
    // Blocked until this handler returns.
    raise(number);
  } else if (former.sa_handler != SIG_IGN) {
    former.sa_handler(number);
  }
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
  int error = errno;
  uintptr_t address = (uintptr_t)info->si_addr;
  bool is_done = false;
  for (int i = 0; info->si_code > 0 && i < WATCHES && !is_done; i++) {
    uintptr_t base = atomic_load(&watches[i].base);
    if (base && address >= base && address < atomic_load(&watches[i].end)) is_done = replace(i, address);
  }
  if (!is_done) pass_on(number, info, context);
  errno = error;
}

static bool is_ours(const struct sigaction *action) {
  return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_bus_error;
}

int apus_watch_mapping(void *base, size_t byte_count) {
  pthread_mutex_lock(&lock);
  int watch = -1;
  for (int i = 0; i < WATCHES && watch < 0; i++)
    if (!atomic_load(&watches[i].base)) watch = i;
  if (watch >= 0) {
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    atomic_store(&watches[watch].is_damaged, false);
    atomic_store(&watches[watch].end, ((uintptr_t)base + byte_count + page_bytes - 1) & ~(page_bytes - 1));
    atomic_store(&watches[watch].base, (uintptr_t)base);
    if (used++ == 0) {
      struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK}, now;
      sigemptyset(&action.sa_mask);
      if (sigaction(SIGBUS, NULL, &now) == 0 && !is_ours(&now)) {
        former = now;
        sigaction(SIGBUS, &action, NULL);
      }
    }
  }
  pthread_mutex_unlock(&lock);
  return watch;
}

void apus_unwatch_mapping(int watch) {
  if (watch < 0 || watch >= WATCHES) return;
  pthread_mutex_lock(&lock);
  atomic_store(&watches[watch].base, 0);
  // A handler that somebody has put in front of ours keeps it.
  struct sigaction now;
  if (--used == 0 && sigaction(SIGBUS, NULL, &now) == 0 && is_ours(&now)) sigaction(SIGBUS, &former, NULL);
  pthread_mutex_unlock(&lock);
}

bool apus_mapping_is_damaged(int watch) {
  return watch >= 0 && watch < WATCHES && atomic_load(&watches[watch].is_damaged);
}
