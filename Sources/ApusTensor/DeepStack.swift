// Work that recurses runs on a stack of known size, whatever thread the caller has.

import CApusProcess

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Graphs lie in graphs, and values in values, as deep as the limits allow; the walk over them must not depend on the
/// stack of the caller, which may be small (threads of a server, fibers, `ulimit -s`).
package enum DeepStack {
  /// Enough for messages a thousand deep, which are graphs three hundred deep.
  package static let byteCount = 32 << 20

  /// What work needs that recurses as deep as messages lie in each other; three levels are a graph inside a node.
  package static func bytes(forMessages depth: Int) -> Int {
    min(byteCount, smallest + byteCount / 1000 * max(depth, 0))
  }

  /// What work needs that does not recurse.
  private static let smallest = 1 << 20

  /// Calls `body` where at least `needed` bytes of stack are left: on this thread, which costs nothing, or on one of
  /// its own with `byteCount` bytes, and waits for it. On this thread too if the system has none to give.
  package static func run<Result, Failure: Error>(
    needing needed: Int = byteCount, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    if isDeep || apus_stack_remaining() >= needed { return try body() }
    var outcome: Swift.Result<Result, Failure>?
    withoutActuallyEscaping({
      do throws(Failure) {
        outcome = .success(try body())
      } catch {
        outcome = .failure(error)
      }
    }) { work in
      // The job lives until the thread has ended.
      var job = Job(work: work)
      withUnsafeMutablePointer(to: &job) { job in
        if !call(deepMain, job) { job.pointee.work() }
      }
    }
    guard let outcome else { preconditionFailure("the thread ended without its work") }
    return try outcome.get()
  }

  /// True on a thread that `run` made.
  private static var isDeep: Bool { pthread_getspecific(mark) != nil }

  /// Marks the threads that `run` makes.
  private static let mark: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key, nil)
    return key
  }()

  fileprivate struct Job {
    let work: () -> Void
  }

  /// False if there is no thread to be had.
  private static func call(
    _ main: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer?, _ job: UnsafeMutablePointer<Job>
  ) -> Bool {
    var attributes = pthread_attr_t()
    guard pthread_attr_init(&attributes) == 0 else { return false }
    defer { pthread_attr_destroy(&attributes) }
    var thread = pthread_t()
    guard pthread_attr_setstacksize(&attributes, byteCount) == 0,
      pthread_create(&thread, &attributes, main, job) == 0
    else { return false }
    pthread_join(thread, nil)
    return true
  }

  fileprivate static func enter(_ job: UnsafeMutablePointer<Job>) {
    // Any address that is not nil; it is never looked at.
    pthread_setspecific(mark, job)
    job.pointee.work()
  }
}

private func deepMain(_ job: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  if let job { DeepStack.enter(job.assumingMemoryBound(to: DeepStack.Job.self)) }
  return nil
}
