// A mutex with a condition, at an address that does not move: where threads of the pool sleep.

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
    let failed = pthread_mutex_init(mutex, nil) != 0 || pthread_cond_init(condition, nil) != 0
    precondition(!failed, "no memory for a mutex")
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
  func signal() { pthread_cond_signal(condition) }
  func broadcast() { pthread_cond_broadcast(condition) }
}
