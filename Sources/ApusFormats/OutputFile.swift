// A file that is written from the beginning to the end.

#if canImport(Glibc)
import Glibc
#else
import Musl
#endif

/// A file that is written from the beginning to the end.
package struct OutputFile: ~Copyable {
  private let number: Int32
  private let path: String
  /// Bytes written so far.
  package private(set) var count = 0

  /// Makes the file at `path`, or empties it.
  package init(path: String) throws(LoadError) {
    number = Glibc.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    self.path = path
    if number < 0 { throw Descriptor.error("cannot write the file", errno).inFile(path) }
  }

  deinit { if number >= 0 { Glibc.close(number) } }

  package mutating func write(_ bytes: [UInt8]) throws(LoadError) {
    var done = 0
    while done < bytes.count {
      // In bounds: done < bytes.count.
      let written = bytes.withUnsafeBytes { all in
        let rest = UnsafeRawBufferPointer(rebasing: all[done...])
        return Glibc.write(number, rest.baseAddress, rest.count)
      }
      if written < 0 {
        if errno == EINTR { continue }
        throw Descriptor.error("cannot write the file", errno).inFile(path)
      }
      done += written
    }
    count += bytes.count
  }
}
