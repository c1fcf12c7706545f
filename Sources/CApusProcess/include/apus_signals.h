/* The signals of a process that the library is a guest in. */
#ifndef APUS_SIGNALS_H
#define APUS_SIGNALS_H

/* Takes back the handlers that the Swift runtime puts on the signals of crashes when it is loaded, where nobody had
 * one: they are the host's to choose. Handlers of others, and those that the host asked for with SWIFT_BACKTRACE in the
 * environment, stay. Does something at the first call only. */
void apus_release_signals(void);

#endif
