// Tensors from and to nested arrays, spans, memory of the caller, and .npy files.

import ApusFormats
public import FoundationEssentials

// MARK: - Nested arrays

extension Tensor {
  /// A tensor of rank 2 from rows of equal length; nil if the lengths differ.
  public init?<Element: TensorElement>(_ rows: [[Element]]) {
    let width = rows.first?.count ?? 0
    guard rows.allSatisfy({ $0.count == width }) else { return nil }
    self.init(rows.flatMap { $0 }, shape: [rows.count, width])
  }

  /// A tensor of rank 3 from planes of equal shape; nil if the shapes differ.
  public init?<Element: TensorElement>(_ planes: [[[Element]]]) {
    let height = planes.first?.count ?? 0
    let width = planes.first?.first?.count ?? 0
    guard planes.allSatisfy({ $0.count == height && $0.allSatisfy { $0.count == width } }) else { return nil }
    self.init(planes.flatMap { $0.flatMap { $0 } }, shape: [planes.count, height, width])
  }

  /// The rows of a tensor of rank 2; nil if the rank or the element type is another.
  public func rows<Element: TensorElement>(as type: Element.Type = Element.self) -> [[Element]]? {
    guard rank == 2, let flat = elements(as: Element.self) else { return nil }
    let width = shape[1]
    return (0..<shape[0]).map { Array(flat[$0 * width..<($0 + 1) * width]) }
  }
}

// MARK: - Spans and memory of the caller

extension Tensor {
  /// A tensor with a copy of the elements of `span`. Traps if they are not as many as `shape` has, or there is no
  /// memory; `init(copying:validating:)` throws instead.
  public init<Element: TensorElement>(copying span: Span<Element>, shape: Shape) {
    precondition(span.count == shape.elementCount, "\(span.count) elements for a shape of \(shape)")
    self = span.withUnsafeBufferPointer { Tensor(Array($0), shape: shape) }
  }

  /// A tensor with a copy of the elements of `span`, which must be as many as `shape` has.
  public init<Element: TensorElement>(copying span: Span<Element>, validating shape: Shape) throws(TensorError) {
    guard shape.checkedElementCount == span.count else {
      throw TensorError(.mismatch, "\(span.count) elements were given for the shape \(shape)")
    }
    let tensor = try Tensor(uninitialized: Element.dataType, shape: shape)
    span.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { tensor.storage.base.copyMemory(from: source, byteCount: bytes.count) }
    }
    self = tensor
  }

  /// Calls `body` with the elements; nil if the element type is another. Copies only what is not aligned; nil too if
  /// there is no memory for that.
  public func withSpan<Element: TensorElement, Result, Failure: Error>(
    as type: Element.Type = Element.self, _ body: (Span<Element>) throws(Failure) -> Result
  ) throws(Failure) -> Result? {
    guard dataType == Element.dataType else { return nil }
    guard let tensor = isAligned(to: MemoryLayout<Element>.alignment) ? self : try? copied() else { return nil }
    return try tensor.withUnsafeBytes { (bytes: UnsafeRawBufferPointer) throws(Failure) -> Result in
      // Aligned by the line above, and initialised as every published tensor is.
      let elements = UnsafeBufferPointer(
        start: bytes.baseAddress?.assumingMemoryBound(to: Element.self), count: tensor.count)
      return try body(elements.span)
    }
  }

  /// Calls `body` with a tensor over the caller's elements, without a copy. The tensor may not be used after `body` has
  /// returned; outputs of a run may, since they share no memory with its inputs.
  public static func withBorrowed<Element: TensorElement, Result, Failure: Error>(
    _ span: Span<Element>, shape: Shape, _ body: (Tensor) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(span.count == shape.elementCount, "\(span.count) elements for a shape of \(shape)")
    return try span.withUnsafeBufferPointer { (buffer: UnsafeBufferPointer<Element>) throws(Failure) -> Result in
      guard let base = buffer.baseAddress else { return try body(Tensor(zeros: Element.dataType, shape: shape)) }
      // Tensors are never written through, so the missing `const` does no harm.
      let storage = TensorStorage(
        base: UnsafeMutableRawPointer(mutating: base), byteCount: buffer.count * MemoryLayout<Element>.stride,
        release: nil)
      return try body(Tensor(dataType: Element.dataType, shape: shape, storage: storage))
    }
  }

  /// A tensor over memory of the caller, without a copy. The memory must hold the elements, unchanged, until `release`
  /// is called, once, when no tensor refers to it any more. Traps if it does not hold them, or for strings;
  /// `init(noCopy:dataType:validating:release:)` throws instead.
  public init(
    noCopy buffer: UnsafeMutableRawBufferPointer, dataType: DataType, shape: Shape,
    release: @escaping @Sendable (UnsafeMutableRawPointer, Int) -> Void
  ) {
    let needed = dataType.byteCount(elements: shape.checkedElementCount ?? Int.max)
    precondition(
      dataType != .string && needed.map { $0 <= buffer.count } ?? false, "\(buffer.count) bytes for \(dataType)\(shape)"
    )
    guard let base = buffer.baseAddress else {
      self.init(zeros: dataType, shape: shape)
      return
    }
    self.init(
      dataType: dataType, shape: shape, storage: TensorStorage(base: base, byteCount: buffer.count, release: release))
  }
}

extension Tensor {
  /// A tensor over memory of the caller, as above. What is thrown is thrown before the memory is taken over: `release`
  /// is then never called.
  public init(
    noCopy buffer: UnsafeMutableRawBufferPointer, dataType: DataType, validating shape: Shape,
    release: @escaping @Sendable (UnsafeMutableRawPointer, Int) -> Void
  ) throws(TensorError) {
    guard dataType != .string, let count = shape.checkedElementCount, let needed = dataType.byteCount(elements: count),
      needed <= buffer.count
    else { throw TensorError(.mismatch, "\(buffer.count) bytes were given for \(dataType)\(shape)") }
    self.init(noCopy: buffer, dataType: dataType, shape: shape, release: release)
  }
}

// MARK: - Files

extension Tensor {
  /// Reads a .npy file. Throws `LoadError`.
  public init(npy url: URL, limits: LoadLimits = LoadLimits()) throws(LoadError) {
    self = try Npy.decode(FileBytes.open(path: url.path(percentEncoded: false), limits: limits), limits: limits)
  }

  /// Writes a .npy file, whole or not at all. Types that NumPy lacks are written as types that hold the same numbers.
  /// Throws `LoadError`.
  public func write(npy url: URL) throws(LoadError) {
    try Npy.write(self, to: url.path(percentEncoded: false))
  }
}
