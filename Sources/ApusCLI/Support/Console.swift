// What the program prints: results to standard output, whose loss is an error, and notes to standard error.

import Apus
import ApusFormats
import Foundation
import Synchronization

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

  private static let told = Mutex<Set<String>>([])

  /// Tells a person something beside the result, once: work that is done again finds the same.
  static func note(_ text: String) {
    if told.withLock({ $0.insert(text).inserted }) { tell("note: \(text.printableMessage())\n") }
  }

  /// A line that the next one replaces, if a person is looking; empty to remove it.
  static func progress(_ text: String) {
    if isatty(STDERR_FILENO) == 1 { tell("\r\u{1B}[K\(text.printable(limit: 78))") }
  }

  /// Writes to standard error. If that is not possible there is nobody to tell.
  static func tell(_ text: String) {
    let bytes = Array(text.utf8)
    var done = 0
    while done < bytes.count {
      let written = bytes.withUnsafeBytes {
        Foundation.write(STDERR_FILENO, $0.baseAddress?.advanced(by: done), bytes.count - done)
      }
      if written < 0, errno != EINTR { return }
      done += max(written, 0)
    }
  }
}

/// Prints a report as JSON.
func printJSON(_ report: some Encodable) throws { try Console.print(JSONReport.text(report)) }
