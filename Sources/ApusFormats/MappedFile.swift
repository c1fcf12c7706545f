// The bytes of a file, mapped read-only, or of a stream, read into memory. The only file of ApusFormats that owns raw
// memory: everything behind it sees `Span<UInt8>` or a `Tensor` whose range was checked here.

import ApusTensor

#if canImport(Glibc)
import Glibc
#else
import Musl
#endif

/// The bytes of one file or stream. They stay where they are until the last tensor that lies in them is gone.
///
/// The file must not shrink while it is mapped: the system would answer a read past the new end with SIGBUS. See
/// docs/security.md.
package final class MappedFile: Sendable {
  /// The name for messages.
  package let name: String
  /// All bytes, as the storage that tensors refer to.
  package let storage: TensorStorage
  package var count: Int { storage.byteCount }

  private init(name: String, storage: TensorStorage) {
    self.name = name
    self.storage = storage
  }

  /// Holds a copy of `bytes`.
  package init(copying bytes: some Sequence<UInt8>, name: String = "model") {
    let array = Array(bytes)
    let storage = TensorStorage(byteCount: array.count)
    array.withUnsafeBytes { source in
      // In bounds: the storage has as many bytes, and nobody else refers to it yet.
      if let start = source.baseAddress { storage.base.copyMemory(from: start, byteCount: source.count) }
    }
    self.name = name
    self.storage = storage
  }

  /// Refers to `byteCount` bytes at `base` that somebody else owns and nobody changes; `release` is called when no tensor
  /// refers to them any more.
  package convenience init(
    borrowing base: UnsafeRawPointer, byteCount: Int, name: String = "model", release: @escaping @Sendable () -> Void
  ) {
    let storage = TensorStorage(
      base: UnsafeMutableRawPointer(mutating: base), byteCount: byteCount, release: { _, _ in release() })
    self.init(name: name, storage: storage)
  }

  /// Maps the file at `path`, or reads it if it is a pipe or socket.
  package static func open(path: String, limits: LoadLimits = LoadLimits()) throws(LoadError) -> MappedFile {
    let descriptor = Descriptor(opening: path)
    guard descriptor.isOpen else { throw Descriptor.error("cannot open the file", errno).inFile(path) }
    return try MappedFile(descriptor, name: path, anyStream: false, limits: limits)
  }

  /// Maps or reads what `descriptor` is open for and does not close it. Standard input is 0.
  package static func read(
    descriptor: Int32, name: String, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> MappedFile {
    try MappedFile(Descriptor(borrowing: descriptor), name: name, anyStream: true, limits: limits)
  }

  convenience init(
    _ descriptor: borrowing Descriptor, name: String, anyStream: Bool, limits: LoadLimits
  ) throws(LoadError) {
    do throws(LoadError) {
      let status = try descriptor.status()
      let storage: TensorStorage
      if status.st_mode & S_IFMT == S_IFREG, descriptor.isAtStart {
        storage = try Self.map(descriptor, byteCount: Int(status.st_size), limits: limits)
      } else {
        switch status.st_mode & S_IFMT {
        case S_IFDIR: throw LoadError(.cannotRead, "a file was expected; this is a folder")
        case S_IFIFO, S_IFSOCK: break
        default: if !anyStream { throw LoadError(.cannotRead, "a regular file or a pipe was expected; this is a device") }
        }
        storage = try Self.readAll(descriptor, limits: limits)
      }
      self.init(name: name, storage: storage)
    } catch {
      throw error.inFile(name)
    }
  }

  /// Calls `body` with all bytes.
  package func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    defer { withExtendedLifetime(storage) {} }
    // The storage keeps `count` readable bytes at `base` alive during the call, and the span cannot escape from it.
    let buffer = UnsafeBufferPointer(start: UnsafePointer(storage.base.assumingMemoryBound(to: UInt8.self)), count: count)
    return try body(buffer.span)
  }

  /// The tensor whose elements lie in `range`. The range must lie in the file and have as many bytes as the elements take.
  package func tensor(_ dataType: DataType, _ shape: Shape, in range: Range<Int>) -> Tensor {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    precondition(dataType.byteCount(elements: shape.elementCount) == range.count)
    return Tensor(dataType: dataType, shape: shape, storage: storage, byteOffset: range.lowerBound)
  }

  private static func map(
    _ descriptor: borrowing Descriptor, byteCount: Int, limits: LoadLimits
  ) throws(LoadError) -> TensorStorage {
    if byteCount > limits.maximumFileBytes {
      throw .limit("maximumFileBytes", limits.maximumFileBytes, found: "the file has \(byteCount) bytes")
    }
    if byteCount <= 0 { return TensorStorage(byteCount: 0) }
    guard let base = mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor.number, 0), base != MAP_FAILED else {
      throw Descriptor.error("cannot map the file", errno)
    }
    let pageSize = Int(sysconf(Int32(_SC_PAGESIZE)))
    let address = UInt(bitPattern: base)
    return TensorStorage(
      base: base, byteCount: byteCount,
      discard: { range in
        // Whole pages around the range. The mapping is private, read-only and of a file, so pages that are dropped come
        // back from the file with the same bytes; the range is clamped to the mapping.
        let start = max(range.lowerBound, 0) / pageSize * pageSize
        let end = min(range.upperBound, byteCount)
        guard start < end, let first = UnsafeMutableRawPointer(bitPattern: address + UInt(start)) else { return }
        _ = madvise(first, end - start, MADV_DONTNEED)
      },
      release: { base, byteCount in munmap(base, byteCount) })
  }

  /// Everything up to the end of the stream, in a block from malloc that grows by doubling (realloc moves large blocks by
  /// changing page tables).
  private static func readAll(_ descriptor: borrowing Descriptor, limits: LoadLimits) throws(LoadError) -> TensorStorage {
    var capacity = 1 << 16
    var count = 0
    guard var block = malloc(capacity) else { throw LoadError(.cannotRead, "no memory to read the stream") }
    while true {
      if count == capacity {
        guard let larger = realloc(block, capacity * 2) else {
          free(block)
          throw LoadError(.cannotRead, "no memory to read more than \(count) bytes of the stream")
        }
        block = larger
        capacity *= 2
      }
      // In bounds: count < capacity.
      let received = Glibc.read(descriptor.number, block + count, capacity - count)
      if received == 0 { break }
      if received < 0 {
        if errno == EINTR { continue }
        let error = Descriptor.error("cannot read the stream", errno)
        free(block)
        throw error
      }
      count += received
      if count > limits.maximumStreamBytes {
        free(block)
        throw .limit("maximumStreamBytes", limits.maximumStreamBytes, found: "the stream has more bytes")
      }
    }
    return TensorStorage(base: block, byteCount: count, release: { block, _ in free(block) })
  }
}

/// An open file descriptor, closed at the end of its life if it was opened here.
struct Descriptor: ~Copyable {
  let number: Int32
  private let isOwned: Bool

  /// Opens a file for reading; `isOpen` is false and errno set if that fails. Opening a pipe waits for its writer unless
  /// `waiting` is false.
  init(opening path: String, waiting: Bool = true) {
    number = Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (waiting ? 0 : O_NONBLOCK))
    isOwned = true
  }

  init(borrowing number: Int32) {
    self.number = number
    isOwned = false
  }

  deinit { if isOwned && number >= 0 { close(number) } }

  var isOpen: Bool { number >= 0 }

  /// True if nothing has been read from the file yet.
  var isAtStart: Bool { lseek(number, 0, SEEK_CUR) == 0 }

  func status() throws(LoadError) -> stat {
    var status = stat()
    guard fstat(number, &status) == 0 else { throw Self.error("cannot read what kind of file this is", errno) }
    return status
  }

  /// The real path of the open file, from the kernel; nil if it will not tell.
  var realPath: String? {
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
    let length = readlink("/proc/self/fd/\(number)", &buffer, buffer.count - 1)
    return length > 0 ? String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
  }

  static func error(_ what: String, _ code: Int32) -> LoadError {
    let reason = strerror(code).map { String(cString: $0) } ?? "error \(code)"
    return LoadError(.cannotRead, "\(what): \(reason)")
  }
}

/// Files of the system that hold one short line.
enum SmallFile {
  static func firstLine(of path: String) -> String? {
    let descriptor = Descriptor(opening: path)
    guard descriptor.isOpen else { return nil }
    var buffer = [UInt8](repeating: 0, count: 256)
    let count = Glibc.read(descriptor.number, &buffer, buffer.count)
    guard count > 0 else { return nil }
    return String(decoding: buffer[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
  }
}

extension Tensor {
  /// A tensor whose bytes `body` appends, all of them, in row-major order and the byte order of the file formats (little
  /// endian, as on every machine that Apus runs on). The size must have been checked against the limits. Not for strings.
  static func building<Failure: Error>(
    _ dataType: DataType, _ shape: Shape, _ body: (inout OutputSpan<UInt8>) throws(Failure) -> Void
  ) throws(Failure) -> Tensor {
    let tensor = Tensor(uninitialized: dataType, shape: shape)
    // The tensor owns `byteCount` bytes there, and nobody else has seen it yet.
    let buffer = UnsafeMutableBufferPointer(
      start: tensor.storage.base.assumingMemoryBound(to: UInt8.self), count: tensor.byteCount)
    var output = OutputSpan(buffer: buffer, initializedCount: 0)
    try body(&output)
    let written = output.finalize(for: buffer)
    precondition(written == tensor.byteCount, "\(written) bytes for a tensor of \(tensor.byteCount)")
    return tensor
  }

  /// Calls `body` with the bytes of the elements. Empty for strings.
  func withByteSpan<Result, Failure: Error>(_ body: (Span<UInt8>) throws(Failure) -> Result) throws(Failure) -> Result {
    try withUnsafeBytes { (bytes: UnsafeRawBufferPointer) throws(Failure) -> Result in
      // Bytes may be read as UInt8 whatever they are bound to; the tensor keeps them alive during the call.
      try body(bytes.assumingMemoryBound(to: UInt8.self).span)
    }
  }
}
