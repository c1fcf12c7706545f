// The start of a worker thread.

import CApusProcess
import Glibc

/// What a new thread is given: whom it works for.
final class WorkerThread: Sendable {
  private let core: PoolCore
  private let index: Int
  /// The start, which a fork waits for.
  private let beginning: UInt32

  private init(_ core: PoolCore, _ index: Int) {
    (self.core, self.index) = (core, index)
    beginning = apus_fork_begin()
  }

  /// Starts `count` workers, or as many as the system allows. They take no signals: those are the host program's.
  static func start(_ count: Int, on core: PoolCore) -> [pthread_t] {
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &before)
    var threads: [pthread_t] = []
    threads.reserveCapacity(count)
    while threads.count < count, let thread = start(threads.count, on: core) { threads.append(thread) }
    pthread_sigmask(SIG_SETMASK, &before, nil)
    return threads
  }

  private static func start(_ index: Int, on core: PoolCore) -> pthread_t? {
    let worker = WorkerThread(core, index)
    var thread = pthread_t()
    var attributes = pthread_attr_t()
    guard pthread_attr_init(&attributes) == 0 else { return nil }
    defer { pthread_attr_destroy(&attributes) }
    // Without this it would be what `ulimit -s` says; graphs in graphs are prepared here too.
    pthread_attr_setstacksize(&attributes, stackBytes)
    let status = pthread_create(&thread, &attributes, workerMain, Unmanaged.passRetained(worker).toOpaque())
    if status == 0 { return thread }
    apus_fork_end(worker.beginning)
    Unmanaged.passUnretained(worker).release()
    return nil
  }

  private static let stackBytes = 16 << 20

  fileprivate func main() {
    nameThread()
    apus_fork_end(beginning)
    core.work(as: index)
  }

  /// Gives the calling thread a name that `top -H` shows.
  private func nameThread() {
    let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    if file < 0 { return }
    _ = "apus-worker".withCString { write(file, $0, 11) }
    close(file)
  }
}

/// Takes over the reference that `start` handed to the thread.
private func workerMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  Unmanaged<WorkerThread>.fromOpaque(argument!).takeRetainedValue().main()
  return nil
}
