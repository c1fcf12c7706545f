// A mutex with a condition, at an address that does not move: where threads of the pool sleep.

import ApusGraph
import Glibc

/// A pthread mutex and its condition. The owner calls `destroy` once no thread uses it any more.
///
/// `@unchecked Sendable`: the pointers never change, and pthread objects are made to be shared.
struct Monitor: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>

  init() {
    mutex = .allocate(capacity: 1)
    condition = .allocate(capacity: 1)
    reset()
  }

  /// Makes both anew: after a fork, in the child, where the threads that held or awaited them do not exist.
  func reset() {
    mutex.initialize(to: pthread_mutex_t())
    condition.initialize(to: pthread_cond_t())
    var attributes = pthread_condattr_t()
    var failed = pthread_condattr_init(&attributes) != 0
    // The clock that `wait(atMost:)` counts on.
    failed = failed || pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) != 0
    failed = failed || pthread_mutex_init(mutex, nil) != 0 || pthread_cond_init(condition, &attributes) != 0
    precondition(!failed, "no memory for a mutex")
    pthread_condattr_destroy(&attributes)
  }

  func destroy() {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  func lock() { pthread_mutex_lock(mutex) }
  func unlock() { pthread_mutex_unlock(mutex) }

  /// Sleeps until a signal; with the lock held before and after. May return without one.
  func wait() { pthread_cond_wait(condition, mutex) }

  /// The same for at most so many nanoseconds.
  func wait(atMost nanoseconds: UInt64) {
    let end = MonotonicClock.nanoseconds().addingReportingOverflow(nanoseconds)
    if end.overflow { return wait() }
    var time = timespec()
    time.tv_sec = Int(clamping: end.partialValue / 1_000_000_000)
    time.tv_nsec = Int(end.partialValue % 1_000_000_000)
    pthread_cond_timedwait(condition, mutex, &time)
  }

  func signal() { pthread_cond_signal(condition) }
  func broadcast() { pthread_cond_broadcast(condition) }
}
