// The bytes of a file or stream. With the others of this folder the only file of ApusContainers that owns raw memory:
// everything behind it sees `Span<UInt8>` or a `Tensor` whose range was checked here.

import ApusTensor
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// The bytes of one file or stream, in memory of this process: what happens to the file afterwards changes nothing.
///
/// Large elements of tensors may be left in the file until somebody asks for them (`Reading.structure`,
/// `Reading.ranges`). Only `Reading.mapped` maps the file, with all that this means; see docs/security.md.
package final class FileBytes: Sendable {
  /// What is read when a regular file is opened.
  package enum Reading: Sendable {
    /// Everything.
    case everything
    /// Everything but the large byte fields that the outline names.
    case structure(WireOutline)
    /// Nothing: only the ranges that tensors refer to, when they are made. There is no span of all bytes.
    case ranges
    /// Nothing: the file is mapped. It must neither shrink nor be written to as long as a tensor refers to it. So are
    /// files that begin with `WireOutline.mappedSignature`.
    case mapped
  }

  /// The name for messages.
  package let name: String
  package let count: Int
  /// The file, where it is one and not mapped.
  package let reader: FileReader?
  /// All bytes; those of `gaps` are zeros here. nil for `Reading.ranges`.
  private let block: TensorStorage?
  /// The storages of the ranges that are read later, by their first byte.
  private let gaps: Mutex<Gaps?>
  /// What is read is charged here.
  let account: MemoryAccount?
  /// The file, where it is mapped.
  package let mapping: MappedFile?

  private init(
    name: String, count: Int, reader: FileReader?, block: TensorStorage?, gaps: [Gap] = [],
    account: MemoryAccount?, mapping: MappedFile? = nil
  ) {
    (self.name, self.count, self.reader, self.block, self.account) = (name, count, reader, block, account)
    self.mapping = mapping
    self.gaps = Mutex(gaps.isEmpty ? nil : Gaps(gaps))
  }

  /// A range of the file that is read later, and where it goes.
  typealias Gap = (start: Int, storage: TensorStorage)

  /// Few files have gaps.
  private final class Gaps {
    private var storages: [Int: TensorStorage] = [:]

    init(_ gaps: [Gap]) {
      for gap in gaps { storages[gap.start] = gap.storage }
    }

    /// The storage of the range that begins at `start`.
    subscript(start: Int) -> TensorStorage? {
      get { storages[start] }
      set { storages[start] = newValue }
    }
  }

  /// Tensors of at least so many bytes may stay in the file until they are asked for.
  package static let smallestGap = 1 << 16

  // MARK: - Bytes that are in memory

  /// Holds a copy of `bytes`, charged to `account`.
  package convenience init(
    copying bytes: some Sequence<UInt8>, name: String = "model", account: MemoryAccount? = nil
  ) throws(LoadError) {
    let array = Array(bytes)
    let storage: TensorStorage
    do throws(TensorError) {
      storage = try TensorStorage(byteCount: array.count, account: account)
    } catch {
      throw LoadError(error).inFile(name)
    }
    array.withUnsafeBytes { source in
      // In bounds: the storage has as many bytes, and nobody else refers to it yet.
      if let start = source.baseAddress { storage.base.copyMemory(from: start, byteCount: source.count) }
    }
    self.init(name: name, count: array.count, reader: nil, block: storage, account: nil)
  }

  /// Holds the bytes of a storage.
  convenience init(_ storage: TensorStorage, name: String) {
    self.init(name: name, count: storage.byteCount, reader: nil, block: storage, account: nil)
  }

  /// Bytes of the same name and account, `byteCount` of them, all of which `fill` appends.
  func derived(
    byteCount: Int, _ fill: (inout OutputSpan<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) -> FileBytes {
    let storage: TensorStorage
    do throws(TensorError) {
      storage = try TensorStorage(byteCount: byteCount, account: account)
    } catch {
      throw LoadError(error)
    }
    // The storage has as many bytes, and nobody else refers to it yet.
    let buffer = UnsafeMutableBufferPointer(
      start: storage.base.assumingMemoryBound(to: UInt8.self), count: byteCount)
    var output = OutputSpan(buffer: buffer, initializedCount: 0)
    try fill(&output)
    let written = output.finalize(for: buffer)
    precondition(written == byteCount, "\(written) bytes where \(byteCount) were announced")
    return FileBytes(name: name, count: byteCount, reader: nil, block: storage, account: account)
  }

  /// Refers to `byteCount` bytes at `base` that somebody else owns and nobody changes; `release` is called when no
  /// tensor refers to them any more.
  package convenience init(
    borrowing base: UnsafeRawPointer, byteCount: Int, name: String = "model", release: @escaping @Sendable () -> Void
  ) {
    let storage = TensorStorage(
      base: UnsafeMutableRawPointer(mutating: base), byteCount: byteCount, release: { _, _ in release() })
    self.init(name: name, count: byteCount, reader: nil, block: storage, account: nil)
  }

  // MARK: - Files

  /// Reads the file at `path`, or the pipe or socket.
  package static func open(
    path: String, limits: LoadLimits = LoadLimits(), reading: Reading = .everything, account: MemoryAccount? = nil
  ) throws(LoadError) -> FileBytes {
    if path.isEmpty { throw LoadError(.cannotRead, "the path of a file was expected; found an empty text") }
    let descriptor = Descriptor(opening: path)
    guard descriptor.isOpen else { throw Descriptor.error("cannot open the file", errno).inFile(path) }
    return try FileBytes(descriptor, name: path, anyStream: false, limits: limits, reading: reading, account: account)
  }

  /// Reads what `descriptor` is open for and does not close it. Standard input is 0.
  package static func read(
    descriptor: Int32, name: String, limits: LoadLimits = LoadLimits(), reading: Reading = .everything,
    account: MemoryAccount? = nil
  ) throws(LoadError) -> FileBytes {
    try FileBytes(
      Descriptor(borrowing: descriptor), name: name, anyStream: true, limits: limits, reading: reading, account: account
    )
  }

  /// What is kept of the file is charged to `account`; without one it may be as much as `LoadLimits.maximumLoadMemory`.
  package convenience init(
    _ descriptor: borrowing Descriptor, name: String, anyStream: Bool, limits: LoadLimits, reading: Reading,
    account: MemoryAccount?
  ) throws(LoadError) {
    let account = account ?? MemoryAccount(limit: limits.maximumLoadMemory, name: "maximumLoadMemory")
    do throws(LoadError) {
      let status = try descriptor.status()
      guard status.st_mode & S_IFMT == S_IFREG, descriptor.isAtStart else {
        switch status.st_mode & S_IFMT {
        case S_IFDIR: throw LoadError(.cannotRead, "a file was expected; this is a folder")
        case S_IFIFO, S_IFSOCK: break
        default:
          if !anyStream { throw LoadError(.cannotRead, "a regular file or a pipe was expected; this is a device") }
        }
        let storage = try Self.readAll(descriptor, limits: limits, account: account)
        self.init(name: name, count: storage.byteCount, reader: nil, block: storage, account: account)
        return
      }
      let count = Int(status.st_size)
      if count > limits.maximumFileBytes {
        throw .limit("maximumFileBytes", limits.maximumFileBytes, found: "the file has \(count) bytes")
      }
      if count > 0, Self.isMapped(descriptor, reading) {
        let mapping = try Self.map(descriptor, status)
        self.init(
          name: name, count: count, reader: nil, block: Self.storage(of: mapping), account: account, mapping: mapping)
        return
      }
      let reader = try FileReader(descriptor, name: name)
      if case .ranges = reading {
        self.init(name: name, count: count, reader: reader, block: nil, account: account)
        return
      }
      var content = try FileContent(reader, account: account)
      if case .structure(let outline) = reading { try content.readStructure(outline) }
      try content.readRest()
      let (block, gaps) = content.finish()
      if gaps.isEmpty {
        try reader.check()
        reader.close()
      }
      self.init(name: name, count: count, reader: reader, block: block, gaps: gaps, account: account)
    } catch {
      throw error.inFile(name)
    }
  }

  // MARK: - Access

  /// False for `Reading.ranges`.
  var isInMemory: Bool { block != nil }

  /// Whether every byte is in memory or mapped.
  package var isWhole: Bool { block != nil && gaps.withLock { $0 == nil } }

  /// Calls `body` with all bytes; what was left in the file is zeros. Not for `Reading.ranges`.
  package func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    guard let block else { return try body(Span()) }
    defer { withExtendedLifetime(block) {} }
    // The block keeps `count` readable bytes at `base` alive during the call, and the span cannot escape from it.
    let buffer = UnsafeBufferPointer(start: UnsafePointer(block.base.assumingMemoryBound(to: UInt8.self)), count: count)
    return try body(buffer.span)
  }

  /// Calls `body` with some of the bytes, which are read for it if they are still in the file.
  package func withBytes<Result>(
    in range: Range<Int>, _ body: (Span<UInt8>) throws(LoadError) -> Result
  ) throws(LoadError) -> Result {
    if isWhole || reader == nil {
      return try withBytes { (bytes: Span<UInt8>) throws(LoadError) in try body(bytes.extracting(range)) }
    }
    return try part(range).withBytes(body)
  }

  /// Some of the bytes, which must be in memory.
  package func bytes(in range: Range<Int>) -> [UInt8] {
    withBytes { (bytes: Span<UInt8>) in
      let part = bytes.extracting(range)
      return [UInt8](unsafeUninitializedCapacity: part.count) { buffer, initialized in
        // Both have as many bytes.
        part.withUnsafeBufferPointer { _ = buffer.initialize(fromContentsOf: $0) }
        initialized = part.count
      }
    }
  }

  /// Some of the bytes in memory of this process, 64-byte aligned, whatever happens to the file.
  package func copy(of range: Range<Int>) throws(LoadError) -> FileBytes {
    FileBytes(name: name, count: range.count, reader: nil, block: try copied(range), account: account)
  }

  /// Some of the bytes in memory of this process, read now if they are still in the file, and not kept beside that.
  package func part(_ range: Range<Int>) throws(LoadError) -> FileBytes {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    guard !isWhole, let reader else { return try copy(of: range) }
    do throws(TensorError) {
      let storage = try TensorStorage(byteCount: range.count, account: account)
      do throws(LoadError) {
        try reader.read(
          at: range.lowerBound, into: UnsafeMutableRawBufferPointer(start: storage.base, count: range.count))
      } catch {
        throw TensorError(.file, error.message, remedy: error.remedy)
      }
      return FileBytes(name: name, count: range.count, reader: nil, block: storage, account: account)
    } catch {
      throw LoadError(error).inFile(name)
    }
  }

  private func copied(_ range: Range<Int>) throws(LoadError) -> TensorStorage {
    let storage: TensorStorage
    do throws(TensorError) {
      storage = try TensorStorage(byteCount: range.count, account: account)
    } catch {
      throw LoadError(error)
    }
    withBytes { (bytes: Span<UInt8>) in
      // In bounds: the storage has as many bytes, and nobody else refers to it yet.
      bytes.extracting(range).withUnsafeBufferPointer { source in
        if let start = source.baseAddress { storage.base.copyMemory(from: start, byteCount: source.count) }
      }
    }
    return storage
  }

  /// The bytes in `range`, 64-byte aligned: those of the file, or a copy where they lie otherwise. Not for
  /// `Reading.ranges`, nor for files of which something was left out.
  package func slice(_ range: Range<Int>) throws(LoadError) -> TensorStorage {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    guard let block, UInt(bitPattern: block.base + range.lowerBound) % 64 == 0 else { return try copied(range) }
    return TensorStorage(
      base: block.base + range.lowerBound, byteCount: range.count, release: { _, _ in withExtendedLifetime(block) {} })
  }

  /// The bytes in `range`, where they lie if they are in memory or mapped; else they are read now. Not for files of
  /// which something was left out.
  package func view(_ range: Range<Int>) throws(LoadError) -> ByteView {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    if let block { return try ByteView(block).slice(range.lowerBound, range.count, "a part of the file") }
    guard let block = try part(range).block else { return ByteView([]) }
    return ByteView(block, fileOffset: range.lowerBound)
  }

  /// All bytes, as `view(_:)` gives them.
  package func view() throws(LoadError) -> ByteView { try view(0..<count) }

  /// The same file mapped, for whoever jumps about in it and needs few of its bytes (see `Reading.mapped`); the file
  /// itself where its bytes are in memory or mapped already.
  package func mapped() throws(LoadError) -> FileBytes {
    guard !isWhole, let reader, count > 0 else { return self }
    let mapping = try reader.map()
    return FileBytes(
      name: name, count: count, reader: nil, block: Self.storage(of: mapping), account: account, mapping: mapping)
  }

  /// True if the file was mapped and became shorter since, or its disk failed: bytes that were lost are zeros.
  package var isDamaged: Bool { mapping?.isDamaged ?? false }

  /// The tensor whose elements lie in `range`. The range must lie in the file and have as many bytes as the elements
  /// take; it may not cross the end of a range that was left in the file.
  package func tensor(_ dataType: DataType, _ shape: Shape, in range: Range<Int>) throws(LoadError) -> Tensor {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    precondition(dataType.byteCount(elements: shape.elementCount) == range.count)
    if let gap = gaps.withLock({ $0?[range.lowerBound] }), gap.byteCount == range.count {
      return Tensor(dataType: dataType, shape: shape, storage: gap)
    }
    if let block { return Tensor(dataType: dataType, shape: shape, storage: block, byteOffset: range.lowerBound) }
    return Tensor(dataType: dataType, shape: shape, storage: try storage(of: range))
  }

  /// A block of its own for a range of a file of which nothing is in memory.
  private func storage(of range: Range<Int>) throws(LoadError) -> TensorStorage {
    do throws(TensorError) {
      guard range.count >= Self.smallestGap, let reader else {
        let storage = try TensorStorage(byteCount: range.count, account: account)
        let buffer = UnsafeMutableRawBufferPointer(start: storage.base, count: range.count)
        do throws(LoadError) {
          try reader?.read(at: range.lowerBound, into: buffer)
        } catch {
          throw TensorError(.file, error.description)
        }
        return storage
      }
      let memory = try AddressRange.reserve(range.count)
      let storage = AddressRange.deferred(memory, of: reader, at: range.lowerBound, account: account)
      gaps.withLock { gaps in
        if gaps == nil { gaps = Gaps([]) }
        gaps?[range.lowerBound] = storage
      }
      return storage
    } catch {
      throw LoadError(error)
    }
  }

  // MARK: - Other ways

  /// True if the file shall be mapped, or is of the kind that an outline has mapped.
  private static func isMapped(_ descriptor: borrowing Descriptor, _ reading: Reading) -> Bool {
    switch reading {
    case .mapped: return true
    case .everything, .ranges: return false
    case .structure(let outline):
      let signature = outline.mappedSignature
      if signature.isEmpty { return false }
      var head = [UInt8](repeating: 0, count: signature.count)
      return pread(descriptor.number, &head, head.count, 0) == head.count && head == signature
    }
  }

  private static func map(_ descriptor: borrowing Descriptor, _ status: stat) throws(LoadError) -> MappedFile {
    guard let file = MappedFile.map(descriptor: descriptor.number, status: status) else {
      throw Descriptor.error("cannot map the file", errno)
    }
    return file
  }

  private static func storage(of mapping: MappedFile) -> TensorStorage {
    TensorStorage(
      base: mapping.base, byteCount: mapping.byteCount, release: { _, _ in withExtendedLifetime(mapping) {} })
  }

  /// Everything up to the end of the stream.
  private static func readAll(
    _ descriptor: borrowing Descriptor, limits: LoadLimits, account: MemoryAccount
  ) throws(LoadError) -> TensorStorage {
    var block = ByteBlock(account: account)
    let limit = min(limits.maximumStreamBytes, limits.maximumLoadMemory)
    let number = descriptor.number
    while true {
      let received = try block.append { (room) throws(LoadError) in
        room.withUnsafeMutableBufferPointer { buffer, count in
          // In bounds: nothing is in the room yet, and it has as many bytes.
          let received = Glibc.read(number, buffer.baseAddress, buffer.count)
          count = max(received, 0)
          return received
        }
      }
      if received == 0 { return block.finish() }
      if received < 0, errno != EINTR { throw Descriptor.error("cannot read the stream", errno) }
      if block.count > limit {
        let isStream = limit == limits.maximumStreamBytes
        throw .limit(isStream ? "maximumStreamBytes" : "maximumLoadMemory", limit, found: "the stream has more bytes")
      }
    }
  }
}
