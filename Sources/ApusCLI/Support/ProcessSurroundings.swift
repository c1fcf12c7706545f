// The three standard descriptors and the signals, as the program needs them.

import ApusFormats
import Foundation
import Synchronization

enum ProcessSurroundings {
  /// Must be called first of all.
  static func prepare() {
    openStandardDescriptors()
    // A reader that goes, and a file that may not grow, are errors of the write call.
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
    Interruption.removeFilesBeforeTheEnd()
  }

  /// Calls `body` on a stack that holds what may lie in each other in a file, however small the main one is.
  static func withLargeStack(_ body: @escaping () -> Int32) -> Int32 {
    final class Work {
      let body: () -> Int32
      var result: Int32 = 0
      init(_ body: @escaping () -> Int32) { self.body = body }
    }
    let work = Work(body)
    var attributes = pthread_attr_t()
    guard pthread_attr_init(&attributes) == 0 else { return body() }
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setstacksize(&attributes, stackBytes)
    var thread = pthread_t()
    // The thread ends before this function does, so the work lives long enough.
    let status = pthread_create(
      &thread, &attributes,
      { argument in
        guard let argument else { return nil }
        let work = Unmanaged<Work>.fromOpaque(argument).takeUnretainedValue()
        work.result = work.body()
        return nil
      }, Unmanaged.passUnretained(work).toOpaque())
    guard status == 0 else { return body() }
    pthread_join(thread, nil)
    return withExtendedLifetime(work) { work.result }
  }

  private static let stackBytes = 16 << 20

  /// A descriptor that is closed would be given to the next file that is opened, which then would get what is printed.
  /// In its place comes one that cannot be read, or written, so that using it is an error as before.
  private static func openStandardDescriptors() {
    for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 {
      _ = open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
  }
}

/// Signals that end the program: files that are half written are removed first.
private enum Interruption {
  /// The signal that came; 0 before.
  private static let number = Atomic<CInt>(0)
  /// What the handler wakes the thread with. Never freed: a signal may come at any time.
  nonisolated(unsafe) private static let arrival = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

  /// A handler may only do what interrupts nothing, so the work is that of a thread. Without the thread, signals end
  /// the program as ever.
  static func removeFilesBeforeTheEnd() {
    number.store(0, ordering: .relaxed)
    var attributes = pthread_attr_t()
    guard sem_init(arrival, 0, 0) == 0, pthread_attr_init(&attributes) == 0 else { return }
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, CInt(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, 256 << 10)
    var thread = pthread_t()
    guard pthread_create(&thread, &attributes, { _ in Interruption.waitForEnd() }, nil) == 0 else { return }
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] where !isIgnored(signal) {
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { Interruption.note($0) }
      action.sa_flags = CInt(SA_RESTART)
      sigaction(signal, &action, nil)
    }
  }

  /// The handler. Both statics were initialised before it was installed; `sem_post` may be called in one.
  private static func note(_ signal: CInt) {
    number.store(signal, ordering: .releasing)
    sem_post(arrival)
  }

  /// True where the caller wants the program to go on, as `nohup` does.
  private static func isIgnored(_ signal: CInt) -> Bool {
    var action = sigaction()
    guard sigaction(signal, nil, &action) == 0 else { return true }
    return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
  }

  private static func waitForEnd() -> UnsafeMutableRawPointer? {
    while sem_wait(arrival) != 0 {}
    PendingFiles.removeAll()
    // The end that the signal would have had, with its status for the caller.
    let number = self.number.load(ordering: .acquiring)
    signal(number, SIG_DFL)
    kill(getpid(), number)
    return nil
  }
}
