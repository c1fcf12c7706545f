// The start of threads of the engine: workers, and those that take runs.

import CApusProcess
import Glibc

/// What a new thread is given: what to do.
final class WorkerThread: Sendable {
  private let body: @Sendable () -> Void
  private let name: StaticString
  /// The start, which a fork waits for.
  private let beginning: UInt32

  private init(_ name: StaticString, _ body: @escaping @Sendable () -> Void) {
    (self.name, self.body) = (name, body)
    beginning = apus_fork_begin()
  }

  /// Starts `count` workers, or as many as the system allows. They take no signals: those are the host program's.
  static func start(_ count: Int, on core: PoolCore) -> [pthread_t] {
    withoutSignals {
      var threads: [pthread_t] = []
      threads.reserveCapacity(count)
      while threads.count < count {
        let index = threads.count
        guard let thread = start(WorkerThread("apus-worker") { core.work(as: index) }) else { break }
        threads.append(thread)
      }
      return threads
    }
  }

  /// Starts a thread for runs, whose end nobody waits for. False: the system does not allow it.
  static func start(apart body: @escaping @Sendable () -> Void) -> Bool {
    guard let thread = withoutSignals({ start(WorkerThread("apus-runner", body)) }) else { return false }
    pthread_detach(thread)
    return true
  }

  private static func withoutSignals<Result>(_ body: () -> Result) -> Result {
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    // What a thread brings upon itself: blocked, it would end the process before any handler sees it, as that of a
    // mapped file that became shorter.
    for fault in [SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP] { sigdelset(&all, fault) }
    pthread_sigmask(SIG_SETMASK, &all, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    return body()
  }

  private static func start(_ worker: WorkerThread) -> pthread_t? {
    var thread = pthread_t()
    var attributes = pthread_attr_t()
    guard pthread_attr_init(&attributes) == 0 else {
      apus_fork_end(worker.beginning)
      return nil
    }
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
    body()
  }

  /// Gives the calling thread a name that `top -H` shows.
  private func nameThread() {
    let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
    if file < 0 { return }
    _ = write(file, name.utf8Start, name.utf8CodeUnitCount)
    close(file)
  }
}

/// Takes over the reference that `start` handed to the thread.
private func workerMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  Unmanaged<WorkerThread>.fromOpaque(argument!).takeRetainedValue().main()
  return nil
}
