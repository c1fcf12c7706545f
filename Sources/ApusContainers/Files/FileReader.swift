// A file that is open for reading, and what the system says of it: its kind, its place, whether it has changed.

import ApusTensor
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Reads ranges of one regular file, from any thread, until it is closed, and tells whether the file stayed the same.
///
/// The file is not mapped for it: a reading beyond an end that has moved is an error, not a signal.
package final class FileReader: Sendable {
  /// The name for messages.
  package let name: String
  /// Bytes of the file when it was opened.
  package let count: Int
  private let descriptor: Atomic<Int32>
  private let stamp: Stamp
  private let failure = Mutex<LoadError?>(nil)

  /// What changes when somebody writes to a file.
  private struct Stamp: Sendable, Equatable {
    let size: Int
    let modified: [Int]

    init(_ status: stat) {
      size = Int(status.st_size)
      modified = [status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec]
    }
  }

  /// Reads what `other` is open for, independently of it.
  init(_ other: borrowing Descriptor, name: String) throws(LoadError) {
    let status = try other.status()
    let copy = fcntl(other.number, F_DUPFD_CLOEXEC, 3)
    guard copy >= 0 else { throw Descriptor.error("cannot open the file", errno) }
    descriptor = Atomic(copy)
    stamp = Stamp(status)
    count = stamp.size
    self.name = name
  }

  deinit { close() }

  /// Fills `buffer` with the bytes from `offset` on.
  package func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(LoadError) {
    do throws(LoadError) {
      try readAll(at: offset, into: buffer)
    } catch {
      failure.withLock { if $0 == nil { $0 = error.inFile(name) } }
      throw error.inFile(name)
    }
  }

  private func readAll(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(LoadError) {
    let number = descriptor.load(ordering: .acquiring)
    guard number >= 0 else { throw LoadError(.cannotRead, "the file is read no more: the model is loaded") }
    var done = 0
    while done < buffer.count {
      // In bounds: done < buffer.count.
      let received = pread(
        number, buffer.baseAddress.map { $0 + done }, min(buffer.count - done, Self.largestRead), offset + done)
      if received > 0 {
        done += received
      } else if received == 0 {
        throw FileReader.changed("it ended at byte \(offset + done) of \(count)")
      } else if errno != EINTR {
        throw Descriptor.error("cannot read the file", errno)
      }
    }
  }

  /// Throws if a reading has failed, or if somebody wrote to the file since it was opened.
  package func check() throws(LoadError) {
    if let error = failure.withLock({ $0 }) { throw error }
    let number = descriptor.load(ordering: .acquiring)
    guard number >= 0 else { return }
    var status = stat()
    guard fstat(number, &status) == 0 else { throw Descriptor.error("cannot read the file", errno).inFile(name) }
    if Stamp(status) != stamp { throw FileReader.changed("somebody wrote to it").inFile(name) }
  }

  /// Maps the file, which must not be empty.
  func map() throws(LoadError) -> MappedFile {
    try check()
    var status = stat()
    let number = descriptor.load(ordering: .acquiring)
    guard fstat(number, &status) == 0, let file = MappedFile.map(descriptor: number, status: status) else {
      throw Descriptor.error("cannot map the file", errno).inFile(name)
    }
    return file
  }

  /// Ends the reading: what is asked for afterwards is an error.
  package func close() {
    let number = descriptor.exchange(-1, ordering: .acquiringAndReleasing)
    if number >= 0 { Glibc.close(number) }
  }

  private static func changed(_ how: String) -> LoadError {
    LoadError(
      .cannotRead, "the file changed while it was read: \(how)",
      remedy: "Write a new version beside the file and rename it when it is whole")
  }

  /// The system reads at most 2 GiB at a time.
  private static let largestRead = 1 << 30
}

/// An open file descriptor, closed at the end of its life if it was opened here.
package struct Descriptor: ~Copyable {
  package let number: Int32
  private let isOwned: Bool

  /// Opens a file for reading; `isOpen` is false and errno set if that fails. Opening a pipe waits for its writer
  /// unless `waiting` is false.
  package init(opening path: String, waiting: Bool = true) {
    number = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (waiting ? 0 : O_NONBLOCK))
    isOwned = true
  }

  package init(borrowing number: Int32) {
    self.number = number
    isOwned = false
  }

  deinit { if isOwned && number >= 0 { close(number) } }

  package var isOpen: Bool { number >= 0 }

  /// True if nothing has been read from the file yet.
  var isAtStart: Bool { lseek(number, 0, SEEK_CUR) == 0 }

  package func status() throws(LoadError) -> stat {
    var status = stat()
    guard fstat(number, &status) == 0 else { throw Self.error("cannot read what kind of file this is", errno) }
    return status
  }

  /// The real path of the open file, from the kernel; nil if it will not tell.
  package var realPath: String? {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
    let length = readlink("/proc/self/fd/\(number)", &buffer, buffer.count - 1)
    return length > 0 ? String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
  }

  package static func error(_ what: String, _ code: Int32) -> LoadError {
    let reason = strerror(code).map { String(cString: $0) } ?? "error \(code)"
    return LoadError(.cannotRead, "\(what): \(reason)")
  }
}
