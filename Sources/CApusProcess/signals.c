// Gives the signals of crashes back to the process that has loaded the library.

#define _GNU_SOURCE
#include "apus_signals.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

// Whether a handler is code of the Swift runtime: of its library, or of ours where the runtime is linked into it. In a
// program that holds both, its own handlers cannot be told apart from those of the runtime and stay.
static bool is_of_runtime(void *handler) {
  Dl_info found, own, program;
  if (!dladdr(handler, &found) || !found.dli_fname) return false;
  if (strstr(found.dli_fname, "libswiftCore")) return true;
  if (!dladdr((void *)&apus_release_signals, &own) || own.dli_fbase != found.dli_fbase) return false;
  return dladdr((void *)getauxval(AT_ENTRY), &program) && program.dli_fbase != own.dli_fbase;
}

static void release(void) {
  static const int signals[] = {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV};
  if (getenv("SWIFT_BACKTRACE")) return;
  // All signals have one handler as a rule, and finding out whose it is takes as long as ten system calls.
  void *known = NULL;
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
    struct sigaction action;
    if (sigaction(signals[i], NULL, &action) != 0 || !(action.sa_flags & SA_SIGINFO)) continue;
    void *handler = (void *)action.sa_sigaction;
    if (handler != known && !is_of_runtime(handler)) continue;
    known = handler;
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    sigaction(signals[i], &usual, NULL);
  }
}

void apus_release_signals(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, release);
}
