// What the program prints: results to standard output, whose loss is an error, and notes to standard error.

import ApusFormats
import Foundation

enum Console {
  /// Prints a line. Throws if standard output is closed, full, or nobody reads it.
  static func print(_ text: String, terminator: String = "\n") throws(LoadError) {
    try write(Array((text + terminator).utf8))
  }

  /// Writes bytes to standard output.
  static func write(_ bytes: [UInt8]) throws(LoadError) {
    do throws(LoadError) {
      try OutputFile.write(bytes, to: "/dev/stdout")
    } catch {
      var error = error
      error.file = "standard output"
      throw error
    }
  }

  /// Tells a person something beside the result.
  static func note(_ text: String) { tell("note: \(text.printableMessage())\n") }

  /// A line that the next one replaces, if a person is looking; empty to remove it.
  static func progress(_ text: String) {
    if isatty(STDERR_FILENO) == 1 { tell("\r\u{1B}[K\(text.printable(limit: 78))") }
  }

  /// Writes to standard error. If that is not possible there is nobody to tell.
  static func tell(_ text: String) {
    let bytes = Array(text.utf8)
    var done = 0
    while done < bytes.count {
      let written = bytes.withUnsafeBytes { Foundation.write(STDERR_FILENO, $0.baseAddress?.advanced(by: done), bytes.count - done) }
      if written < 0, errno != EINTR { return }
      done += max(written, 0)
    }
  }
}

/// The three standard descriptors and the signals, as the program needs them.
enum ProcessSurroundings {
  /// Must be called first of all.
  static func prepare() {
    openStandardDescriptors()
    // A reader that goes, and a file that may not grow, are errors of the write call.
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
    removeFilesWhenInterrupted()
  }

  /// A descriptor that is closed would be given to the next file that is opened, which then would get what is printed.
  /// In its place comes one that cannot be read, or written, so that using it is an error as before.
  private static func openStandardDescriptors() {
    for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 {
      _ = open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY)
    }
  }

  /// Signals that end the program are taken by a thread of their own, which removes files that are half written first.
  /// Without the thread they end the program as ever.
  private static func removeFilesWhenInterrupted() {
    var signals = endingSignals()
    var attributes = pthread_attr_t()
    guard pthread_attr_init(&attributes) == 0 else { return }
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, CInt(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, 256 << 10)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    var thread = pthread_t()
    let status = pthread_create(&thread, &attributes, { _ in ProcessSurroundings.waitForSignal() }, nil)
    if status != 0 { pthread_sigmask(SIG_UNBLOCK, &signals, nil) }
  }

  /// Those that are not ignored, as `nohup` has it.
  private static func endingSignals() -> sigset_t {
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
      var action = sigaction()
      let isIgnored = sigaction(number, nil, &action) == 0 && action.__sigaction_handler.sa_handler.isIgnore
      if !isIgnored { sigaddset(&signals, number) }
    }
    return signals
  }

  private static func waitForSignal() -> UnsafeMutableRawPointer? {
    var signals = endingSignals()
    var number: CInt = 0
    while sigwait(&signals, &number) != 0 {}
    PendingFiles.removeAll()
    // The end that the signal would have had, with its status for the caller.
    signal(number, SIG_DFL)
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    kill(getpid(), number)
    return nil
  }
}

extension Optional where Wrapped == @convention(c) (CInt) -> Void {
  /// True for `SIG_IGN`.
  fileprivate var isIgnore: Bool { unsafeBitCast(self, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self) }
}
