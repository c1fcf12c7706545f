// Bytes of a file, or a part of them, that stay where they are as long as a view of them exists. The only file of these
// readers with a pointer in it: what is behind it asks by offset and gets a number, a smaller view or an error.

import ApusTensor

/// Some bytes and what keeps them alive. Every access is checked; none may wrap or trap, whatever the offset.
///
/// `@unchecked Sendable`: the pointer never changes and nobody writes to the bytes while a view of them exists.
package struct ByteView: @unchecked Sendable {
  private let owner: any AnyObject & Sendable
  private let base: UnsafeRawPointer
  package let count: Int
  /// Where the first byte lies in the file, for messages.
  package let fileOffset: Int

  private init(owner: any AnyObject & Sendable, base: UnsafeRawPointer, count: Int, fileOffset: Int) {
    (self.owner, self.base, self.count, self.fileOffset) = (owner, base, count, fileOffset)
  }

  /// The bytes of `storage`, which nobody may write to any more. `fileOffset`: where they begin in the file.
  package init(_ storage: TensorStorage, fileOffset: Int = 0) {
    self.init(owner: storage, base: UnsafeRawPointer(storage.base), count: storage.byteCount, fileOffset: fileOffset)
  }

  /// A copy of `bytes`.
  package init(_ bytes: [UInt8]) {
    let block = OwnedBytes(bytes)
    self.init(owner: block, base: UnsafeRawPointer(block.base), count: bytes.count, fileOffset: 0)
  }

  /// A copy of an array, at an address that does not move.
  private final class OwnedBytes: @unchecked Sendable {
    // Written in `init` only.
    let base: UnsafeMutableRawPointer

    init(_ bytes: [UInt8]) {
      base = .allocate(byteCount: max(bytes.count, 1), alignment: 64)
      // In bounds: the block has as many bytes.
      bytes.withUnsafeBytes { source in
        if let start = source.baseAddress { base.copyMemory(from: start, byteCount: source.count) }
      }
    }

    deinit { base.deallocate() }
  }

  /// The place of a byte of this view in the file, for messages.
  package func offset(_ position: Int) -> Int { fileOffset.addingReportingOverflow(position).partialValue }

  // MARK: - Parts

  /// The `length` bytes from `start`. `what` names them in the error where they do not lie in these bytes.
  package func slice(_ start: Int, _ length: Int, _ what: String) throws(LoadError) -> ByteView {
    // Neither is negative after the first two comparisons, so that the difference cannot overflow.
    guard start >= 0, length >= 0, start <= count, length <= count - start else {
      throw outside(start, length, what)
    }
    return ByteView(owner: owner, base: base + start, count: length, fileOffset: fileOffset + start)
  }

  /// Everything from `start` on.
  package func suffix(from start: Int, _ what: String) throws(LoadError) -> ByteView {
    guard start >= 0, start <= count else { throw outside(start, 0, what) }
    return try slice(start, count - start, what)
  }

  @inline(never) private func outside(_ start: Int, _ length: Int, _ what: String) -> LoadError {
    .malformed(
      "\(what) should take \(length) bytes from byte \(start); only \(count) bytes are there", at: offset(start))
  }

  // MARK: - Numbers

  /// A number at any alignment.
  @inline(__always) private func load<Number: FixedWidthInteger & BitwiseCopyable>(
    _ type: Number.Type, _ position: Int, _ what: String
  ) throws(LoadError) -> Number {
    let width = MemoryLayout<Number>.size
    guard position >= 0, count >= width, position <= count - width else { throw outside(position, width, what) }
    // In bounds by the line above.
    return Number(littleEndian: base.loadUnaligned(fromByteOffset: position, as: type))
  }

  package func u8(_ position: Int, _ what: String = "a byte") throws(LoadError) -> UInt8 {
    try load(UInt8.self, position, what)
  }
  package func u16(_ position: Int, _ what: String = "a number") throws(LoadError) -> UInt16 {
    try load(UInt16.self, position, what)
  }
  package func u32(_ position: Int, _ what: String = "a number") throws(LoadError) -> UInt32 {
    try load(UInt32.self, position, what)
  }
  package func u64(_ position: Int, _ what: String = "a number") throws(LoadError) -> UInt64 {
    try load(UInt64.self, position, what)
  }
  package func i32(_ position: Int, _ what: String = "a number") throws(LoadError) -> Int32 {
    try Int32(bitPattern: u32(position, what))
  }
  package func i64(_ position: Int, _ what: String = "a number") throws(LoadError) -> Int64 {
    try Int64(bitPattern: u64(position, what))
  }
  package func float32(_ position: Int, _ what: String = "a number") throws(LoadError) -> Float {
    try Float(bitPattern: u32(position, what))
  }
  package func float64(_ position: Int, _ what: String = "a number") throws(LoadError) -> Double {
    try Double(bitPattern: u64(position, what))
  }
  /// A double with the highest byte first.
  package func bigFloat64(_ position: Int, _ what: String = "a number") throws(LoadError) -> Double {
    try Double(bitPattern: u64(position, what).byteSwapped)
  }

  /// An unsigned number of 1 to 8 bytes, lowest byte first, as a count: at most Int.max.
  package func length(_ position: Int, bytes width: Int, _ what: String) throws(LoadError) -> Int {
    let value = try unsigned(position, bytes: width, what)
    guard let length = Int(exactly: value) else {
      throw .malformed("\(what) is \(value), more than any file has bytes", at: offset(position))
    }
    return length
  }

  /// An unsigned number of 1 to 8 bytes, lowest byte first.
  package func unsigned(_ position: Int, bytes width: Int, _ what: String) throws(LoadError) -> UInt64 {
    guard (1...8).contains(width) else { throw .malformed("\(what) should have 1 to 8 bytes; it has \(width)") }
    let part = try slice(position, width, what)
    return part.withBytes { bytes in
      var value: UInt64 = 0
      for index in stride(from: width - 1, through: 0, by: -1) { value = value << 8 | UInt64(bytes[index]) }
      return value
    }
  }

  // MARK: - Tensors

  /// A tensor whose elements are these bytes, lowest byte first, of which there must be as many as `shape` asks for. It
  /// shares them where they belong to a storage; other bytes are copied.
  package func tensor(_ type: DataType, _ shape: Shape) throws(LoadError) -> Tensor {
    guard type != .string, type.byteCount(elements: shape.elementCount) == count else {
      throw .malformed("a tensor of \(type) and \(shape) was expected; found \(count) bytes", at: fileOffset)
    }
    if let storage = owner as? TensorStorage {
      return Tensor(
        dataType: type, shape: shape, storage: storage, byteOffset: base - UnsafeRawPointer(storage.base))
    }
    return try .building(type, shape) { output in withBytes { for index in $0.indices { output.append($0[index]) } } }
  }

  // MARK: - Everything at once

  /// Calls `body` with all bytes.
  package func withBytes<Result, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    defer { withExtendedLifetime(owner) {} }
    // The owner keeps `count` readable bytes at `base` alive during the call, and the span cannot escape from it.
    let start = base.assumingMemoryBound(to: UInt8.self)
    return try body(UnsafeBufferPointer(start: start, count: count).span)
  }

  /// Calls `body` with all bytes, for functions of the C library.
  package func withUnsafeBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    defer { withExtendedLifetime(owner) {} }
    return try body(UnsafeRawBufferPointer(start: base, count: count))
  }

  /// A copy of all bytes.
  package var array: [UInt8] {
    defer { withExtendedLifetime(owner) {} }
    return [UInt8](UnsafeRawBufferPointer(start: base, count: count))
  }

  /// True if the first bytes are `prefix`.
  package func starts(with prefix: [UInt8]) -> Bool {
    count >= prefix.count && withBytes { bytes in prefix.indices.allSatisfy { bytes[$0] == prefix[$0] } }
  }

  /// The text that the bytes are in UTF-8; nil if they are none.
  package var text: String? {
    defer { withExtendedLifetime(owner) {} }
    return String(validating: UnsafeRawBufferPointer(start: base, count: count), as: UTF8.self)
  }

  /// True if the first byte lies at a multiple of `alignment` in memory.
  package func isAligned(to alignment: Int) -> Bool { UInt(bitPattern: base) % UInt(max(alignment, 1)) == 0 }
}

extension ByteView: Hashable {
  /// Views are equal if their bytes are, wherever they lie.
  package static func == (left: ByteView, right: ByteView) -> Bool {
    left.count == right.count
      && (left.base == right.base || left.isEqual(right))
  }

  private func isEqual(_ other: ByteView) -> Bool {
    withUnsafeBytes { bytes in other.withUnsafeBytes { bytes.elementsEqual($0) } }
  }

  package func hash(into hasher: inout Hasher) { withUnsafeBytes { hasher.combine(bytes: $0) } }
}
