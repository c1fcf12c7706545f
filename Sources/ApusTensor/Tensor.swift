// A dense tensor: element type, shape, and a contiguous row-major range of some storage.

/// A dense, immutable tensor in row-major order. Copies share their storage.
public struct Tensor: Sendable {
  public let dataType: DataType
  public let shape: Shape
  package let storage: TensorStorage
  /// Bytes from the start of the storage to the first element.
  package let byteOffset: Int

  /// The number of elements.
  public var count: Int { shape.elementCount }
  public var rank: Int { shape.rank }

  /// The bytes that the elements take; 0 for strings.
  public var byteCount: Int { dataType.byteCount(elements: count) ?? 0 }

  /// The first byte, of any alignment, read from the file now if it was not yet. Valid while the tensor lives.
  package var base: UnsafeRawPointer { UnsafeRawPointer(storage.base + byteOffset) }

  /// The storage must hold the elements from `byteOffset` on.
  package init(dataType: DataType, shape: Shape, storage: TensorStorage, byteOffset: Int = 0) {
    self.dataType = dataType
    self.shape = shape
    self.storage = storage
    self.byteOffset = byteOffset
    assert(dataType == .string ? storage.strings.count == count : byteOffset + byteCount <= storage.byteCount)
  }

  /// An uninitialised tensor for somebody who fills it before anyone else sees it, charged to `account`.
  package init(uninitialized dataType: DataType, shape: Shape, account: MemoryAccount? = nil) throws(TensorError) {
    guard let count = shape.checkedElementCount, let bytes = dataType.byteCount(elements: count) else {
      throw TensorError(.mismatch, "\(dataType)\(shape) is no possible tensor")
    }
    self.init(dataType: dataType, shape: shape, storage: try TensorStorage(byteCount: bytes, account: account))
  }

  /// A stand-in for somebody who looks at type and shape only: it has no bytes to read.
  package init(placeholder dataType: DataType, shape: Shape) {
    self.init(placeholder: dataType, shape: shape, storage: TensorStorage(strings: []))
  }

  /// What is left of a tensor whose bytes nobody needs any more: asking `storage.load` for them is an error.
  package init(released dataType: DataType, shape: Shape) {
    self.init(placeholder: dataType, shape: shape, storage: TensorStorage.released)
  }

  /// True for what `init(released:shape:)` makes.
  package var isReleased: Bool { storage === TensorStorage.released }

  private init(placeholder dataType: DataType, shape: Shape, storage: TensorStorage) {
    (self.dataType, self.shape, self.storage, byteOffset) = (dataType, shape, storage, 0)
  }

  /// A tensor of zero bytes (0, false); of empty strings for the string type. For shapes that the program itself chose:
  /// traps if the shape is not possible or there is no memory. `init(zeros:validating:)` throws instead.
  public init(zeros dataType: DataType, shape: Shape) {
    self = Tensor.unwrap { () throws(TensorError) in try Tensor(zeros: dataType, validating: shape) }
  }

  /// A string tensor. Traps if `strings` has not as many elements as `shape`; `init(strings:validating:)` throws
  /// instead.
  public init(strings: [String], shape: Shape) {
    precondition(strings.count == shape.elementCount, "\(strings.count) strings for a shape of \(shape)")
    self.init(dataType: .string, shape: shape, storage: TensorStorage(strings: strings))
  }

  /// A tensor of `elements` in row-major order. For literals and arrays whose size the program itself chose: traps if
  /// `elements` has not as many elements as `shape`, or there is no memory. `init(_:validating:)` throws instead.
  public init<Element: TensorElement>(_ elements: [Element], shape: Shape) {
    self = Tensor.unwrap { () throws(TensorError) in try Tensor(elements, validating: shape) }
  }

  /// A tensor of rank 1.
  public init<Element: TensorElement>(_ elements: [Element]) { self.init(elements, shape: [elements.count]) }

  /// A tensor of rank 0.
  public init<Element: TensorElement>(scalar: Element) { self.init([scalar], shape: []) }

  /// The same elements under another shape of as many elements; traps if that has another number.
  /// `reshaped(validating:)` throws instead.
  public func reshaped(to shape: Shape) -> Tensor {
    precondition(shape.elementCount == count, "\(self.shape) cannot become \(shape)")
    return Tensor(dataType: dataType, shape: shape, storage: storage, byteOffset: byteOffset)
  }

  /// The elements in row-major order, or nil if the element type is another.
  public func elements<Element: TensorElement>(as type: Element.Type = Element.self) -> [Element]? {
    guard dataType == Element.dataType, !isReleased else { return nil }
    return withUnsafeBytes { bytes in
      [Element](unsafeUninitializedCapacity: count) { buffer, initialized in
        initialized = count
        if let target = buffer.baseAddress, count > 0 {
          UnsafeMutableRawPointer(target).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        }
      }
    }
  }

  /// The strings in row-major order, or nil if this is no string tensor.
  public var strings: [String]? { dataType == .string ? storage.strings : nil }

  /// Calls `body` with the bytes of the elements, which may have any alignment. Empty for strings.
  public func withUnsafeBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let result = try body(UnsafeRawBufferPointer(start: base, count: isReleased ? 0 : byteCount))
    withExtendedLifetime(storage) {}
    return result
  }

  /// Calls `body` with the bytes of the elements, from the first to the last, in pieces of `pieceBytes` bytes, of which
  /// the last may have fewer, until it returns false. What still lies in a file is read piece by piece and not kept in
  /// memory. Not for strings.
  ///
  /// - Returns: false if `body` did.
  package func allPieces(
    of pieceBytes: Int, satisfy body: (_ byteOffset: Int, UnsafeRawBufferPointer) -> Bool
  ) throws(TensorError) -> Bool {
    defer { withExtendedLifetime(storage) {} }
    let pending = storage.deferred.flatMap { $0.isPending ? $0 : nil }
    let buffer = try pending.map { _ throws(TensorError) in try TensorStorage(byteCount: min(pieceBytes, byteCount)) }
    for start in stride(from: 0, to: byteCount, by: pieceBytes) {
      let count = min(pieceBytes, byteCount - start)
      var piece = UnsafeRawBufferPointer(start: nil, count: 0)
      if let pending, let buffer {
        let target = UnsafeMutableRawBufferPointer(start: buffer.base, count: count)
        try pending.copy(from: byteOffset + start, into: target)
        piece = UnsafeRawBufferPointer(target)
      } else {
        piece = UnsafeRawBufferPointer(start: base + start, count: count)
      }
      guard body(start, piece) else { return false }
    }
    return true
  }

  /// The elements of an integer or bool tensor as `Int`, or nil for other types. uint64 wraps.
  package var integers: [Int]? {
    switch dataType {
    case .int64: elements(as: Int.self)
    case .int32: elements(as: Int32.self)?.map { Int($0) }
    case .int16: elements(as: Int16.self)?.map { Int($0) }
    case .int8: elements(as: Int8.self)?.map { Int($0) }
    case .uint8: elements(as: UInt8.self)?.map { Int($0) }
    case .uint16: elements(as: UInt16.self)?.map { Int($0) }
    case .uint32: elements(as: UInt32.self)?.map { Int($0) }
    case .uint64: elements(as: UInt64.self)?.map { Int(truncatingIfNeeded: $0) }
    case .bool: elements(as: UInt8.self, reinterpreting: true).map { $0 == 0 ? 0 : 1 }
    default: nil
    }
  }

  /// The bytes of the elements read as another type of the same width.
  package func elements<Element: BitwiseCopyable>(as type: Element.Type, reinterpreting: Bool) -> [Element] {
    let count = byteCount / MemoryLayout<Element>.stride
    return withExtendedLifetime(storage) {
      [Element](unsafeUninitializedCapacity: count) { elements, initialized in
        // As many bytes of the tensor as the elements take.
        UnsafeMutableRawBufferPointer(elements).copyMemory(
          from: UnsafeRawBufferPointer(start: base, count: count * MemoryLayout<Element>.stride))
        initialized = count
      }
    }
  }

  /// The same elements in a block of their own, 64-byte aligned, charged to `account`.
  package func copied(account: MemoryAccount? = nil) throws(TensorError) -> Tensor {
    if dataType == .string { return self }
    let copy = try Tensor(uninitialized: dataType, shape: shape, account: account)
    if storage.growth != nil, let rows = storage.deferred, rows.isPending {
      let target = UnsafeMutableRawBufferPointer(start: copy.storage.base, count: byteCount)
      try rows.copy(from: byteOffset, into: target)
      return copy
    }
    copy.storage.base.copyMemory(from: base, byteCount: byteCount)
    withExtendedLifetime(storage) {}
    return copy
  }

  /// True if the first element lies at a multiple of `alignment`.
  package func isAligned(to alignment: Int) -> Bool {
    UInt(bitPattern: storage.address + byteOffset) % UInt(alignment) == 0
  }
}
